//! Who answered for another site: a member's machine that has got the address to which another's name still points. It was refused and got nothing; its own member may wonder about the connections, and is told why.
//!
//! A machine is known by the certificate that it showed: if the same one has proved another site lately, it is that
//! site's.
//!
//! # Invariants
//! Bounded, whatever answers. It is told for a day, and forgotten at the end of the process.

use std::collections::VecDeque;
use std::time::Duration;

use dd_proto::name::SiteName;
use jiff::Timestamp;

use super::LastAttempt;

/// The newest sightings.
const KEPT: usize = 256;
const TOLD_FOR: Duration = Duration::from_secs(86_400);

/// A certificate that did not prove the site that was meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    pub at: Timestamp,
    /// Where it answered.
    pub address: String,
    /// Whose mail it would have been; for operators only.
    pub meant_for: SiteName,
    sha256: String,
}

#[derive(Debug, Default)]
pub(super) struct Strays(VecDeque<Stray>);

impl Strays {
    /// Who answered for `meant_for` and is not it. The newest sighting of one certificate for one site is kept.
    pub(super) fn refused(&mut self, meant_for: &SiteName, attempt: &LastAttempt) {
        let Some(peer) = &attempt.peer else {
            return;
        };
        self.0
            .retain(|it| it.sha256 != peer.sha256 || it.meant_for != *meant_for);
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(Stray {
            at: attempt.at,
            address: attempt.address.clone(),
            meant_for: meant_for.clone(),
            sha256: peer.sha256.clone(),
        });
    }

    /// For whom else the machine of `site` has answered: the one that these attempts have proved. Newest first.
    pub(super) fn of<'a>(
        &self,
        site: &SiteName,
        attempts: impl Iterator<Item = &'a LastAttempt>,
        now: Timestamp,
    ) -> Vec<Stray> {
        let proved = attempts.filter(|it| !matches!(it.outcome, "wrong-host" | "unreachable"));
        let own: Vec<&str> = proved
            .filter_map(|it| it.peer.as_ref())
            .map(|peer| peer.sha256.as_str())
            .collect();
        let told = self.0.iter().rev().filter(|it| {
            it.meant_for != *site
                && own.contains(&it.sha256.as_str())
                && now.duration_since(it.at).unsigned_abs() < TOLD_FOR
        });
        told.cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use dd_proto::report::PeerCertificate;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn attempt(second: i64, outcome: &'static str, sha256: &str) -> LastAttempt {
        LastAttempt {
            at: at(second),
            agent: "out1".parse().unwrap(),
            address: "192.0.2.7:25".to_owned(),
            outcome,
            detail: String::new(),
            reason: String::new(),
            peer: Some(Arc::new(PeerCertificate {
                subject: String::new(),
                issuer: String::new(),
                names: Vec::new(),
                sha256: sha256.to_owned(),
                not_before: at(0),
                not_after: at(0),
                chain_length: 1,
                spki_sha256: String::new(),
            })),
        }
    }

    #[test]
    fn only_the_site_whose_certificate_it_was_is_told_and_for_a_day() {
        let (a, b): (SiteName, SiteName) = ("a".parse().unwrap(), "b".parse().unwrap());
        let mut strays = Strays::default();
        strays.refused(&a, &attempt(100, "wrong-host", "of-b"));
        strays.refused(&a, &attempt(200, "wrong-host", "of-b"));
        let proved_b = [attempt(50, "relayed", "of-b")];
        let told = strays.of(&b, proved_b.iter(), at(300));
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!((told[0].at, &told[0].meant_for), (at(200), &a));
        assert_eq!(told[0].address, "192.0.2.7:25");
        // Not who has shown another certificate, or this one without proving anything by it.
        let others = [
            attempt(50, "relayed", "of-c"),
            attempt(50, "wrong-host", "of-b"),
        ];
        assert!(strays.of(&b, others.iter(), at(300)).is_empty());
        // Not the site that was meant, and not for ever.
        assert!(strays.of(&a, proved_b.iter(), at(300)).is_empty());
        assert!(strays.of(&b, proved_b.iter(), at(200 + 86_400)).is_empty());
    }

    #[test]
    fn whoever_answers_it_stays_small() {
        let a: SiteName = "a".parse().unwrap();
        let mut strays = Strays::default();
        for number in 0..1000 {
            strays.refused(&a, &attempt(1, "wrong-host", &number.to_string()));
        }
        assert_eq!(strays.0.len(), KEPT);
    }
}

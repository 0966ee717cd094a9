//! Certificates that end: the site's contact is written to 30, 14 and 3 days before, once each.
//!
//! Only where mail would stop: the proof rests on a certificate that has to be valid. It is the one that the site showed
//! last; where it has shown none yet, the newest that our own authority has issued to it.
//!
//! | the machine stops … | after the restart |
//! | --- | --- |
//! | before the mail is on record | it is due as before |
//! | with its id on record, before it is in the queue | written again under the same id |
//! | with it in the queue, before that is on record | found in the queue, and not written again |
//!
//! Between the last two stands one write of a few milliseconds: a mail that has left in that time is written twice.
//!
//! # Invariants
//! While the wall clock is in doubt nobody is told anything.

use std::sync::Arc;
use std::time::Duration;

use dd_proto::id::MessageId;
use dd_proto::site::Site;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;

use crate::dispatch::{Handle, Mail};
use crate::dsn::notice::{Language, Notice, What};
use crate::dsn::{Notifier, new_id};
use crate::registry::ends::{Known, Told};
use crate::registry::issued::Issued;
use crate::registry::shown::Shown;
use crate::registry::{ChangeError, Editor, Registry};
use crate::store::{Store, StoreError};

/// So many days before the end somebody is told, the last time first.
const DAYS: [u32; 3] = [3, 14, 30];
const LOOK: Duration = Duration::from_secs(3600);

/// Why nobody could be told.
#[derive(Debug, thiserror::Error)]
enum TellError {
    #[error(transparent)]
    Registry(#[from] ChangeError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the mail was not accepted: {0}")]
    NotAccepted(String),
}

/// A certificate that a site depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Its SHA-256.
    pub certificate: String,
    pub at: Timestamp,
}

/// The first that ends of those the site's hosts show; None where no mail depends on it.
pub fn end_of(site: &Site, shown: Option<&Shown>, issued: &[Arc<Issued>]) -> Option<End> {
    site.proof.certificate_name()?;
    let kind = site.proof.kind();
    let present = site.hosts.iter().filter_map(|host| {
        let host = host.to_string();
        let sight = shown?.sights.iter().find(|it| it.host == host)?;
        let certificate = sight.certificate.as_ref().filter(|_| sight.proof == kind)?;
        Some(End {
            certificate: certificate.sha256.clone(),
            at: certificate.not_after,
        })
    });
    // An agent that does not say when it ends says the beginning of time.
    let present = present.filter(|end| end.at > Timestamp::UNIX_EPOCH);
    present
        .min_by_key(|end| end.at)
        .or_else(|| end_of_issued(site, issued))
}

fn end_of_issued(site: &Site, issued: &[Arc<Issued>]) -> Option<End> {
    let certified = site.proof.certified()?;
    let of_site = issued.iter().filter(|it| {
        it.site == site.name
            && it.authority == certified.authority
            && it.name == certified.name
            && it.revoked.is_none()
    });
    let newest = of_site.max_by_key(|it| it.not_before)?;
    Some(End {
        certificate: newest.sha256_text(),
        at: newest.not_after,
    })
}

/// The threshold that was passed and not told; None where there is none, or the certificate has ended.
pub fn due(end: &End, told: Option<&Told>, now: Timestamp) -> Option<u32> {
    let left = end.at.duration_since(now);
    if left <= SignedDuration::ZERO {
        return None;
    }
    let days = DAYS
        .into_iter()
        .find(|days| left <= SignedDuration::from_hours(24 * i64::from(*days)))?;
    let was_told = told.is_some_and(|it| it.certificate == end.certificate && it.days <= days);
    (!was_told).then_some(days)
}

/// Who looks, and tells.
#[derive(Debug)]
pub struct Ends {
    pub registry: Registry,
    pub editor: Editor,
    pub store: Store,
    pub dispatch: Handle,
    pub notifier: Notifier,
    /// Rung when a certificate is new.
    pub learnt: Arc<Notify>,
}

impl Ends {
    /// Looks at the start, when something was learnt, and every hour, for ever; `now` reads the wall clock.
    pub async fn watch(self, now: fn() -> Timestamp) {
        let mut all_known = self.store.all_known();
        // Before that nobody can say which mails are in the queue.
        if all_known.wait_for(|known| *known).await.is_err() {
            return;
        }
        loop {
            self.look(now()).await;
            tokio::select! {
                () = self.learnt.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn look(&self, now: Timestamp) {
        if self.dispatch.clock_alarm().await.is_some() {
            tracing::info!("certificates are not looked at while the wall clock is in doubt");
            return;
        }
        let issued = self.registry.all_issued();
        for site in self.registry.sites() {
            if let Err(error) = self.look_at(&site, &issued, now).await {
                tracing::error!(site = %site.name, %error, "nobody could be told that a certificate ends");
            }
        }
        tracing::debug!("certificates were looked at");
    }

    async fn look_at(
        &self,
        site: &Site,
        issued: &[Arc<Issued>],
        now: Timestamp,
    ) -> Result<(), TellError> {
        let shown = self.registry.shown(&site.name);
        let told = self.registry.told_of_end(&site.name);
        let Some(end) = end_of(site, shown.as_deref(), issued) else {
            return Ok(());
        };
        if let Some(days) = due(&end, told.as_ref(), now) {
            return self.tell(site, &end, days, now).await;
        }
        match told.filter(|told| told.certificate == end.certificate) {
            Some(told) => self.pay(site, &end, told, now).await,
            None => Ok(()),
        }
    }

    async fn tell(
        &self,
        site: &Site,
        end: &End,
        days: u32,
        now: Timestamp,
    ) -> Result<(), TellError> {
        tracing::warn!(
            target: "site",
            site = %site.name,
            contact = site.contact.as_ref().map(ToString::to_string),
            sha256 = end.certificate,
            until = %end.at,
            days,
            "the site's certificate ends soon, and its mail waits then"
        );
        let told = Told {
            certificate: end.certificate.clone(),
            days,
            owed: site.contact.as_ref().map(|_| new_id(now, rand::random())),
        };
        match self.remember(site, told.clone()).await? {
            Known::Yes => self.pay(site, end, told, now).await,
            Known::Gone => Ok(()),
        }
    }

    /// Writes the mail that is on record, unless it is in the queue already.
    async fn pay(
        &self,
        site: &Site,
        end: &End,
        told: Told,
        now: Timestamp,
    ) -> Result<(), TellError> {
        let Some(id) = told.owed else { return Ok(()) };
        if self.store.find(id).await?.is_empty() {
            self.write(id, site, end, now).await?;
        }
        let paid = Told { owed: None, ..told };
        self.remember(site, paid).await?;
        Ok(())
    }

    async fn remember(&self, site: &Site, told: Told) -> Result<Known, ChangeError> {
        let name = site.name.clone();
        self.editor
            .change(move |change| async move { change.tell_of_end(&name, told).await })
            .await
    }

    async fn write(
        &self,
        id: MessageId,
        site: &Site,
        end: &End,
        now: Timestamp,
    ) -> Result<(), TellError> {
        let notice = Notice {
            language: Language::of(site),
            what: What::CertificateEnds { at: end.at },
        };
        // The contact may have gone since.
        let Some(submission) = self.notifier.notice_as(id, site, &notice, now) else {
            return Ok(());
        };
        let mail = Mail::of(&submission);
        let accepting = self.store.accept(submission).await;
        let waiting = accepting.map_err(|error| TellError::NotAccepted(error.to_string()))?;
        self.notifier.notice_written();
        self.dispatch.arrived(mail.arrived(waiting)).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn day(day: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + day * DAY).unwrap()
    }

    #[test]
    fn each_threshold_is_told_once_however_often_and_late_somebody_looks() {
        let end = End {
            certificate: "one".to_owned(),
            at: day(100),
        };
        let tells = |looks: &[i64]| {
            let (mut told, mut said): (Option<Told>, Vec<(i64, u32)>) = (None, Vec::new());
            for at in looks {
                if let Some(days) = due(&end, told.as_ref(), day(*at)) {
                    said.push((*at, days));
                    told = Some(Told {
                        certificate: end.certificate.clone(),
                        days,
                        owed: None,
                    });
                }
            }
            said
        };
        let every_day: Vec<i64> = (0..120).collect();
        assert_eq!(tells(&every_day), [(70, 30), (86, 14), (97, 3)]);
        // The clock goes back and forth.
        assert_eq!(tells(&[70, 69, 70, 86, 71, 86]), [(70, 30), (86, 14)]);
        assert_eq!(tells(&[99, 99]), [(99, 3)]);
        assert_eq!(tells(&[100, 101]), []);
        assert_eq!(tells(&[69]), []);
    }

    #[test]
    fn nobody_is_told_of_an_end_that_there_is_not() {
        let end = End {
            certificate: "one".to_owned(),
            at: Timestamp::MAX,
        };
        assert_eq!(due(&end, None, day(0)), None);
    }

    #[test]
    fn a_new_certificate_is_told_of_anew() {
        let end = End {
            certificate: "two".to_owned(),
            at: day(10),
        };
        let told = Told {
            certificate: "one".to_owned(),
            days: 3,
            owed: None,
        };
        assert_eq!(due(&end, Some(&told), day(0)), Some(14));
    }

    #[test]
    fn the_certificate_that_is_shown_counts_before_one_that_was_issued() {
        use crate::registry::shown::Sight;
        use dd_proto::report::{Observed, PeerCertificate};
        use dd_proto::site::{Certified, Proof};
        let mut site = crate::inflow::closed(&"home.example".parse().unwrap());
        let (authority, name) = ("members".parse().unwrap(), "home.example".parse().unwrap());
        site.proof = Proof::Certificate(Certified { authority, name });
        let issued = |name: &str, sha256, days| {
            Arc::new(Issued {
                serial: vec![1],
                site: site.name.clone(),
                authority: "members".parse().unwrap(),
                signed_by: [0; 32],
                name: name.parse().unwrap(),
                not_before: day(days),
                not_after: day(days + 365),
                revoked: None,
                sha256,
                spki_sha256: [0; 32],
                certificate: bytes::Bytes::new(),
            })
        };
        let all = [
            issued("home.example", [1; 32], 0),
            issued("home.example", [2; 32], 1),
            issued("other.example", [3; 32], 2),
        ];
        let sight = |host: &str, proof: &str, print: &str, until| {
            let observed = Observed {
                host: host.to_owned(),
                proof: proof.to_owned(),
                certificate: Some(PeerCertificate {
                    subject: String::new(),
                    issuer: String::new(),
                    names: Vec::new(),
                    sha256: print.to_owned(),
                    not_before: day(0),
                    not_after: until,
                    chain_length: 1,
                    spki_sha256: String::new(),
                }),
                ..Observed::default()
            };
            Sight::new(&"out1".parse().unwrap(), &observed, day(0))
        };
        let host = site.hosts[0].to_string();
        let shown = |sights| Shown {
            tls: crate::registry::shown::TlsBefore::Shown,
            sights,
            losses: Default::default(),
        };
        let ends = |site: &Site, sights| {
            let end = end_of(site, Some(&shown(sights)), &all);
            end.map(|end| end.certificate)
        };
        let newest = Some("02".repeat(32));
        let now = sight(&host, "certificate", "now", day(50));
        let before = sight(&host, "certificate", "before", day(40));
        assert_eq!(ends(&site, vec![now, before]), Some("now".to_owned()));
        // What another host or another proof showed, or an agent that says no end.
        for other in [
            sight("gone:25", "certificate", "x", day(9)),
            sight(&host, "port", "x", day(9)),
            sight(&host, "certificate", "x", Timestamp::UNIX_EPOCH),
        ] {
            assert_eq!(ends(&site, vec![other]), newest);
        }
        site.proof = Proof::Port;
        assert_eq!(ends(&site, vec![sight(&host, "port", "x", day(9))]), None);
    }
}

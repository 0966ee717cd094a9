//! What is known of names: one truth, in which the answer to the later question wins.
//!
//! Pure: `now` comes in.
//!
//! # Invariants
//! - Nothing is served that is older than its TTL allows.
//! - An answer never replaces one that was asked for later, nor what was forgotten after it was asked for.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use dd_proto::domain::Domain;

use super::servers::Family;

/// At most so many names are kept. Beyond that those that count no longer are dropped, or else all.
const MAX_NAMES: usize = 4096;
/// No question is under way for longer, so what was forgotten before needs no more remembering.
const LONGEST_QUESTION: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Cache {
    names: HashMap<Domain, Entry>,
}

#[derive(Debug, Default)]
struct Entry {
    forgotten: Option<Instant>,
    families: [Option<Known>; 2],
}

/// One answer; without addresses it says that there are none.
#[derive(Debug)]
struct Known {
    addresses: Vec<IpAddr>,
    asked: Instant,
    until: Instant,
}

impl Cache {
    pub(super) fn known(&self, name: &Domain, family: Family, now: Instant) -> Option<Vec<IpAddr>> {
        let known = self.names.get(name)?.families[family as usize].as_ref()?;
        (known.until > now).then(|| known.addresses.clone())
    }

    /// `asked` is when the question began, `now` when the answer came.
    pub(super) fn learn(
        &mut self,
        name: &Domain,
        family: Family,
        (addresses, ttl): (&[IpAddr], Duration),
        asked: Instant,
        now: Instant,
    ) {
        self.make_room(now);
        let entry = self.names.entry(name.clone()).or_default();
        let place = &mut entry.families[family as usize];
        let newer = |than: Instant| asked >= than;
        if entry.forgotten.is_none_or(newer) && place.as_ref().is_none_or(|it| newer(it.asked)) {
            *place = Some(Known {
                addresses: addresses.to_vec(),
                asked,
                until: now + ttl,
            });
        }
    }

    /// Whatever was asked for until now counts no longer.
    pub(super) fn forget(&mut self, name: &Domain, now: Instant) {
        self.make_room(now);
        let entry = self.names.entry(name.clone()).or_default();
        entry.forgotten = Some(now);
        entry.families = [None, None];
    }

    fn make_room(&mut self, now: Instant) {
        if self.names.len() < MAX_NAMES {
            return;
        }
        self.names.retain(|_, entry| {
            let known = entry.families.iter().flatten().any(|it| it.until > now);
            let forgotten = entry.forgotten.map(|at| at + LONGEST_QUESTION);
            known || forgotten.is_some_and(|until| until > now)
        });
        if self.names.len() >= MAX_NAMES {
            self.names.clear();
        }
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "a test needs some instant to begin with"
)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    fn ip(last: u8) -> Vec<IpAddr> {
        vec![IpAddr::from([192, 0, 2, last])]
    }

    #[test]
    fn the_answer_to_the_later_question_wins_whichever_comes_first() {
        let (name, now): (Domain, _) = ("home.example".parse().unwrap(), Instant::now());
        let later = now + Duration::from_secs(1);
        let mut cache = Cache::default();
        cache.learn(&name, Family::V4, (&ip(2), TTL), later, later);
        cache.learn(&name, Family::V4, (&ip(1), TTL), now, later);
        assert_eq!(cache.known(&name, Family::V4, later), Some(ip(2)));
        assert_eq!(cache.known(&name, Family::V6, later), None);
        // That there is none any more is news as well.
        let last = later + Duration::from_secs(1);
        cache.learn(&name, Family::V4, (&[], TTL), last, last);
        assert_eq!(cache.known(&name, Family::V4, last), Some(vec![]));
        assert_eq!(cache.known(&name, Family::V4, last + TTL), None);
    }

    #[test]
    fn what_was_asked_before_it_was_forgotten_counts_no_longer() {
        let (name, now): (Domain, _) = ("home.example".parse().unwrap(), Instant::now());
        let later = now + Duration::from_secs(1);
        let mut cache = Cache::default();
        cache.learn(&name, Family::V4, (&ip(1), TTL), now, now);
        cache.forget(&name, later);
        assert_eq!(cache.known(&name, Family::V4, later), None);
        cache.learn(&name, Family::V4, (&ip(1), TTL), now, later);
        assert_eq!(cache.known(&name, Family::V4, later), None);
        cache.learn(&name, Family::V4, (&ip(2), TTL), later, later);
        assert_eq!(cache.known(&name, Family::V4, later), Some(ip(2)));
    }

    #[test]
    fn it_is_bounded() {
        let (now, mut cache) = (Instant::now(), Cache::default());
        for number in 0..3 * MAX_NAMES {
            let name = format!("h{number}.example").parse().unwrap();
            let later = now + Duration::from_millis(number as u64);
            cache.learn(&name, Family::V6, (&ip(1), TTL), later, later);
            assert_eq!(cache.known(&name, Family::V6, later), Some(ip(1)));
        }
        assert!(cache.names.len() <= MAX_NAMES);
    }
}

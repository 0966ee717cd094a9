//! What a site lost of commands that travelled together: part of the record of what it [showed](super::shown).
//!
//! An agent that finds it out loses seconds for it. So it is told to every agent with each assignment, for as long as a
//! server is likely to stay as it is; then it is tried again.

use dd_proto::name::SiteName;
use jiff::{SignedDuration, Timestamp};

use super::{Change, ChangeError, Registry};

/// How long a loss is taken for the server's way.
const LASTS: SignedDuration = SignedDuration::from_hours(24 * 30);
/// A loss that is seen again is written down again after that long.
const COARSE: SignedDuration = SignedDuration::from_hours(24);

/// When a site last lost what travelled together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Losses {
    /// Commands of one group, although it offers PIPELINING.
    pub together: Option<Timestamp>,
    /// What stood behind a final dot.
    pub behind_dot: Option<Timestamp>,
}

impl Losses {
    /// As an agent tells it.
    pub fn told(together: bool, behind_dot: bool, now: Timestamp) -> Self {
        Self {
            together: together.then_some(now),
            behind_dot: behind_dot.then_some(now),
        }
    }

    /// What is to be remembered after these; None: nothing new.
    pub fn and(self, seen: Self) -> Option<Self> {
        let later = |known: Option<Timestamp>, seen: Option<Timestamp>| match (known, seen) {
            (Some(known), Some(seen)) if seen.duration_since(known) < COARSE => Some(known),
            (known, seen) => seen.or(known),
        };
        let both = Self {
            together: later(self.together, seen.together),
            behind_dot: later(self.behind_dot, seen.behind_dot),
        };
        (both != self).then_some(both)
    }

    /// Whether the site is asked one command at a time.
    pub fn one_at_a_time(self, now: Timestamp) -> bool {
        is_in_force(self.together, now)
    }

    /// Whether nothing is sent behind a dot.
    pub fn nothing_behind_dot(self, now: Timestamp) -> bool {
        is_in_force(self.behind_dot, now)
    }
}

fn is_in_force(last: Option<Timestamp>, now: Timestamp) -> bool {
    last.is_some_and(|last| now.duration_since(last) < LASTS)
}

impl Registry {
    /// What a site lost.
    pub fn losses(&self, site: &SiteName) -> Losses {
        self.shown(site)
            .map(|shown| shown.losses)
            .unwrap_or_default()
    }
}

impl Change {
    /// Remembers what a site lost. One that has shown nothing yet loses nothing.
    ///
    /// # Errors
    /// It could not be made durable.
    pub async fn lost(&self, site: &SiteName, seen: Losses) -> Result<(), ChangeError> {
        let known = self.registry.shown(site);
        if let (Some(site), Some(shown)) = (self.registry.site(site), known)
            && let Some(losses) = shown.losses.and(seen)
        {
            let shown = super::Shown {
                losses,
                ..(*shown).clone()
            };
            self.put_shown(&site, shown).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_news_once_a_day_and_in_force_for_thirty() {
        let at = |hours: i64| Timestamp::from_second(1_800_000_000 + hours * 3600).unwrap();
        let none = Losses::default();
        assert_eq!(none.and(Losses::told(false, false, at(0))), None);
        let first = none.and(Losses::told(false, true, at(0))).unwrap();
        assert_eq!(first.and(Losses::told(false, true, at(23))), None);
        let second = first.and(Losses::told(true, true, at(24))).unwrap();
        assert_eq!(
            (second.together, second.behind_dot),
            (Some(at(24)), Some(at(24)))
        );
        assert!(second.one_at_a_time(at(24 * 31 - 1)) && !second.one_at_a_time(at(24 * 31)));
        assert!(!first.one_at_a_time(at(1)) && first.nothing_behind_dot(at(1)));
    }
}

//! The space that stays free: below it no mail is taken in.
//!
//! # Invariants
//! - A disk with room is looked at once in [`TRUSTED`], whatever comes in: a look for each message was 1.7 % of the
//!   controller's processor time (perf, at 2,500 a second). One without room is looked at each time, so mail is taken in
//!   again as soon as there is some.
//! - Nothing rests on it: what finds no room after all is refused when it is written.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::disk::Room;
use crate::intake::policy::Space;
use crate::store::MinFree;

/// Below this much free space intake stops, whatever the percentage.
const LEAST: u64 = 64 << 20;
/// For how long a look that found room counts: at 640 MB/s [`LEAST`] is filled in that time.
const TRUSTED: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Free {
    wanted: MinFree,
    /// Until then the last look counts; milliseconds of the monotonic clock.
    trusted_until: AtomicU64,
}

impl Free {
    pub(super) fn new(wanted: MinFree) -> Self {
        Self {
            wanted,
            trusted_until: AtomicU64::new(0),
        }
    }

    /// Of so many bytes, those that stay free.
    pub(super) fn least_of(&self, total: u64) -> u64 {
        let wanted = match self.wanted {
            MinFree::Bytes(bytes) => bytes,
            MinFree::Percent(percent) => total / 100 * u64::from(percent),
        };
        wanted.max(LEAST)
    }

    /// Whether more is free, `now` by the monotonic clock; `look`: at the disk, where nobody knows it means no.
    pub(super) fn is_more(&self, now: Duration, look: impl FnOnce() -> Option<Room>) -> bool {
        if millis(now) < self.trusted_until.load(Ordering::Relaxed) {
            return true;
        }
        let more = look().is_some_and(|room| room.free >= self.least_of(room.total));
        if more {
            let until = millis(now.saturating_add(TRUSTED));
            self.trusted_until.store(until, Ordering::Relaxed);
        }
        more
    }
}

/// How long the log says nothing more of it after a line: a disk on the edge is full and not full by turns.
const QUIET: Duration = Duration::from_secs(60);

/// Whether there is room, as the log has it.
#[derive(Debug, Default)]
pub(super) struct Told {
    short: AtomicBool,
    /// Milliseconds of the monotonic clock.
    quiet_until: AtomicU64,
}

impl Told {
    /// Whether it is worth a line.
    pub(super) fn is_news(&self, space: Space, now: Duration) -> bool {
        let short = space == Space::Short;
        if self.short.load(Ordering::Relaxed) == short
            || millis(now) < self.quiet_until.load(Ordering::Relaxed)
        {
            return false;
        }
        self.quiet_until
            .store(millis(now + QUIET), Ordering::Relaxed);
        // Of several that find it at once, one tells it.
        self.short.swap(short, Ordering::Relaxed) != short
    }
}

fn millis(at: Duration) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn what_is_wanted_stays_free_and_never_less_than_the_least() {
        for (wanted, total, least) in [
            (MinFree::Bytes(0), 100 * GIB, LEAST),
            (MinFree::Bytes(3 * GIB), 100 * GIB, 3 * GIB),
            (MinFree::Percent(5), 100 * GIB, 5 * GIB),
            (MinFree::Percent(5), GIB, LEAST),
        ] {
            let found = Free::new(wanted).least_of(total);
            assert!(found.abs_diff(least) < 100, "{wanted:?}: {found}");
        }
    }

    #[test]
    fn that_room_is_short_and_that_it_is_back_is_told_once() {
        let told = Told::default();
        for (seconds, space, news) in [
            (100, Space::Enough, false),
            (101, Space::Short, true),
            (101, Space::Short, false),
            (102, Space::Enough, false),
            (103, Space::Short, false),
            (170, Space::Short, false),
            (171, Space::Enough, true),
            (172, Space::Enough, false),
            (172, Space::Short, false),
            (231, Space::Short, true),
        ] {
            let now = Duration::from_secs(seconds);
            assert_eq!(told.is_news(space, now), news, "{seconds}: {space:?}");
        }
    }

    #[test]
    fn room_is_believed_for_a_moment_and_the_lack_of_it_never() {
        let free = Free::new(MinFree::Bytes(GIB));
        let looks = Cell::new(0);
        let disk = |free| {
            looks.set(looks.get() + 1);
            free
        };
        let room = |free| {
            Some(Room {
                free,
                total: 9 * GIB,
            })
        };
        // At so many milliseconds, with such a disk: whether there is more, and how often it was looked so far.
        for (at, found, more, so_far) in [
            (0, None, false, 1),
            (0, room(GIB - 1), false, 2),
            (1, room(GIB), true, 3),
            (100, room(0), true, 3),
            (101, room(0), false, 4),
            (101, room(2 * GIB), true, 5),
            (200, None, true, 5),
            (201, None, false, 6),
        ] {
            let now = Duration::from_millis(at);
            assert_eq!(free.is_more(now, || disk(found)), more, "{at} ms");
            assert_eq!(looks.get(), so_far, "{at} ms");
        }
    }
}

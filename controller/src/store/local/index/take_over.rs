//! What a start takes over from a shelf: every entry is read once, to be counted, and the timers.
//!
//! The entries are read in two parts side by side, for reading them is what a start takes longest for, and what sled does
//! for it is most of that. Beside them the other table is read, which says where a delivery stands: an entry that it does
//! not name could be handed over and never settled, and would go out again after each settlement.
//!
//! # Invariants
//! - Each key lies in one part, wherever they meet. That they are about equal is for speed alone.
//! - Nothing is counted before both parts have been read.
//!
//! # Not here
//! Whether the shelf is trusted ([`super::super::learn`]).

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::{Builder, ScopedJoinHandle};

use dd_proto::name::SiteName;

use super::counts::Counts;
use super::shelf::{Shelf, Table};
use super::{Index, key, look};
use crate::store::StoreError;

/// Entries after which it is said how far it is, and looked whether to go on.
const STEP: u64 = 4096;
/// Bytes of a message's id.
const MESSAGE: usize = 16;

/// What a shelf holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) entries: u64,
    /// Whether the table of ids says where each of them stands, and nothing else.
    pub(crate) tables: Tables,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tables {
    Agree,
    Differ,
}

/// When sites were to be tried next, in milliseconds since 1970 and in the order of their keys.
pub(crate) type StoredTimers = Vec<(SiteName, u64)>;

impl Index {
    /// The timers on the shelf.
    ///
    /// # Errors
    /// The shelf's.
    pub(crate) fn stored_timers(&self) -> Result<StoredTimers, StoreError> {
        let mut timers = Vec::new();
        if let Some(shelf) = self.shelf() {
            shelf.every(Table::Timers, &[], None, &mut |site, value| {
                let ms = value.try_into().ok().map(u64::from_be_bytes);
                timers.extend(key::site(site).zip(ms));
                ControlFlow::Continue(())
            })?;
        }
        Ok(timers)
    }

    /// Reads every entry on the shelf once, and fills the counts. `go_on` hears how many have been read, and says
    /// whether to go on.
    ///
    /// # Errors
    /// The shelf's; an entry that does not parse.
    pub(crate) fn count_all(
        &self,
        timers: &StoredTimers,
        go_on: impl Fn(u64) -> bool,
    ) -> Result<Counted, StoreError> {
        let nothing = Counted {
            entries: 0,
            tables: Tables::Agree,
        };
        let Some(shelf) = self.shelf() else {
            return Ok(nothing);
        };
        let middle = middle(timers);
        let parts = [(&[][..], Some(&middle[..])), (&middle[..], None)];
        let (stop, (tell, told)) = (AtomicBool::new(false), channel());
        let (entries, counted, ids) = std::thread::scope(|scope| {
            let ids = Builder::new().name("index ids".to_owned());
            let ids = ids.spawn_scoped(scope, || ids_on(&*shelf, &stop));
            let parts = parts.map(|(from, end)| {
                let part = Part {
                    shelf: &*shelf,
                    from,
                    end,
                    counts: Counts::new(self.own.sequence),
                    places: Places::default(),
                    stop: &stop,
                    tell: tell.clone(),
                };
                let thread = Builder::new().name("index part".to_owned());
                thread.spawn_scoped(scope, || part.count())
            });
            drop(tell);
            let mut entries = 0;
            for more in told {
                entries += more;
                if !go_on(entries) {
                    stop.store(true, Ordering::Relaxed);
                }
            }
            (
                entries,
                parts.map(|part| came_of(part.map_err(StoreError::Disk)?)),
                ids.map_err(StoreError::Disk).and_then(came_of),
            )
        });
        let mut places = Places::default();
        let [first, second] = counted;
        for (counts, of_part) in [first?, second?] {
            self.counts().add(counts);
            places.add_all(of_part);
        }
        let tables = match ids? == places {
            true => Tables::Agree,
            false => Tables::Differ,
        };
        Ok(Counted { entries, tables })
    }

    /// Takes over the timers of sites with mail; those set since the start are newer.
    pub(crate) fn take_timers(&self, stored: StoredTimers) {
        for (site, ms) in stored {
            match self.count_of(&site).messages {
                0 => self.overlay().set_timer(site, None),
                _ => {
                    self.timers().entry(site).or_insert(ms);
                }
            }
        }
        self.has_timers.store(true, Ordering::Release);
    }
}

/// A key in the middle of the queue, as far as that is known without reading it: the middle one of the sites that are to
/// be tried later.
fn middle(timers: &StoredTimers) -> Vec<u8> {
    let middle = timers.get(timers.len() / 2);
    middle
        .map(|(site, _)| key::site_prefix(site))
        .unwrap_or_default()
}

/// Where each of many deliveries stands, in no order: how many there are, and a sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Places {
    number: u64,
    sum: u64,
}

impl Places {
    fn add(&mut self, message: &[u8], site: &[u8], tail: &[u8]) {
        let mut hasher = DefaultHasher::new();
        (message, site, tail).hash(&mut hasher);
        self.number += 1;
        self.sum = self.sum.wrapping_add(hasher.finish());
    }

    fn add_all(&mut self, others: Self) {
        self.number += others.number;
        self.sum = self.sum.wrapping_add(others.sum);
    }
}

/// What the table of ids says.
fn ids_on(shelf: &dyn Shelf, stop: &AtomicBool) -> Result<Places, StoreError> {
    let mut places = Places::default();
    shelf.every(Table::Ids, &[], None, &mut |id, tail| {
        let (message, site) = id.split_at(id.len().min(MESSAGE));
        places.add(message, site, tail);
        match stop.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })?;
    Ok(places)
}

fn came_of<T>(part: ScopedJoinHandle<'_, Result<T, StoreError>>) -> Result<T, StoreError> {
    let panicked = |_| StoreError::Index("a thread that read it panicked".to_owned());
    part.join().map_err(panicked)?
}

/// Reads its keys, and counts what they stand for.
struct Part<'a> {
    shelf: &'a dyn Shelf,
    from: &'a [u8],
    end: Option<&'a [u8]>,
    counts: Counts,
    places: Places,
    stop: &'a AtomicBool,
    tell: Sender<u64>,
}

impl Part<'_> {
    fn count(mut self) -> Result<(Counts, Places), StoreError> {
        let (mut entries, mut site) = (0, None);
        let mut failed = None;
        let (shelf, from, end) = (self.shelf, self.from, self.end);
        shelf.every(Table::Queue, from, end, &mut |key, value| {
            if let Err(error) = self.add(key, value, &mut site) {
                failed = Some(error);
                return ControlFlow::Break(());
            }
            entries += 1;
            if entries == STEP {
                self.has_read(std::mem::take(&mut entries));
            }
            match self.stop.load(Ordering::Relaxed) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        self.has_read(entries);
        failed.map_or(Ok((self.counts, self.places)), Err)
    }

    /// `site`: that of the key before, which is mostly that of the next.
    fn add(
        &mut self,
        key: &[u8],
        value: &[u8],
        site: &mut Option<SiteName>,
    ) -> Result<(), StoreError> {
        let entry = look::decode(value)?;
        let unreadable = || StoreError::Index("a key does not parse".to_owned());
        let (of, position) = key::split_queue(key).ok_or_else(unreadable)?;
        let site = match site.take() {
            Some(before) if before.as_str().as_bytes() == of => site.insert(before),
            _ => site.insert(key::site(of).ok_or_else(unreadable)?),
        };
        self.places.add(&entry.id, of, &key::tail(position));
        self.counts.opened(site, position, &entry);
        Ok(())
    }

    /// Nobody listens any more where the other part has failed.
    fn has_read(&self, entries: u64) {
        let _ = self.tell.send(entries);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::in_memory::InMemory;
    use super::super::shelf::Shelves as _;
    use super::super::{Own, body};
    use super::*;
    use crate::store::Count;
    use crate::store::local::log::{Place, Written};

    const SITES: [&str; 5] = ["a", "b", "b.c", "d", "e"];
    const EACH: u64 = 3;

    fn index(sequence: u64, shelf: Arc<dyn Shelf>) -> Index {
        let segment = sequence;
        let index = Index::new(Own { sequence, segment }, sequence);
        index.stand_on(Some(shelf));
        index
    }

    /// A shelf with mail for every site, as an earlier start has left it.
    fn left() -> InMemory {
        let shelves = InMemory::default();
        let before = index(1, shelves.create().unwrap());
        before.knows_now().unwrap();
        for sequence in 1..=EACH {
            let mut id = vec![0; 16];
            id[15] = u8::try_from(sequence).unwrap();
            let to = |site: &&str| body::StoredDelivery {
                site: (*site).to_owned(),
                recipients: vec![0],
            };
            let accepted = body::Accepted {
                id,
                arrived_ms: sequence,
                bytes: 10,
                deliveries: SITES.iter().map(to).collect(),
                ..body::Accepted::default()
            };
            let place = Place {
                segment: sequence,
                offset: 64,
                len: 50,
            };
            before.accepted(&accepted, Written { sequence, place }, 1);
        }
        while before.flush_pending().unwrap() > 0 {}
        shelves
    }

    /// The parts meet at its site.
    fn set_timer(shelves: &InMemory, site: &str) {
        let change = (site.as_bytes().to_vec(), Some(7_u64.to_be_bytes().to_vec()));
        let shelf = shelves.open().unwrap();
        shelf.apply(Table::Timers, vec![change]).unwrap();
    }

    #[test]
    fn everything_is_counted_once_wherever_the_parts_meet() {
        for middle in [
            None,
            Some("0"),
            Some("b"),
            Some("b.c"),
            Some("c"),
            Some("z"),
        ] {
            let shelves = left();
            if let Some(site) = middle {
                set_timer(&shelves, site);
            }
            let after = index(100, shelves.open().unwrap());
            let all = EACH * SITES.len() as u64;
            let timers = after.stored_timers().unwrap();
            let counted = after.count_all(&timers, |_| true).unwrap();
            let expected = Counted {
                entries: all,
                tables: Tables::Agree,
            };
            assert_eq!(counted, expected, "{middle:?}");
            let count = |messages| Count {
                messages,
                bytes: 10 * messages,
            };
            assert_eq!(after.total(), count(all), "{middle:?}");
            for site in SITES {
                assert_eq!(after.count_of(&site.parse().unwrap()), count(EACH));
            }
            assert_eq!(after.live_in(2).deliveries, SITES.len() as u64);
            assert_eq!(after.oldest_ms(), Some(0), "to four seconds");
        }
    }

    #[test]
    fn a_table_of_ids_that_says_something_else_is_seen() {
        let id = |message: u8| [&[0; 15][..], &[message], b"b"].concat();
        let tail = |sequence| key::tail(crate::store::Position::made_up(0, sequence)).to_vec();
        for (change, tables) in [
            ((id(2), Some(tail(2))), Tables::Agree),
            ((id(2), None), Tables::Differ),
            ((id(2), Some(tail(3))), Tables::Differ),
            ((id(9), Some(tail(2))), Tables::Differ),
            ((Vec::new(), Some(Vec::new())), Tables::Differ),
        ] {
            let shelves = left();
            let shelf = shelves.open().unwrap();
            shelf.apply(Table::Ids, vec![change.clone()]).unwrap();
            let after = index(100, shelves.open().unwrap());
            let counted = after.count_all(&Vec::new(), |_| true).unwrap();
            assert_eq!(counted.tables, tables, "{change:?}");
        }
    }

    #[test]
    fn nothing_is_counted_of_a_shelf_with_an_entry_that_does_not_parse() {
        for site in [SITES[0], SITES[4]] {
            let shelves = left();
            set_timer(&shelves, "c");
            let key = key::queue(
                &site.parse().unwrap(),
                crate::store::Position::made_up(0, 1),
            );
            let shelf = shelves.open().unwrap();
            shelf
                .apply(Table::Queue, vec![(key, Some(vec![0xff]))])
                .unwrap();
            let after = index(100, shelves.open().unwrap());
            let timers = after.stored_timers().unwrap();
            assert_eq!(timers.len(), 1);
            assert!(matches!(
                after.count_all(&timers, |_| true),
                Err(StoreError::Index(_))
            ));
            assert_eq!(after.total(), Count::default());
        }
    }
}

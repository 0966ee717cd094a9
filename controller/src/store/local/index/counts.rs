//! How much is open: by site, and by the segment in which its newest record lies.
//!
//! # Invariants
//! What is counted of earlier starts can be forgotten and counted again without what this start has accepted.

use std::collections::{BTreeMap, HashMap};

use dd_proto::name::SiteName;

use super::entry::Entry;
use crate::store::{Count, Position};

/// What lives in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Live {
    /// Open deliveries whose newest record lies there.
    pub(crate) deliveries: u64,
    /// Of their records; one that others share counts in part, so what is left of a message counts for little.
    pub(crate) bytes: u64,
}

/// What is open of one site.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    count: Count,
    /// When the newest has come, of all that were open since something was.
    newest_ms: u64,
}

/// The counters, in memory only: a start fills them by its scan or rebuild.
#[derive(Debug)]
pub(super) struct Counts {
    own_from: u64,
    own: HashMap<SiteName, Tally>,
    earlier: HashMap<SiteName, Tally>,
    /// By segment.
    live: BTreeMap<u64, Live>,
    live_in_all: Live,
    /// How many came when, for the oldest: as coarse as that may be told, so that it stays small.
    own_times: BTreeMap<u64, u64>,
    earlier_times: BTreeMap<u64, u64>,
}

/// Times of arrival are told apart by four seconds: bits of a millisecond count that do not matter.
const COARSE: u32 = 12;

impl Counts {
    pub(super) fn new(own_from: u64) -> Self {
        Self {
            own_from,
            own: HashMap::new(),
            earlier: HashMap::new(),
            live: BTreeMap::new(),
            live_in_all: Live::default(),
            own_times: BTreeMap::new(),
            earlier_times: BTreeMap::new(),
        }
    }

    /// Forgets all mail of earlier starts; it lies in segments before this one.
    pub(super) fn forget_earlier(&mut self, own_segment: u64) {
        self.earlier = HashMap::new();
        self.earlier_times = BTreeMap::new();
        self.live = self.live.split_off(&own_segment);
        self.live_in_all = self.live.values().fold(Live::default(), |all, live| Live {
            deliveries: all.deliveries + live.deliveries,
            bytes: all.bytes + live.bytes,
        });
    }

    pub(super) fn opened(&mut self, site: &SiteName, position: Position, entry: &Entry) {
        let tally = self.of(position).entry(site.clone()).or_default();
        tally.newest_ms = tally.newest_ms.max(entry.arrived_ms);
        tally.count.messages += 1;
        tally.count.bytes += entry.bytes;
        let times = self.times_of(position);
        *times.entry(entry.arrived_ms >> COARSE).or_default() += 1;
        let in_segment = self.live.entry(entry.segment).or_default();
        for live in [in_segment, &mut self.live_in_all] {
            live.deliveries += 1;
            live.bytes += entry.share();
        }
    }

    /// Adds what was counted apart.
    pub(super) fn add(&mut self, other: Self) {
        for (into, from) in [
            (&mut self.own, other.own),
            (&mut self.earlier, other.earlier),
        ] {
            for (site, more) in from {
                let tally = into.entry(site).or_default();
                tally.newest_ms = tally.newest_ms.max(more.newest_ms);
                tally.count = sum(tally.count, more.count);
            }
        }
        for (into, from) in [
            (&mut self.own_times, other.own_times),
            (&mut self.earlier_times, other.earlier_times),
        ] {
            for (time, more) in from {
                *into.entry(time).or_default() += more;
            }
        }
        for (segment, more) in other.live {
            let in_segment = self.live.entry(segment).or_default();
            for live in [in_segment, &mut self.live_in_all] {
                live.deliveries += more.deliveries;
                live.bytes += more.bytes;
            }
        }
    }

    pub(super) fn closed(&mut self, site: &SiteName, position: Position, entry: &Entry) {
        let sites = self.of(position);
        if let Some(Tally { count, .. }) = sites.get_mut(site) {
            count.messages = count.messages.saturating_sub(1);
            count.bytes = count.bytes.saturating_sub(entry.bytes);
            if count.messages == 0 {
                sites.remove(site);
            }
        }
        let (times, time) = (self.times_of(position), entry.arrived_ms >> COARSE);
        if let Some(count) = times.get_mut(&time) {
            *count -= 1;
            if *count == 0 {
                times.remove(&time);
            }
        }
        if let Some(live) = self.live.get_mut(&entry.segment) {
            let all = &mut self.live_in_all;
            let gone = match live.deliveries {
                // What is left of the bytes was rounded.
                1 => live.bytes,
                _ => entry.share().min(live.bytes),
            };
            all.deliveries = all.deliveries.saturating_sub(1);
            all.bytes = all.bytes.saturating_sub(gone);
            live.deliveries = live.deliveries.saturating_sub(1);
            live.bytes -= gone;
            if live.deliveries == 0 {
                self.live.remove(&entry.segment);
            }
        }
    }

    fn of(&mut self, position: Position) -> &mut HashMap<SiteName, Tally> {
        match position.sequence >= self.own_from {
            true => &mut self.own,
            false => &mut self.earlier,
        }
    }

    fn times_of(&mut self, position: Position) -> &mut BTreeMap<u64, u64> {
        match position.sequence >= self.own_from {
            true => &mut self.own_times,
            false => &mut self.earlier_times,
        }
    }

    /// When the oldest that is open has come: milliseconds since 1970, to four seconds.
    pub(super) fn oldest_ms(&self) -> Option<u64> {
        let times = [&self.own_times, &self.earlier_times];
        let first = times.iter().filter_map(|times| times.first_key_value());
        first.map(|(time, _)| time << COARSE).min()
    }

    pub(super) fn site(&self, site: &SiteName) -> Count {
        let of = |sites: &HashMap<SiteName, Tally>| sites.get(site).copied().unwrap_or_default();
        sum(of(&self.own).count, of(&self.earlier).count)
    }

    pub(super) fn total(&self) -> Count {
        let all = self.own.values().chain(self.earlier.values());
        all.fold(Count::default(), |total, tally| sum(total, tally.count))
    }

    /// Sites for which mail waits, and when the newest of it has come,
    /// in the order of their names, for what follows must not depend on how they are kept.
    pub(super) fn sites(&self) -> BTreeMap<SiteName, u64> {
        let mut sites = BTreeMap::new();
        for (site, tally) in self.earlier.iter().chain(&self.own) {
            // What has come since the start is newer, and comes later here.
            sites.insert(site.clone(), tally.newest_ms);
        }
        sites
    }

    pub(super) fn live(&self, segment: u64) -> Live {
        self.live.get(&segment).copied().unwrap_or_default()
    }

    pub(super) fn live_in_all(&self) -> Live {
        self.live_in_all
    }

    /// What lives in all segments, counted anew.
    #[cfg(test)]
    pub(super) fn live_counted(&self) -> Live {
        let live = self.live.values();
        live.fold(Live::default(), |all, live| Live {
            deliveries: all.deliveries + live.deliveries,
            bytes: all.bytes + live.bytes,
        })
    }
}

fn sum(a: Count, b: Count) -> Count {
    Count {
        messages: a.messages + b.messages,
        bytes: a.bytes + b.bytes,
    }
}

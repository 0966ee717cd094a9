//! A message that was tried since a release, and has a time of its own, is not sent before it.

use std::collections::BTreeMap;
use std::time::Duration;

use dd_proto::id::DeliveryId;
use dd_proto::name::SiteName;
use jiff::Timestamp;

use crate::dispatch::kept::PARKED;
use crate::store::Note;

#[derive(Debug, Default)]
pub(super) struct Once {
    released: BTreeMap<SiteName, Duration>,
    assigned: BTreeMap<DeliveryId, Duration>,
    noted: BTreeMap<DeliveryId, Option<Timestamp>>,
    own_time: BTreeMap<DeliveryId, Timestamp>,
}

impl Once {
    pub(super) fn released(&mut self, site: &SiteName, now: Duration) {
        self.released.insert(site.clone(), now);
        self.own_time.retain(|delivery, _| delivery.site != *site);
    }

    /// An attempt that began before the release says nothing, nor does one that was another's doing and left the time as
    /// it was.
    pub(super) fn noted(&mut self, note: &Note) {
        let before = self.noted.insert(note.delivery.clone(), note.not_before);
        if before == Some(note.not_before) {
            return;
        }
        self.own_time.remove(&note.delivery);
        let released = self.released.get(&note.delivery.site);
        let after = released.is_none_or(|at| self.assigned.get(&note.delivery) > Some(at));
        if let Some(at) = note.not_before.filter(|at| *at < PARKED && after) {
            self.own_time.insert(note.delivery.clone(), at);
        }
    }

    /// What was not written is lost, and the core knows of no release.
    pub(super) fn restarts(&mut self) {
        self.released.clear();
        self.own_time.clear();
    }

    /// What was released before all is known is released again then.
    pub(super) fn all_known(&mut self, now: Duration) {
        let released: Vec<SiteName> = self.released.keys().cloned().collect();
        for site in released {
            self.released(&site, now);
        }
    }

    /// Whether it goes out at its time.
    pub(super) fn assigned(
        &mut self,
        delivery: &DeliveryId,
        now: Duration,
        wall: Timestamp,
    ) -> bool {
        self.assigned.insert(delivery.clone(), now);
        let own_time = self.own_time.get(delivery);
        own_time.is_none_or(|at| *at <= wall)
    }
}

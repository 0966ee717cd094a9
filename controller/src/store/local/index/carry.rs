//! A message that cleaning has written anew: its deliveries have moved, and are as the new record says.

use super::{Index, delivery_id, entry_of};
use crate::store::local::body;
use crate::store::local::log::Written;
use crate::store::{Position, StoreError};

impl Index {
    /// Whether any of its deliveries is open.
    pub(crate) fn knows_of(&self, accepted: &body::Accepted) -> bool {
        let mut deliveries = accepted.deliveries.iter();
        deliveries.any(|open| {
            let delivery = delivery_id(&accepted.id, &open.site);
            delivery.is_some_and(|it| matches!(self.get(&it), Ok(Some(_))))
        })
    }

    /// Takes over a `Carried`, just written or replayed: the later record wins. Returns how many deliveries it holds.
    ///
    /// # Errors
    /// The shelf's.
    pub(crate) fn carried(
        &self,
        carried: &body::Carried,
        written: Written,
    ) -> Result<u64, StoreError> {
        let Some(accepted) = &carried.accepted else {
            return Ok(0);
        };
        let mut held = 0;
        for (open, state) in accepted.deliveries.iter().zip(&carried.states) {
            let Some(delivery) = delivery_id(&accepted.id, &open.site) else {
                continue;
            };
            let mut entry = entry_of(accepted, written.place, carried.start);
            entry.set_open(&open.recipients);
            entry.doubted = state.doubted;
            let noted = state.noted.as_ref();
            let to = Position {
                not_before_ms: noted.map_or(0, |noted| entry.note(noted)),
                sequence: carried.sequence,
            };
            let before = self.get(&delivery)?;
            let mut counts = self.counts();
            if let Some((from, entry)) = &before {
                counts.closed(&delivery.site, *from, entry);
            }
            counts.opened(&delivery.site, to, &entry);
            drop(counts);
            match before {
                Some((from, _)) => self.overlay().replace(&delivery, from, to, entry),
                None => self.overlay().insert(&delivery, to, entry),
            }
            held += 1;
        }
        Ok(held)
    }
}

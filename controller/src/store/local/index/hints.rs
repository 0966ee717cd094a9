//! Where deliveries stood when they were last seen: a look-up that knows needs one look into the shelf, not two.
//!
//! # Invariants
//! A hint may be wrong or lost at any time: whoever takes one looks whether the entry there is of that delivery. So
//! nobody has to keep them true.

use dd_proto::id::DeliveryId;

use crate::store::Position;

/// Of some hundred sites that flow; 300 KB.
const SLOTS: usize = 4096;

/// A slot for every so many deliveries; the later one takes it.
#[derive(Debug)]
pub(super) struct Hints(Vec<Option<(DeliveryId, Position)>>);

impl Hints {
    pub(super) fn new() -> Self {
        Self(vec![None; SLOTS])
    }

    pub(super) fn seen(&mut self, delivery: &DeliveryId, position: Position) {
        self.0[slot(delivery)] = Some((delivery.clone(), position));
    }

    pub(super) fn of(&self, delivery: &DeliveryId) -> Option<Position> {
        let (seen, position) = self.0[slot(delivery)].as_ref()?;
        (seen == delivery).then_some(*position)
    }
}

/// The end of a message's id is random (RFC 9562 §5.7).
fn slot(delivery: &DeliveryId) -> usize {
    let [.., high, low] = *delivery.message.as_bytes();
    usize::from(u16::from_be_bytes([high, low])) % SLOTS
}

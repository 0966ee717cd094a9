//! Envelopes and contents that are in memory anyway: mail that goes out at once is never read back.
//!
//! # Invariants
//! Bounded in bytes; the oldest goes first. Losing an entry costs a read, nothing else. What is settled is not kept.

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::Bytes;
use dd_proto::id::DeliveryId;

use super::mail::Mail;

/// What an entry takes beside its content: names, paths, places in tables.
const ENTRY: usize = 512;
/// So many names of what is gone are not worth tidying up.
const SLACK: usize = 1024;

#[derive(Debug)]
pub(super) struct Cache {
    entries: HashMap<DeliveryId, Mail>,
    /// In the order in which they came; may name what is gone, but not more of that than of what is there.
    order: VecDeque<DeliveryId>,
    bytes: usize,
    max_bytes: usize,
}

impl Cache {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self {
            entries: HashMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            max_bytes,
        }
    }

    pub(super) fn put(&mut self, delivery: DeliveryId, mail: Mail) {
        self.bytes += size(&mail);
        if let Some(before) = self.entries.insert(delivery.clone(), mail) {
            self.bytes -= size(&before);
        } else {
            self.order.push_back(delivery);
        }
        while self.bytes > self.max_bytes {
            match self.order.pop_front() {
                Some(oldest) => drop(self.take(&oldest)),
                None => break,
            }
        }
        if self.order.len() > 2 * self.entries.len() + SLACK {
            let (entries, mut met) = (&self.entries, HashSet::new());
            self.order
                .retain(|it| entries.contains_key(it) && met.insert(it.clone()));
        }
    }

    pub(super) fn look_up(&self, delivery: &DeliveryId) -> Option<&Mail> {
        self.entries.get(delivery)
    }

    pub(super) fn take(&mut self, delivery: &DeliveryId) -> Option<Mail> {
        let mail = self.entries.remove(delivery)?;
        self.bytes -= size(&mail);
        Some(mail)
    }
}

fn size(mail: &Mail) -> usize {
    let recipients = mail.envelope.recipients.len() * 128;
    ENTRY + recipients + mail.content.as_ref().map_or(0, Bytes::len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use dd_proto::envelope::{Body, Encoding, Envelope};
    use dd_proto::id::MessageId;

    fn delivery(n: u8) -> DeliveryId {
        DeliveryId {
            message: MessageId::from_bytes([n; 16]),
            site: "home".parse().unwrap(),
        }
    }

    fn mail(bytes: usize) -> Mail {
        let envelope = Envelope {
            reverse_path: "".parse().unwrap(),
            body: Body::SevenBit,
            encoding: Encoding::Ascii,
            ret: None,
            envid: None,
            recipients: Vec::new(),
            client: None,
        };
        Mail {
            envelope: Arc::new(envelope),
            message_id: "".into(),
            content: Some(vec![0; bytes].into()),
        }
    }

    #[test]
    fn the_oldest_goes_when_it_is_full() {
        let mut cache = Cache::new(3100);
        for n in 0..3 {
            cache.put(delivery(n), mail(1000));
        }
        assert!(cache.look_up(&delivery(0)).is_none());
        assert!(cache.look_up(&delivery(2)).is_some());
        assert!(cache.take(&delivery(2)).is_some());
        assert!(cache.take(&delivery(1)).is_some());
        assert_eq!(cache.bytes, 0);
    }

    #[test]
    fn what_came_and_went_is_forgotten_although_an_old_one_stays() {
        let mut cache = Cache::new(1 << 20);
        cache.put(delivery(0), mail(1000));
        for _ in 0..10 * SLACK {
            cache.put(delivery(1), mail(1000));
            cache.take(&delivery(1));
        }
        assert!(cache.look_up(&delivery(0)).is_some());
        assert!(cache.order.len() <= SLACK + 4, "{}", cache.order.len());
    }
}

//! What the index holds of an open delivery, and how it changes.

use bytes::Bytes;
use dd_proto::id::{DeliveryId, MessageId, RecipientNumber};
use dd_proto::name::SiteName;
use jiff::Timestamp;

use super::key::NEVER;
use crate::store::local::body;
use crate::store::local::log::Place;
use crate::store::{Position, Waiting};

/// The value behind a queue key.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Entry {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) id: Bytes,
    /// Open recipients: bit n of byte n/8 is recipient n.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) open: Vec<u8>,
    #[prost(uint64, tag = "3")]
    pub(crate) arrived_ms: u64,
    #[prost(uint32, tag = "4")]
    pub(crate) attempts: u32,
    #[prost(uint32, tag = "5")]
    pub(crate) breaks: u32,
    #[prost(bool, tag = "6")]
    pub(crate) in_doubt: bool,
    #[prost(bool, tag = "7")]
    pub(crate) failed: bool,
    #[prost(uint64, tag = "8")]
    pub(crate) bytes: u64,
    #[prost(string, tag = "9")]
    pub(crate) last: String,
    /// Where its `Accepted` lies.
    #[prost(uint64, tag = "10")]
    pub(crate) segment: u64,
    #[prost(uint64, tag = "11")]
    pub(crate) offset: u64,
    #[prost(uint64, tag = "12")]
    pub(crate) len: u64,
    /// Name of the content file; empty where the content is inline.
    #[prost(string, tag = "13")]
    pub(crate) file: String,
    /// The start that accepted it.
    #[prost(uint64, tag = "14")]
    pub(crate) start: u64,
    /// Damage in the log may have been its settlement. No note takes that back.
    #[prost(bool, tag = "15")]
    pub(crate) doubted: bool,
    #[prost(bool, tag = "16")]
    pub(crate) kept: bool,
    #[prost(bool, tag = "17")]
    pub(crate) warned: bool,
    /// How many deliveries share its record.
    #[prost(uint32, tag = "18")]
    pub(crate) sharing: u32,
}

impl Entry {
    pub(crate) fn place(&self) -> Place {
        Place {
            segment: self.segment,
            offset: self.offset,
            len: self.len,
        }
    }

    /// Its part of the bytes of its record.
    pub(crate) fn share(&self) -> u64 {
        self.len / u64::from(self.sharing.max(1))
    }

    /// What is open, as a record says it.
    pub(crate) fn stored(&self, site: &SiteName) -> body::StoredDelivery {
        body::StoredDelivery {
            site: site.to_string(),
            recipients: self.open_numbers().map(u32::from).collect(),
        }
    }

    /// All else that is known, as a record says it: what [`Self::note`] takes over, and the doubt.
    pub(crate) fn state(&self, position: Position) -> body::State {
        let noted = body::Noted {
            id: Vec::new(),
            site: String::new(),
            attempts: self.attempts,
            breaks: self.breaks,
            in_doubt: self.in_doubt,
            failed: self.failed,
            not_before_ms: match position.not_before_ms {
                NEVER => 0,
                ms => ms,
            },
            last: self.last.clone(),
            kept: self.kept,
            warned: self.warned,
            dsn: None,
        };
        body::State {
            noted: Some(noted),
            doubted: self.doubted,
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.open.iter().all(|byte| *byte == 0)
    }

    pub(crate) fn set_open(&mut self, numbers: &[u32]) {
        for number in numbers {
            let byte = *number as usize / 8;
            if self.open.len() <= byte {
                self.open.resize(byte + 1, 0);
            }
            self.open[byte] |= 1 << (number % 8);
        }
    }

    pub(crate) fn settle(&mut self, number: u32) {
        if let Some(byte) = self.open.get_mut(number as usize / 8) {
            *byte &= !(1 << (number % 8));
        }
    }

    /// Takes over a note; returns when the delivery becomes due.
    pub(crate) fn note(&mut self, noted: &body::Noted) -> u64 {
        self.attempts = noted.attempts;
        self.breaks = noted.breaks;
        self.in_doubt = noted.in_doubt;
        self.failed = noted.failed;
        self.kept = noted.kept;
        self.warned = noted.warned;
        self.last.clone_from(&noted.last);
        match noted.failed {
            true => NEVER,
            false => noted.not_before_ms,
        }
    }

    fn open_numbers(&self) -> impl Iterator<Item = u16> {
        (0..=u16::MAX)
            .take(self.open.len() * 8)
            .filter(|n| self.open[usize::from(*n) / 8] & (1 << (n % 8)) != 0)
    }

    /// As the rest of the controller sees it. None where the entry is damaged.
    pub(crate) fn waiting(
        &self,
        site: SiteName,
        position: Position,
        start: u64,
    ) -> Option<Waiting> {
        let not_before = match position.not_before_ms {
            0 | NEVER => None,
            ms => time(ms),
        };
        Some(Waiting {
            delivery: DeliveryId {
                message: MessageId::try_from(&self.id[..]).ok()?,
                site,
            },
            position,
            arrived: time(self.arrived_ms)?,
            not_before,
            attempts: self.attempts,
            breaks: self.breaks,
            in_doubt: self.in_doubt || self.doubted,
            failed: self.failed,
            kept: self.kept,
            warned: self.warned,
            last: self.last.clone(),
            bytes: self.bytes,
            open: self.open_numbers().map(RecipientNumber).collect(),
            earlier_start: self.start < start,
        })
    }
}

pub(crate) fn time(ms: u64) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()
}

/// Milliseconds since 1970; 0 before it.
pub(crate) fn millis(at: Timestamp) -> u64 {
    u64::try_from(at.as_millisecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_carried_is_all_that_was_noted() {
        // No field left out here or in `state`: a new one has to be carried too.
        for failed in [false, true] {
            let noted = body::Noted {
                id: Vec::new(),
                site: String::new(),
                attempts: 3,
                breaks: 2,
                in_doubt: true,
                failed,
                not_before_ms: if failed { 0 } else { 77 },
                last: "451 later".to_owned(),
                kept: true,
                warned: true,
                dsn: None,
            };
            let mut entry = Entry::default();
            let position = Position {
                not_before_ms: entry.note(&noted),
                sequence: 1,
            };
            assert_eq!(entry.state(position).noted, Some(noted));
        }
    }
}

//! What was told of an outage, as it is stored under the name of its site.

use bytes::Bytes;
use dd_proto::id::MessageId;
use jiff::Timestamp;
use prost::Message as _;

use super::judge::{Told, Why};

/// The family of these records.
pub(super) const FAMILY: &str = "outage";

/// What was told, and the mail that says so until it is known to be in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) told: Told,
    pub(super) owed: Option<MessageId>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Row {
    /// 1 down, 2 a wrong host, 3 refuses.
    #[prost(uint32, tag = "1")]
    why: u32,
    #[prost(int64, tag = "2")]
    since_ms: i64,
    #[prost(int64, tag = "3")]
    at_ms: i64,
    #[prost(int64, optional, tag = "4")]
    until_ms: Option<i64>,
    #[prost(bytes = "bytes", tag = "5")]
    owed: Bytes,
}

pub(super) fn encode(entry: &Entry) -> Bytes {
    let told = &entry.told;
    let owed = entry.owed.map(|id| Bytes::copy_from_slice(id.as_bytes()));
    Row {
        why: match told.why {
            Why::Down => 1,
            Why::WrongHost => 2,
            Why::Refuses => 3,
        },
        since_ms: told.since.as_millisecond(),
        at_ms: told.at.as_millisecond(),
        until_ms: told.until.map(Timestamp::as_millisecond),
        owed: owed.unwrap_or_default(),
    }
    .encode_to_vec()
    .into()
}

/// None: it cannot be read. At worst somebody is told twice.
pub(super) fn decode(bytes: &Bytes) -> Option<Entry> {
    let row = Row::decode(bytes.clone()).ok()?;
    let at = |ms| Timestamp::from_millisecond(ms).ok();
    Some(Entry {
        told: Told {
            why: match row.why {
                1 => Why::Down,
                2 => Why::WrongHost,
                3 => Why::Refuses,
                _ => return None,
            },
            since: at(row.since_ms)?,
            at: at(row.at_ms)?,
            until: match row.until_ms {
                None => None,
                Some(ms) => Some(at(ms)?),
            },
        },
        owed: MessageId::try_from(&row.owed[..]).ok(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_comes_back_as_it_was_stored() {
        let second = |it| Timestamp::from_second(it).unwrap();
        for why in [Why::Down, Why::WrongHost, Why::Refuses] {
            for (until, owed) in [
                (None, None),
                (Some(second(9)), Some(MessageId::new(7, [3; 10]))),
            ] {
                let (since, at) = (second(1), second(5));
                let told = Told {
                    why,
                    since,
                    at,
                    until,
                };
                let entry = Entry { told, owed };
                assert_eq!(decode(&encode(&entry)), Some(entry));
            }
        }
        assert_eq!(decode(&Bytes::new()), None);
        assert_eq!(decode(&Bytes::from_static(b"\xff")), None);
    }
}

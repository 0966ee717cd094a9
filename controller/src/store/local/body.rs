//! What the envelopes of records say, as protocol buffers: old records stay readable when fields are added.
//!
//! # Not here
//! The frame around them: [`super::record`].

use dd_proto::client::{Client, Spoken};
use dd_proto::envelope::{Body, Encoding, Envelope, Recipient, Ret};
use dd_proto::id::RecipientNumber;
use prost::Message as _;

use super::record::Kind;

/// One message: everything but its inline content.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Accepted {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) id: Vec<u8>,
    #[prost(message, optional, tag = "2")]
    pub(crate) envelope: Option<StoredEnvelope>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) deliveries: Vec<StoredDelivery>,
    #[prost(uint64, tag = "4")]
    pub(crate) arrived_ms: u64,
    #[prost(uint64, tag = "5")]
    pub(crate) bytes: u64,
    /// Name of the content file; empty where the content is inline.
    #[prost(string, tag = "6")]
    pub(crate) file: String,
    #[prost(uint32, tag = "7")]
    pub(crate) file_crc: u32,
    /// Not tried before; 0: due.
    #[prost(uint64, tag = "15")]
    pub(crate) not_before_ms: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct StoredDelivery {
    #[prost(string, tag = "1")]
    pub(crate) site: String,
    #[prost(uint32, repeated, tag = "2")]
    pub(crate) recipients: Vec<u32>,
}

/// What became of recipients of a delivery.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Settled {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) id: Vec<u8>,
    #[prost(string, tag = "2")]
    pub(crate) site: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) recipients: Vec<SettledRecipient>,
    /// The notification that the settlement owes, accepted by the same record.
    #[prost(message, optional, tag = "4")]
    pub(crate) dsn: Option<Accepted>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct SettledRecipient {
    #[prost(uint32, tag = "1")]
    pub(crate) number: u32,
    /// 1 relayed, 2 failed, 3 removed, 4 expired.
    #[prost(uint32, tag = "2")]
    pub(crate) what: u32,
}

/// What is remembered about an open delivery: the whole of it, each time.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Noted {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) id: Vec<u8>,
    #[prost(string, tag = "2")]
    pub(crate) site: String,
    #[prost(uint32, tag = "3")]
    pub(crate) attempts: u32,
    #[prost(uint32, tag = "4")]
    pub(crate) breaks: u32,
    #[prost(bool, tag = "5")]
    pub(crate) in_doubt: bool,
    #[prost(bool, tag = "6")]
    pub(crate) failed: bool,
    /// 0: due.
    #[prost(uint64, tag = "7")]
    pub(crate) not_before_ms: u64,
    /// What came of the last attempt, for people.
    #[prost(string, tag = "8")]
    pub(crate) last: String,
    #[prost(bool, tag = "9")]
    pub(crate) kept: bool,
    #[prost(bool, tag = "10")]
    pub(crate) warned: bool,
    /// The delay warning, accepted by the same record.
    #[prost(message, optional, tag = "15")]
    pub(crate) dsn: Option<Accepted>,
}

/// The message that a record accepts: its own, or the notification that a settlement or a note owes. Its content is
/// the record's. None where a record accepts nothing.
///
/// # Errors
/// The envelope does not parse.
pub(crate) fn message_in(
    kind: Kind,
    envelope: &[u8],
) -> Result<Option<Accepted>, prost::DecodeError> {
    match kind {
        Kind::Accepted => Accepted::decode(envelope).map(Some),
        Kind::Settled => Settled::decode(envelope).map(|settled| settled.dsn),
        Kind::Noted => Noted::decode(envelope).map(|noted| noted.dsn),
        Kind::Carried => {
            Carried::decode(envelope).map(|carried| carried.accepted.filter(|_| !carried.damaged))
        }
        Kind::Put => Ok(None),
    }
}

/// One message as it stands, written anew by cleaning. Its content is the record's.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Carried {
    /// Of its deliveries those that are open, with their open recipients.
    #[prost(message, optional, tag = "1")]
    pub(crate) accepted: Option<Accepted>,
    /// One for each of them.
    #[prost(message, repeated, tag = "2")]
    pub(crate) states: Vec<State>,
    /// The sequence of the original, its place in the queue.
    #[prost(uint64, tag = "3")]
    pub(crate) sequence: u64,
    /// The start that accepted it.
    #[prost(uint64, tag = "4")]
    pub(crate) start: u64,
    /// The content was bad when it was copied: held and shown, never delivered.
    #[prost(bool, tag = "5")]
    pub(crate) damaged: bool,
}

/// What is known of an open delivery.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct State {
    /// Without id and site.
    #[prost(message, optional, tag = "1")]
    pub(crate) noted: Option<Noted>,
    #[prost(bool, tag = "2")]
    pub(crate) doubted: bool,
}

/// Whether the content of a message is known to be bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    Good,
    Damaged,
}

/// The message that a record holds, also where its content is bad. None: none, or it does not parse.
pub(crate) fn held_in(kind: Kind, envelope: &[u8]) -> Option<(Accepted, Content)> {
    if kind != Kind::Carried {
        return Some((message_in(kind, envelope).ok()??, Content::Good));
    }
    let carried = Carried::decode(envelope).ok()?;
    let content = match carried.damaged {
        true => Content::Damaged,
        false => Content::Good,
    };
    Some((carried.accepted?, content))
}

/// Whether an envelope parses: where it does not, its record is damage although its checksum is right.
pub(crate) fn parses(kind: Kind, envelope: &[u8]) -> bool {
    match kind {
        Kind::Put => Put::decode(envelope).is_ok(),
        Kind::Carried => Carried::decode(envelope).is_ok(),
        _ => message_in(kind, envelope).is_ok(),
    }
}

/// The key of a registry record; the value is the record's content.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Put {
    #[prost(string, tag = "1")]
    pub(crate) family: String,
    #[prost(string, tag = "2")]
    pub(crate) key: String,
    #[prost(bool, tag = "3")]
    pub(crate) removed: bool,
    /// Of a record that cleaning wrote anew: the version it had; else 0, and its sequence is the version, or that of the
    /// first of two.
    #[prost(uint64, tag = "4")]
    pub(crate) version: u64,
    /// Each is written twice, behind one another: 1 the first, 2 the second; 0: once, by an older program.
    #[prost(uint32, tag = "5")]
    pub(crate) copy: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct StoredEnvelope {
    /// Empty: the null reverse-path.
    #[prost(string, tag = "1")]
    pub(crate) reverse_path: String,
    #[prost(bool, tag = "2")]
    pub(crate) eight_bit: bool,
    #[prost(bool, tag = "3")]
    pub(crate) smtputf8: bool,
    /// 1 FULL, 2 HDRS.
    #[prost(uint32, tag = "4")]
    pub(crate) ret: u32,
    #[prost(string, optional, tag = "5")]
    pub(crate) envid: Option<String>,
    #[prost(message, repeated, tag = "6")]
    pub(crate) recipients: Vec<StoredRecipient>,
    /// Older records have none.
    #[prost(message, optional, tag = "7")]
    pub(crate) client: Option<StoredClient>,
}

/// What is empty, or 0, is not known.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct StoredClient {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) address: String,
    #[prost(uint32, tag = "3")]
    pub(crate) port: u32,
    #[prost(string, tag = "4")]
    pub(crate) helo: String,
    #[prost(string, tag = "5")]
    pub(crate) protocol: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct StoredRecipient {
    #[prost(string, tag = "1")]
    pub(crate) path: String,
    #[prost(string, optional, tag = "2")]
    pub(crate) notify: Option<String>,
    #[prost(string, optional, tag = "3")]
    pub(crate) orcpt: Option<String>,
    #[prost(uint32, tag = "4")]
    pub(crate) number: u32,
}

impl From<&Envelope> for StoredEnvelope {
    fn from(envelope: &Envelope) -> Self {
        Self {
            reverse_path: envelope.reverse_path.as_str().to_owned(),
            eight_bit: envelope.body == Body::EightBitMime,
            smtputf8: envelope.encoding == Encoding::Utf8,
            ret: match envelope.ret {
                None => 0,
                Some(Ret::Full) => 1,
                Some(Ret::Headers) => 2,
            },
            envid: envelope.envid.clone(),
            recipients: envelope.recipients.iter().map(Into::into).collect(),
            client: envelope.client.as_deref().map(Into::into),
        }
    }
}

impl From<&Client> for StoredClient {
    fn from(client: &Client) -> Self {
        let spoken = client.protocol.map(Spoken::as_str);
        Self {
            name: client.name.clone().unwrap_or_default(),
            address: client.address.map(|it| it.to_string()).unwrap_or_default(),
            port: client.port.unwrap_or(0).into(),
            helo: client.helo.clone().unwrap_or_default(),
            protocol: spoken.unwrap_or_default().to_owned(),
        }
    }
}

impl From<StoredClient> for Client {
    fn from(stored: StoredClient) -> Self {
        let present = |text: String| (!text.is_empty()).then_some(text);
        Self {
            name: present(stored.name),
            address: stored.address.parse().ok(),
            port: u16::try_from(stored.port).ok().filter(|it| *it != 0),
            helo: present(stored.helo),
            protocol: Spoken::of(&stored.protocol),
        }
    }
}

impl From<&Recipient> for StoredRecipient {
    fn from(recipient: &Recipient) -> Self {
        Self {
            path: recipient.path.as_str().to_owned(),
            notify: recipient.notify.clone(),
            orcpt: recipient.orcpt.clone(),
            number: u32::from(recipient.number.0),
        }
    }
}

/// A valid record whose words do not parse: damage, or a newer program's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unreadable;

impl TryFrom<StoredEnvelope> for Envelope {
    type Error = Unreadable;

    fn try_from(stored: StoredEnvelope) -> Result<Self, Unreadable> {
        let recipients = stored.recipients.into_iter().map(TryInto::try_into);
        Ok(Self {
            reverse_path: stored.reverse_path.parse().map_err(|_| Unreadable)?,
            body: match stored.eight_bit {
                true => Body::EightBitMime,
                false => Body::SevenBit,
            },
            encoding: match stored.smtputf8 {
                true => Encoding::Utf8,
                false => Encoding::Ascii,
            },
            ret: match stored.ret {
                0 => None,
                1 => Some(Ret::Full),
                2 => Some(Ret::Headers),
                _ => return Err(Unreadable),
            },
            envid: stored.envid,
            recipients: recipients.collect::<Result<_, Unreadable>>()?,
            client: stored.client.map(|it| Box::new(it.into())),
        })
    }
}

impl TryFrom<StoredRecipient> for Recipient {
    type Error = Unreadable;

    fn try_from(stored: StoredRecipient) -> Result<Self, Unreadable> {
        Ok(Self {
            number: number(stored.number)?,
            path: stored.path.parse().map_err(|_| Unreadable)?,
            notify: stored.notify,
            orcpt: stored.orcpt,
        })
    }
}

pub(crate) fn number(number: u32) -> Result<RecipientNumber, Unreadable> {
    u16::try_from(number)
        .map(RecipientNumber)
        .map_err(|_| Unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_carried_message_is_these_bytes() {
        let carried = Carried {
            accepted: Some(Accepted {
                id: vec![7; 16],
                deliveries: vec![StoredDelivery {
                    site: "a".to_owned(),
                    recipients: vec![0, 2],
                }],
                arrived_ms: 1,
                bytes: 2,
                ..Accepted::default()
            }),
            states: vec![State {
                noted: Some(Noted {
                    attempts: 3,
                    not_before_ms: 4,
                    last: "451 x".to_owned(),
                    ..Noted::default()
                }),
                doubted: true,
            }],
            sequence: 5,
            start: 6,
            damaged: false,
        };
        let bytes = carried.encode_to_vec();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let golden = "0a1f0a10070707070707070707070707070707071a070a01611202000220012802\
                      120f0a0b180338044205343531207810011805\
                      2006";
        assert_eq!(hex, golden.replace(' ', ""));
        let accepted = message_in(Kind::Carried, &bytes).unwrap();
        assert_eq!(accepted, carried.accepted);
        let damaged = Carried {
            damaged: true,
            ..carried
        };
        let held = message_in(Kind::Carried, &damaged.encode_to_vec());
        assert_eq!(held, Ok(None));
    }
}

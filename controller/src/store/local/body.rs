//! What the envelopes of records say, as protocol buffers: old records stay readable when fields are added.
//!
//! # Not here
//! The frame around them: [`super::record`].

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
        Kind::Carried | Kind::Put => Ok(None),
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

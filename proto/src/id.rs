//! What names a message, a delivery and a lease.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use uuid::Uuid;

use crate::name::SiteName;

/// A message, for its whole life: a UUID v7 made at intake. It is what `queued as` says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(Uuid);

/// Why a text or bytes are no message id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a message id: expected a UUID as in `queued as …`")]
pub struct MessageIdError;

impl MessageId {
    /// From the time in milliseconds since 1970 and ten random bytes (RFC 9562 §5.7).
    pub fn new(unix_ms: u64, random: [u8; 10]) -> Self {
        Self(uuid::Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid())
    }

    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }
}

impl TryFrom<&[u8]> for MessageId {
    type Error = MessageIdError;

    fn try_from(bytes: &[u8]) -> Result<Self, MessageIdError> {
        bytes
            .try_into()
            .map(Self::from_bytes)
            .map_err(|_| MessageIdError)
    }
}

impl FromStr for MessageId {
    type Err = MessageIdError;

    fn from_str(text: &str) -> Result<Self, MessageIdError> {
        Uuid::parse_str(text).map(Self).map_err(|_| MessageIdError)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One message × one site: the unit of scheduling.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId {
    pub message: MessageId,
    pub site: SiteName,
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.message, self.site)
    }
}

/// Orders the leases of a delivery, over restarts of the controller too: its high half is the start number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation {
    pub start: u64,
    pub counter: u64,
}

/// A delivery that an agent holds, and under which generation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lease {
    pub delivery: DeliveryId,
    pub generation: Generation,
}

/// No two leases of a controller have the same generation, and an agent looks each of them up a dozen times.
impl Hash for Lease {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.generation.hash(state);
    }
}

/// A version of a site record: the sequence of the record that wrote it, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SiteVersion(pub u64);

/// A recipient's number within its message: given when the message is accepted, kept for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecipientNumber(pub u16);

/// A session between an agent and a site, unique within the agent's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_the_time_they_were_made() {
        let older = MessageId::new(1_000, [0xff; 10]);
        let newer = MessageId::new(1_001, [0; 10]);
        assert!(older < newer);
        assert_eq!(older.to_string().parse(), Ok(older));
        assert_eq!(MessageId::try_from(&older.as_bytes()[..]), Ok(older));
        let dashed = uuid::Uuid::from_bytes(*older.as_bytes())
            .hyphenated()
            .to_string();
        assert_eq!(
            dashed.to_uppercase().parse(),
            Ok(older),
            "as other programs write it"
        );
        assert!("queued".parse::<MessageId>().is_err());
    }
}

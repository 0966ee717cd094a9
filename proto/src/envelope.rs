//! The envelope of a message: who it is from, whom it is for, and what was asked about notifications.

use crate::client::Client;
use crate::id::RecipientNumber;
use crate::path::{ForwardPath, ReversePath};

/// An envelope as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    pub reverse_path: ReversePath,
    pub body: Body,
    /// What the header needs; what addresses need can be seen on them ([`Envelope::wants_utf8`]).
    pub encoding: Encoding,
    /// RET, RFC 3461 §4.3.
    pub ret: Option<Ret>,
    /// ENVID in xtext, RFC 3461 §4.4.
    pub envid: Option<String>,
    pub recipients: Vec<Recipient>,
    /// From whom the feeder had it, where a site is to be told; boxed, for most envelopes have none.
    pub client: Option<Box<Client>>,
}

impl Envelope {
    /// Whether SMTPUTF8 is asked for where it is offered: for an address beyond ASCII, or for the header
    /// (RFC 6531 §3.4).
    pub fn wants_utf8(&self) -> bool {
        let recipients = self.recipients.iter();
        self.encoding == Encoding::Utf8
            || !self.reverse_path.as_str().is_ascii()
            || recipients.map(|it| &it.path.0).any(|it| !it.is_ascii())
    }
}

/// Whether the content has an eighth bit anywhere: RFC 6152.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    SevenBit,
    EightBitMime,
}

/// Whether a header is one of RFC 6532, and its sender asked for SMTPUTF8 (RFC 6531).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Ascii,
    Utf8,
}

/// RET, RFC 3461 §4.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ret {
    Full,
    Headers,
}

impl Ret {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Headers => "HDRS",
        }
    }
}

/// One recipient, with what its RCPT said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    pub number: RecipientNumber,
    pub path: ForwardPath,
    /// NOTIFY, RFC 3461 §4.1.
    pub notify: Option<String>,
    /// ORCPT with its type, RFC 3461 §4.2 and RFC 6533 §3.
    pub orcpt: Option<String>,
}

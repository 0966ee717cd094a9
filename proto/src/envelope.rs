//! The envelope of a message: who it is from, whom it is for, and what was asked about notifications.

use crate::id::RecipientNumber;
use crate::path::{ForwardPath, ReversePath};

/// An envelope as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    pub reverse_path: ReversePath,
    pub body: Body,
    pub encoding: Encoding,
    /// RET, RFC 3461 §4.3.
    pub ret: Option<Ret>,
    /// ENVID as received (xtext), RFC 3461 §4.4.
    pub envid: Option<String>,
    pub recipients: Vec<Recipient>,
}

/// BODY, RFC 6152.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    SevenBit,
    EightBitMime,
}

/// Whether the message needs SMTPUTF8, RFC 6531.
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
    /// NOTIFY as received, RFC 3461 §4.1.
    pub notify: Option<String>,
    /// ORCPT as received, RFC 3461 §4.2.
    pub orcpt: Option<String>,
}

//! What LMTP changes (RFC 2033): the hello, the name of the protocol, and an answer for each recipient.

use dd_proto::envelope::Encoding;
use dd_proto::smtp::reply::ServerReply;

/// What is spoken on a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Smtp,
    Lmtp,
}

/// Whether the session is encrypted, or could be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    NotOffered,
    Offered,
    Active,
}

/// How the client said hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Greeted {
    Helo,
    Ehlo,
    Lhlo,
}

impl Protocol {
    pub fn in_greeting(self) -> &'static str {
        match self {
            Self::Smtp => "ESMTP",
            Self::Lmtp => "LMTP",
        }
    }

    pub fn allows(self, greeted: Greeted) -> bool {
        (self == Self::Lmtp) == (greeted == Greeted::Lhlo)
    }

    /// The answers to the final dot: one in SMTP, one for each recipient that RCPT took in LMTP (RFC 2033 §4.2).
    ///
    /// `refused` has an entry for each of these recipients; `common` answers those that were not refused.
    pub fn answers(
        self,
        refused: Vec<Option<ServerReply>>,
        common: &ServerReply,
    ) -> Vec<ServerReply> {
        match self {
            Self::Smtp => vec![common.clone()],
            Self::Lmtp => refused
                .into_iter()
                .map(|refusal| refusal.unwrap_or_else(|| common.clone()))
                .collect(),
        }
    }
}

/// The word behind `with` in `Received`: RFC 3848, RFC 6531 §4.3.
pub fn with(greeted: Greeted, tls: Tls, encoding: Encoding) -> &'static str {
    let secured = tls == Tls::Active;
    match (greeted, encoding, secured) {
        (Greeted::Helo, _, _) => "SMTP",
        (Greeted::Ehlo, Encoding::Ascii, false) => "ESMTP",
        (Greeted::Ehlo, Encoding::Ascii, true) => "ESMTPS",
        (Greeted::Ehlo, Encoding::Utf8, false) => "UTF8SMTP",
        (Greeted::Ehlo, Encoding::Utf8, true) => "UTF8SMTPS",
        (Greeted::Lhlo, Encoding::Ascii, false) => "LMTP",
        (Greeted::Lhlo, Encoding::Ascii, true) => "LMTPS",
        (Greeted::Lhlo, Encoding::Utf8, false) => "UTF8LMTP",
        (Greeted::Lhlo, Encoding::Utf8, true) => "UTF8LMTPS",
    }
}

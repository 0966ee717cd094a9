//! Envelopes and reports that tests of this folder share.

use dd_proto::envelope::{Body, Encoding, Envelope, Recipient};
use dd_proto::id::RecipientNumber;

use super::Notifier;
use super::text::Letterhead;

pub(crate) fn notifier() -> Notifier {
    Notifier::new(Letterhead {
        hostname: "mail.example.net".parse().unwrap(),
        postmaster: "postmaster@example.net".parse().unwrap(),
    })
}

pub(crate) fn envelope(recipients: &[&str]) -> Envelope {
    let recipient = |(number, path): (u16, &&str)| Recipient {
        number: RecipientNumber(number),
        path: path.parse().unwrap(),
        notify: None,
        orcpt: None,
    };
    Envelope {
        reverse_path: "sender@elsewhere.example".parse().unwrap(),
        body: Body::SevenBit,
        encoding: Encoding::Ascii,
        ret: None,
        envid: None,
        recipients: (0..).zip(recipients).map(recipient).collect(),
        client: None,
    }
}

//! Envelopes and reports that tests of this folder share.

use dd_proto::envelope::{Body, Encoding, Envelope, Recipient};
use dd_proto::id::RecipientNumber;

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
    }
}

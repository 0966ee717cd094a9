//! A home server that says whatever it likes, and what the agent makes of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use dd_agent::proof::{Seen, Terms};
use dd_agent::session::{AskTls, Lost, Opening, OpeningWant, TransactionWant};
use dd_proto::envelope::{Body, Encoding, Envelope, Recipient};
use dd_proto::id::RecipientNumber;
use dd_proto::report::Disposition;
use dd_proto::site::{Host, HostName, Proof};
use jiff::Timestamp;

const CONTENT: &[u8] = b"Subject: x\r\n\r\n.\r\n..\r\nend\r\n";
/// No home keeps a session going for longer by itself.
const STEPS: usize = 10_000;

/// One message to a home that needs no TLS. Whatever it answers, the attempt ends: each recipient is answered for at most
/// once; nobody has the message before its dot; and no dot goes out that was not asked for.
pub fn home(input: &[u8]) {
    let mut replies = input.split_inclusive(|byte| *byte == b'\n');
    let Some(mut established) = opened(&mut replies) else {
        return;
    };
    let envelope = Arc::new(envelope());
    let mut transaction = established.begin(&envelope, CONTENT.len() as u64);
    let mut written = Vec::new();
    let mut may_send_dot = false;
    for _ in 0..STEPS {
        written.extend_from_slice(&transaction.take_output());
        match transaction.want() {
            TransactionWant::Bytes(_) => match replies.next() {
                Some(reply) => _ = transaction.received(reply),
                None => transaction.lost(Lost::Closed),
            },
            TransactionWant::Content => {
                assert!(!transaction.accepted().is_empty(), "nobody accepted");
                for part in CONTENT.chunks(3) {
                    transaction.content(part);
                }
                transaction.content_ended();
            }
            TransactionWant::Dot => {
                may_send_dot = true;
                transaction.send_dot(None);
            }
            TransactionWant::Nothing => break,
        }
    }
    assert_eq!(transaction.want(), TransactionWant::Nothing, "without end");
    let ended = transaction.finish();
    let named: BTreeSet<_> = ended.recipients.iter().map(|it| it.number).collect();
    assert_eq!(named.len(), ended.recipients.len(), "named twice");
    let known = |it: &RecipientNumber| envelope.recipients.iter().any(|of| of.number == *it);
    assert!(named.iter().all(known), "{named:?}");
    for result in &ended.recipients {
        // As the controller judges it.
        let fits = match result.disposition {
            Disposition::Relayed => ended.dot_sent && result.reply.is_positive(),
            Disposition::Deferred => matches!(result.reply.code / 100, 4 | 5),
            Disposition::Failed => result.reply.is_permanent(),
        };
        assert!(fits, "{result:?}");
    }
    assert!(
        may_send_dot || !ended.dot_sent,
        "a dot that nobody asked for"
    );
}

/// None: it did not come to be a session.
fn opened<'a>(
    replies: &mut impl Iterator<Item = &'a [u8]>,
) -> Option<dd_agent::session::Established> {
    let terms = Terms {
        proof: Proof::Port,
        anchors: Vec::new(),
        revocation_lists: Vec::new(),
    };
    let host = Host {
        name: HostName::Address("192.0.2.7".parse().expect("an address")),
        port: 2525.try_into().expect("not 0"),
    };
    let peer = "192.0.2.7:2525".parse().expect("an address");
    let seen = Seen::new(host, peer, "192.0.2.1".parse().expect("an address"));
    let helo = "out1.example.net".to_owned();
    let mut opening = Opening::new(Arc::new(terms), helo, AskTls::WhereOffered, seen);
    let mut written = Vec::new();
    for _ in 0..STEPS {
        written.extend_from_slice(&opening.take_output());
        match opening.want() {
            OpeningWant::Bytes(_) => match replies.next() {
                Some(reply) => opening.received(reply, Timestamp::UNIX_EPOCH),
                None => opening.lost(Lost::Closed, Timestamp::UNIX_EPOCH),
            },
            OpeningWant::Handshake => opening.lost(Lost::Closed, Timestamp::UNIX_EPOCH),
            OpeningWant::Nothing => break,
        }
    }
    let said = String::from_utf8_lossy(&written);
    for line in said.split_terminator("\r\n") {
        let known = line.starts_with("EHLO ") || line.starts_with("HELO ") || line == "STARTTLS";
        assert!(known, "said before the proof: {line}");
    }
    opening.finish().ok()
}

fn envelope() -> Envelope {
    let recipient = |number: u16| Recipient {
        number: RecipientNumber(number),
        path: format!("r{number}@home.example").parse().expect("a path"),
        notify: Some("FAILURE".to_owned()),
        orcpt: None,
    };
    Envelope {
        reverse_path: "a@b.example".parse().expect("a path"),
        body: Body::EightBitMime,
        encoding: Encoding::Ascii,
        ret: None,
        envid: None,
        recipients: [0, 1, 5].map(recipient).into(),
        client: None,
    }
}

//! A thousand addresses on their whole way: intake, the record of the store, the agent's commands, the report.

#[path = "../../../../tests/src/addresses.rs"]
#[expect(
    unreachable_pub,
    reason = "the package of tests has the same file as a module of its own"
)]
mod addresses;

use std::sync::Arc;

use dd_proto::domain::Domain;
use dd_proto::envelope::Envelope;
use dd_proto::id::{MessageId, RecipientNumber};
use dd_proto::name::SiteName;
use dd_proto::path::{ForwardPath, Mailbox};
use dd_proto::pb;
use dd_proto::report::Reply;
use dd_proto::site::Site;
use dd_proto::smtp::command::Command;
use dd_proto::smtp::compose;
use dd_proto::smtp::data::StrayCrLf;
use dd_proto::smtp::extensions::Extensions;
use jiff::Timestamp;
use prost::Message as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::body::StoredEnvelope;
use crate::dsn::samples::notifier;
use crate::dsn::whether::{Fate, What};
use crate::dsn::{About, Moment};
use crate::inflow;
use crate::intake::Settings;
use crate::intake::lmtp::Protocol;
use crate::intake::policy::{Directory, Space, Usage};
use crate::intake::session::{Output, Session, Surroundings};
use addresses::{Made, made};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

struct AnySite;

impl Directory for AnySite {
    fn site_for(&self, domain: &Domain) -> Option<Arc<Site>> {
        let mut site = inflow::closed(domain);
        site.closing = false;
        Some(Arc::new(site))
    }

    fn usage(&self, _: &SiteName) -> Usage {
        Usage::default()
    }

    fn space(&self) -> Space {
        Space::Enough
    }
}

/// One session through which everything comes.
fn session(protocol: Protocol) -> Session {
    let settings = Settings {
        hostname: "mail.example.net".parse().unwrap(),
        smtp: Vec::new(),
        lmtp: Vec::new(),
        trusted: vec!["127.0.0.0/8".parse().unwrap()],
        max_message_bytes: 1_000_000,
        max_sessions: 1,
        max_sessions_per_client: 1,
        buffer_bytes: 1 << 20,
        stray_cr_lf: StrayCrLf::Refuse,
        authserv_ids: std::sync::Arc::new([]),
        tls: None,
    };
    let around = Arc::new(Surroundings {
        settings: Arc::new(settings),
        directory: Arc::new(AnySite),
        refusals: Arc::default(),
        quotas: Arc::default(),
    });
    let client = "127.0.0.1".parse().unwrap();
    let mut session = Session::new(around, protocol, client, StdRng::seed_from_u64(1), NOW);
    let hello = match protocol {
        Protocol::Smtp => "EHLO mx\r\n",
        Protocol::Lmtp => "LHLO mx\r\n",
    };
    session.receive(hello.as_bytes(), NOW);
    session
}

/// Hands one message in; the envelope that intake made of it.
fn hand_in(session: &mut Session, made: &Made) -> Envelope {
    let Made { sender, local_part } = made;
    let dialogue = format!(
        "MAIL FROM:<{sender}>\r\nRCPT TO:<{local_part}@home.example>\r\nDATA\r\nx\r\n.\r\n"
    );
    session.receive(dialogue.as_bytes(), NOW);
    let (mut said, mut taken) = (String::new(), None);
    loop {
        while let Some(output) = session.next_output() {
            match output {
                Output::Write(bytes) => said.push_str(&String::from_utf8_lossy(&bytes)),
                Output::Reserve { .. } => session.buffer_ready(Ok(())),
                Output::Accept(letter) => {
                    taken = Some(letter.sorted.envelope);
                    session.accepted(Ok(()));
                }
                _ => {}
            }
        }
        if !session.written() {
            return taken.unwrap_or_else(|| panic!("{made:?}: {said}"));
        }
    }
}

fn stored(envelope: &Envelope) -> Envelope {
    let bytes = StoredEnvelope::from(envelope).encode_to_vec();
    let stored = StoredEnvelope::decode(&bytes[..]).unwrap();
    stored.try_into().unwrap()
}

/// As the agent says it to a home that takes everything, and the mailboxes that the home reads.
fn commands(envelope: &Envelope) -> (String, String, Vec<Mailbox>) {
    let assigned = pb::Envelope::from(envelope.clone()).encode_to_vec();
    let assigned = pb::Envelope::decode(&assigned[..]).unwrap();
    let envelope: Envelope = assigned.try_into().unwrap();
    let offered = Extensions {
        smtputf8: true,
        dsn: true,
        ..Extensions::default()
    };
    let mail = compose::mail(&envelope, 1, &offered);
    let rcpt = compose::rcpt(&envelope.recipients[0], envelope.wants_utf8(), &offered);
    let read = [&mail, &rcpt].map(|line| {
        let line = line.strip_suffix("\r\n").unwrap();
        match Command::parse(line.as_bytes()).unwrap() {
            Command::Mail(mail) => mail.reverse_path.as_str().parse().unwrap(),
            Command::Rcpt(rcpt) => rcpt.forward_path.0,
            other => panic!("{other:?}"),
        }
    });
    (mail, rcpt, read.into())
}

/// The report about a refusal, unfolded, and its recipient.
fn report(envelope: &Envelope) -> (String, ForwardPath) {
    let about = About {
        id: MessageId::from_bytes([7; 16]),
        envelope,
        arrived: NOW,
        content: b"Subject: x\r\n\r\nx\r\n",
        bytes: 17,
        peer: None,
    };
    let fates = [Fate {
        number: RecipientNumber(0),
        what: What::Failed,
        reply: Some(Reply {
            code: 550,
            enhanced: "5.1.1".to_owned(),
            text: "nobody of that name".to_owned(),
        }),
    }];
    let moment = Moment {
        now: NOW,
        since_start: std::time::Duration::from_secs(86_400),
        space: Space::Enough,
    };
    let sent = notifier().report(&about, &fates, moment, [9; 10]).unwrap();
    let text = String::from_utf8(sent.content.to_vec()).unwrap();
    let to = sent.envelope.recipients[0].path.clone();
    (text.replace("\r\n ", " "), to)
}

#[test]
fn what_carriers_forwarders_and_lists_make_passes_intake_store_home_and_report() {
    let mut sessions = [session(Protocol::Smtp), session(Protocol::Lmtp)];
    for (number, made) in made(0..1000).iter().enumerate() {
        let session = &mut sessions[number / 7 % 2];
        let envelope = hand_in(session, made);
        let recipient = format!("{}@home.example", made.local_part);
        assert_eq!(envelope.reverse_path.as_str(), made.sender);
        assert_eq!(envelope.recipients[0].path.as_str(), recipient);
        assert_eq!(stored(&envelope), envelope);

        let (mail, rcpt, read) = commands(&envelope);
        let meant: [Mailbox; 2] = [&made.sender, &recipient].map(|it| it.parse().unwrap());
        for (line, (read, meant)) in [mail, rcpt].iter().zip(read.iter().zip(&meant)) {
            assert!(read.same_mailbox(meant), "{meant}: {line}");
            // Byte for byte but where only quotes can hold it.
            let as_it_came = line.contains(&format!(":<{meant}>"));
            let quoted = line.contains(&format!(":<\"{}", &meant.local_part()[..1]));
            assert!(as_it_came || quoted, "{meant}: {line}");
        }

        let (text, to) = report(&envelope);
        assert_eq!(to.as_str(), made.sender);
        if recipient.is_ascii() {
            let field = format!("Final-Recipient: rfc822; {recipient}\r\n");
            // Behind it, the rest may be base64 where the sender is beyond ASCII.
            assert!(text.contains(&field), "{field}{text}");
        }
    }
}

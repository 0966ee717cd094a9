//! Debian's Postfix as the MX: what it has accepted, it can hand over.

use dd_proto::path::Mailbox;
use dd_tests::addresses::made;
use dd_tests::postfix::Postfix;
use dd_tests::site::Received;
use dd_tests::submit::{Client, Protocol, message};
use dd_tests::world::World;

/// Sent to the MX, and taken by it.
struct Taken {
    subject: String,
    sender: String,
    recipient: String,
}

#[test]
fn an_mx_bounces_none_of_the_addresses_that_it_has_accepted() {
    let world = World::start();
    let home = world.home("home", &["--retry", "1s"]);
    let listeners = world.listeners();
    let by_lmtp = Postfix::feeder(world.path(), "home.example", listeners.lmtp);
    let by_smtp = Postfix::relay(world.path(), "home.example", listeners.smtp, None);

    let mut taken = hand_in(&by_lmtp, 0..80, "lmtp");
    taken.extend(hand_in(&by_smtp, 80..160, "smtp"));
    assert!(taken.len() >= 60, "the MX took {} only", taken.len());

    let received = home.received(taken.len());
    for mx in [&by_lmtp, &by_smtp] {
        let log = mx.log();
        let lost =
            |line: &&str| line.contains("status=bounced") || line.contains("status=deferred");
        let lost: Vec<&str> = log.lines().filter(lost).collect();
        assert!(lost.is_empty(), "{lost:#?}");
    }
    for sent in &taken {
        arrived(&received, sent);
    }
}

/// With the same mailboxes on its envelope. Postfix itself reads brackets as a comment, so that those are not compared.
fn arrived(received: &[Received], sent: &Taken) {
    let subject = format!("Subject: {}\r\n", sent.subject);
    let is_it = |it: &&Received| dd_tests::site::contains(&it.content, subject.as_bytes());
    let message = received.iter().find(is_it);
    let message = message.unwrap_or_else(|| panic!("{} -> {}", sent.sender, sent.recipient));
    let pairs = [
        (&message.mail, &sent.sender),
        (&message.recipients[0], &sent.recipient),
    ];
    for (argument, address) in pairs {
        let (path, _) = dd_proto::smtp::path::reverse_path(argument).unwrap();
        let path: Mailbox = path.as_str().parse().unwrap();
        let same = path.same_mailbox(&address.parse().unwrap());
        assert!(
            same || address.contains('('),
            "{address} came as {argument}"
        );
    }
}

fn hand_in(mx: &Postfix, numbers: std::ops::Range<usize>, prefix: &str) -> Vec<Taken> {
    let mut taken = Vec::new();
    for (number, made) in made(numbers).into_iter().enumerate() {
        let recipient = format!("{}@home.example", made.local_part);
        if !(made.sender.is_ascii() && recipient.is_ascii()) {
            continue;
        }
        let mut client = Client::connect(mx.address(), Protocol::Smtp);
        let mail = client.say(&format!("MAIL FROM:<{}>", made.sender));
        let rcpt = client.say(&format!("RCPT TO:<{recipient}>"));
        if mail.code != 250 || rcpt.code != 250 {
            continue;
        }
        let subject = format!("{prefix}-{number}");
        let reply = client.data(&message(&subject));
        assert_eq!(reply.code, 250, "{}", reply.text);
        taken.push(Taken {
            subject,
            sender: made.sender,
            recipient,
        });
    }
    taken
}

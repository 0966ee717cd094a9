//! Reports as they are sent, kept as golden files, and read again by a parser that is not ours.

use dd_proto::envelope::{Body, Encoding, Envelope, Ret};
use dd_proto::id::{MessageId, RecipientNumber};
use dd_proto::path::ReversePath;
use dd_proto::report::{Reply, Told};
use insta::assert_snapshot;
use jiff::Timestamp;
use mail_parser::{Message, MessageParser, MimeHeaders as _, PartType};
use proptest::prelude::*;

use super::notice::{Language, Notice};
use super::samples::{envelope, notifier};
use super::whether::{Fate, What};
use super::*;
use crate::outages::judge::Why;

const CONTENT: &[u8] = b"Received: from feeder\r\nMessage-ID: <one@elsewhere.example>\r\n\
    Subject: one\r\n\r\nHello.\r\n";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn fate(number: u16, what: What, reply: Option<(u16, &str, &str)>) -> Fate {
    Fate {
        number: RecipientNumber(number),
        what,
        reply: reply.map(|(code, enhanced, text)| Reply {
            code,
            enhanced: enhanced.to_owned(),
            text: text.to_owned(),
        }),
    }
}

fn moment(space: Space) -> Moment {
    Moment {
        now: at("2026-11-24T20:00:00Z"),
        since_start: Duration::from_secs(86_400),
        space,
    }
}

fn report(
    envelope: &Envelope,
    fates: &[Fate],
    content: &[u8],
    space: Space,
) -> Option<Notification> {
    let about = About {
        id: MessageId::from_bytes([7; 16]),
        envelope,
        arrived: at("2026-11-24T19:59:00Z"),
        content,
        bytes: content.len() as u64,
        peer: Some("192.0.2.7:25"),
    };
    notifier().report(&about, fates, moment(space), [9; 10])
}

fn sent(envelope: &Envelope, fates: &[Fate], content: &[u8]) -> Notification {
    report(envelope, fates, content, Space::Enough).unwrap()
}

/// As in the file: with line feeds only, which is checked to lose nothing.
fn shown(report: &Notification) -> String {
    let text = String::from_utf8(report.content.to_vec()).unwrap();
    assert!(
        !text.replace("\r\n", "").contains(['\r', '\n']),
        "a bare CR or LF"
    );
    assert!(
        text.split("\r\n").all(|line| line.len() <= 998),
        "a long line"
    );
    let envelope = &report.envelope;
    assert_eq!(envelope.reverse_path, ReversePath::Null);
    assert_eq!(envelope.body == Body::SevenBit, text.is_ascii());
    text.replace("\r\n", "\n")
}

/// The kinds of the three parts, with their contents decoded.
fn parts(message: &Message<'_>) -> Vec<(String, Vec<u8>)> {
    let kind = |id: u32| {
        let part = &message.parts[id as usize];
        let kind = part.content_type().unwrap();
        let kind = format!("{}/{}", kind.ctype(), kind.subtype().unwrap());
        let content = match &part.body {
            PartType::Message(inner) => inner.raw_message().to_vec(),
            _ => part.contents().to_vec(),
        };
        (kind, content)
    };
    let PartType::Multipart(ids) = &message.root_part().body else {
        panic!("no multipart");
    };
    ids.iter().map(|id| kind(*id)).collect()
}

fn read(report: &Notification) -> Vec<(String, Vec<u8>)> {
    let message = MessageParser::default().parse(&report.content[..]).unwrap();
    let kind = message.content_type().unwrap();
    assert_eq!(kind.subtype(), Some("report"));
    assert_eq!(kind.attribute("report-type"), Some("delivery-status"));
    assert!(message.header("Auto-Submitted").is_some());
    parts(&message)
}

#[test]
fn a_failure_of_one_of_two_recipients() {
    let mut envelope = envelope(&["anna@home.example", "bert@home.example"]);
    envelope.envid = Some("QQ+2B1".to_owned());
    envelope.recipients[1].orcpt = Some("rfc822;bert+2Bold@there.example".to_owned());
    let fates = [
        fate(
            0,
            What::Relayed(Told::NotPassedOn),
            Some((250, "2.0.0", "ok")),
        ),
        fate(1, What::Failed, Some((550, "5.1.1", "no such user"))),
    ];
    let report = sent(&envelope, &fates, CONTENT);
    assert_eq!(
        report.envelope.recipients[0].path.as_str(),
        "sender@elsewhere.example"
    );
    assert_snapshot!(shown(&report));
    let parts = read(&report);
    assert_eq!(parts[2], ("message/rfc822".to_owned(), CONTENT.to_vec()));
}

#[test]
fn a_delay() {
    let envelope = envelope(&["anna@home.example", "bert@home.example"]);
    let late = What::Delayed {
        until: at("2026-12-08T19:59:00Z"),
    };
    let fates = [
        fate(0, late, Some((450, "4.2.2", "mailbox full"))),
        fate(
            1,
            late,
            Some((0, "", "home.dyn.example:25: connection refused")),
        ),
    ];
    let report = sent(&envelope, &fates, CONTENT);
    assert_snapshot!(shown(&report));
    assert_eq!(read(&report)[2].0, "text/rfc822-headers");
}

#[test]
fn relayed_where_success_was_asked_for() {
    let mut envelope = envelope(&["anna@home.example"]);
    envelope.recipients[0].notify = Some("SUCCESS".to_owned());
    let fates = [fate(
        0,
        What::Relayed(Told::NotPassedOn),
        Some((250, "", "ok")),
    )];
    assert_snapshot!(shown(&sent(&envelope, &fates, CONTENT)));
}

#[test]
fn expired_and_given_up() {
    let envelope = envelope(&["anna@home.example", "bert@home.example"]);
    let fates = [
        fate(
            0,
            What::Expired,
            Some((0, "", "home.dyn.example:25: timed out")),
        ),
        fate(1, What::GivenUp, None),
    ];
    assert_snapshot!(shown(&sent(&envelope, &fates, CONTENT)));
}

#[test]
fn failed_and_relayed_in_one_report() {
    let mut envelope = envelope(&["anna@home.example", "bert@home.example"]);
    envelope.recipients[0].notify = Some("SUCCESS,FAILURE".to_owned());
    let fates = [
        fate(
            0,
            What::Relayed(Told::NotPassedOn),
            Some((250, "2.1.5", "ok")),
        ),
        fate(1, What::Failed, Some((554, "", "no"))),
    ];
    assert_snapshot!(shown(&sent(&envelope, &fates, CONTENT)));
}

const UTF8_CONTENT: &[u8] = "Message-ID: <zwei@elsewhere.example>\r\nSubject: Gr\u{fc}\u{df}e\r\n\
    \r\nHallo J\u{f6}rg.\r\n"
    .as_bytes();

fn utf8(sender: &str) -> Envelope {
    let mut envelope = envelope(&["j\u{f6}rg@home.example"]);
    envelope.reverse_path = sender.parse().unwrap();
    envelope.encoding = Encoding::Utf8;
    envelope.recipients[0].orcpt = Some("utf-8;j\u{f6}rg@there.example".to_owned());
    envelope
}

#[test]
fn to_a_sender_in_ascii_about_a_message_that_is_not() {
    let fates = [fate(
        0,
        What::Failed,
        Some((550, "5.1.1", "unbekannt: J\u{f6}rg")),
    )];
    let report = sent(&utf8("sender@elsewhere.example"), &fates, UTF8_CONTENT);
    assert!(
        report.content.is_ascii(),
        "no relay on the way needs SMTPUTF8, nor eight bits"
    );
    assert_eq!(report.envelope.encoding, Encoding::Ascii);
    assert_snapshot!(shown(&report));
    let parts = read(&report);
    assert_eq!(
        parts[2],
        ("message/global".to_owned(), UTF8_CONTENT.to_vec())
    );
}

#[test]
fn to_a_sender_that_is_not_in_ascii() {
    let fates = [fate(
        0,
        What::Failed,
        Some((550, "5.1.1", "unbekannt: J\u{f6}rg")),
    )];
    let report = sent(&utf8("m\u{fc}ller@elsewhere.example"), &fates, UTF8_CONTENT);
    assert_eq!(report.envelope.encoding, Encoding::Utf8);
    assert_snapshot!(shown(&report));
    let parts = read(&report);
    assert_eq!(parts[1].0, "message/global-delivery-status");
    assert_eq!(
        parts[2],
        ("message/global".to_owned(), UTF8_CONTENT.to_vec())
    );
}

#[test]
fn eight_bits_of_an_ascii_envelope_come_back_as_they_are() {
    let envelope = envelope(&["anna@home.example"]);
    let fates = [fate(0, What::Failed, Some((550, "", "no")))];
    let report = sent(&envelope, &fates, UTF8_CONTENT);
    assert_eq!(report.envelope.body, Body::EightBitMime);
    let parts = read(&report);
    assert_eq!(
        parts[2],
        ("message/rfc822".to_owned(), UTF8_CONTENT.to_vec())
    );
}

#[test]
fn the_header_alone_goes_back_where_it_is_asked_for_or_the_rest_does_not_fit() {
    let failed = [fate(0, What::Failed, Some((550, "", "no")))];
    let plain = envelope(&["anna@home.example"]);
    let header =
        b"Received: from feeder\r\nMessage-ID: <one@elsewhere.example>\r\nSubject: one\r\n";
    let asked = Envelope {
        ret: Some(Ret::Headers),
        ..plain.clone()
    };
    let large = [CONTENT, &b"x\r\n".repeat(MAX_RETURNED / 3)].concat();
    for (envelope, content, space) in [
        (&asked, CONTENT, Space::Enough),
        (&plain, &large[..], Space::Enough),
        (&plain, CONTENT, Space::Short),
    ] {
        let report = report(envelope, &failed, content, space).unwrap();
        let parts = read(&report);
        assert_eq!(parts[2].0, "text/rfc822-headers");
        assert_eq!(parts[2].1.trim_ascii_end(), header.trim_ascii_end());
    }
    let full = Envelope {
        ret: Some(Ret::Full),
        ..plain.clone()
    };
    assert_eq!(read(&sent(&full, &failed, CONTENT))[2].0, "message/rfc822");
    assert_eq!(read(&sent(&plain, &failed, b"")).len(), 2);
}

#[test]
fn what_a_hostile_site_says_stays_inside_its_field() {
    let envelope = envelope(&["anna@home.example"]);
    let text = "no\r\n\r\n--boundary\r\nAction: delivered\0\x1b[31m \u{202e}evil ".repeat(50);
    let report = sent(
        &envelope,
        &[fate(0, What::Failed, Some((550, "5.1.1", &text)))],
        CONTENT,
    );
    let parts = read(&report);
    assert_eq!(parts.len(), 3);
    let status = String::from_utf8(parts[1].1.clone()).unwrap();
    assert_eq!(
        status
            .lines()
            .filter(|line| line.starts_with("Action:"))
            .count(),
        1
    );
    assert!(
        !report.content.iter().any(|b| matches!(b, 0 | 0x1b)),
        "{status}"
    );
}

#[test]
fn a_report_about_a_thousand_recipients_is_bounded() {
    let paths: Vec<String> = (0..1000)
        .map(|n| format!("{}{n}@home.example", "x".repeat(60)))
        .collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let envelope = envelope(&paths);
    let reply = "\u{e4} long story ".repeat(150);
    let fates: Vec<Fate> = (0..1000)
        .map(|n| fate(n, What::Failed, Some((550, "5.1.1", &reply))))
        .collect();
    let report = sent(&envelope, &fates, &b"Subject: x\r\n".repeat(5000));
    assert!(report.content.len() < 700_000, "{}", report.content.len());
}

#[test]
fn a_sender_over_the_cap_is_told_later_and_never_not() {
    let envelope = envelope(&["anna@home.example"]);
    let fates = [fate(0, What::Failed, None)];
    let about = About {
        id: MessageId::from_bytes([7; 16]),
        envelope: &envelope,
        arrived: at("2026-11-24T19:59:00Z"),
        content: CONTENT,
        bytes: CONTENT.len() as u64,
        peer: None,
    };
    let notifier = notifier();
    let all: Vec<_> = (0..30)
        .map(|n| {
            notifier
                .report(&about, &fates, moment(Space::Enough), [n; 10])
                .unwrap()
        })
        .collect();
    let put_off = all.iter().filter(|it| it.not_before.is_some()).count();
    assert_eq!(put_off, 30 - cap::BURST as usize);
    let counters = notifier.counters();
    assert_eq!((counters.failed, counters.capped), (30, put_off as u64));
}

#[test]
fn a_contact_is_told_in_their_language() {
    let mut site = smarthost::site(None, dd_proto::id::SiteVersion(1), Timestamp::UNIX_EPOCH);
    site.name = "home".parse().unwrap();
    let refuses = notice::What::RefusesEverything {
        reply: "550 5.7.1 relaying\u{1b}[0m denied".to_owned(),
    };
    let notice = |language, what: &notice::What| Notice {
        language,
        what: what.clone(),
    };
    let now = at("2026-11-24T20:00:00Z");
    let send = |site: &Site, language, what| {
        notifier().notice(site, &notice(language, what), now, [9; 10])
    };
    assert!(
        send(&site, Language::German, &refuses).is_none(),
        "nobody to tell"
    );
    site.contact = Some("anna@there.example".parse().unwrap());
    let ends = notice::What::CertificateEnds {
        at: at("2026-12-24T00:00:00Z"),
    };
    let (since, until) = (at("2026-11-24T13:58:00Z"), at("2026-11-24T20:30:00Z"));
    let away = |why| notice::What::Away {
        why,
        since,
        messages: 12,
        bytes: 3 << 20,
        detail: "192.0.2.7:25 does not answer".to_owned(),
    };
    let flows = notice::What::FlowsAgain { since, until };
    for (name, language, what) in [
        ("down_both", Language::Unknown, &away(Why::Down)),
        ("wrong_host_en", Language::English, &away(Why::WrongHost)),
        ("turned_away_de", Language::German, &away(Why::Refuses)),
        ("flows_again_de", Language::German, &flows),
        ("flows_again_en", Language::English, &flows),
        ("refuses_en", Language::English, &refuses),
        ("refuses_both", Language::Unknown, &refuses),
        ("certificate_de", Language::German, &ends),
    ] {
        let sent = send(&site, language, what).unwrap();
        assert_eq!(sent.envelope.reverse_path, ReversePath::Null);
        let Content::Inline(content) = sent.content else {
            panic!("it is small")
        };
        let message = MessageParser::default().parse(&content[..]).unwrap();
        let text = message.body_text(0).unwrap().replace("\r\n", "\n");
        assert_snapshot!(name, format!("{}\n\n{text}", message.subject().unwrap()));
    }
}

#[test]
fn nobody_is_told_through_the_site_that_it_takes_no_mail() {
    let mut site = smarthost::site(None, dd_proto::id::SiteVersion(1), Timestamp::UNIX_EPOCH);
    site.domains = ["home.example".parse().unwrap()].into();
    let now = at("2026-11-24T20:00:00Z");
    let told = |site: &Site, what| {
        let language = Language::Unknown;
        let notice = Notice { language, what };
        notifier().notice(site, &notice, now, [9; 10]).is_some()
    };
    let refuses = || notice::What::RefusesEverything {
        reply: String::new(),
    };
    let away = || notice::What::Away {
        why: Why::Down,
        since: now,
        messages: 1,
        bytes: 1,
        detail: String::new(),
    };
    for (contact, is_told) in [
        ("anna@home.example", false),
        ("anna@HOME.example", false),
        ("anna@there.example", true),
    ] {
        site.contact = Some(contact.parse().unwrap());
        assert_eq!(told(&site, refuses()), is_told, "{contact}");
        assert_eq!(told(&site, away()), is_told, "{contact}");
        // It still takes mail.
        assert!(told(&site, notice::What::CertificateEnds { at: now }));
    }
}

proptest! {
    #[test]
    fn whatever_is_said_a_report_has_its_parts_and_no_bare_line_end(
        text in any::<String>(),
        orcpt in "[!-~]{0,60}",
        content in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut envelope = envelope(&["anna@home.example"]);
        envelope.recipients[0].orcpt = Some(format!("rfc822;{orcpt}"));
        let fates = [fate(0, What::Failed, Some((550, "", &text)))];
        // Intake lets neither a bare CR or LF nor NUL in.
        let content: Vec<u8> = content.into_iter().filter(|b| !matches!(b, 0 | b'\r' | b'\n')).collect();
        let content = [b"Subject: x\r\n\r\n", &content[..], b"\r\n"].concat();
        let report = sent(&envelope, &fates, &content);
        let all = String::from_utf8_lossy(&report.content).replace("\r\n", "");
        prop_assert!(!all.contains(['\r', '\n', '\0']));
        let parts = read(&report);
        prop_assert_eq!(parts.len(), 3);
        prop_assert_eq!(&parts[2].1, &content);
        let status = String::from_utf8_lossy(&parts[1].1).into_owned();
        let actions = status.lines().filter(|line| line.starts_with("Action:")).count();
        prop_assert_eq!(actions, 1);
    }
}

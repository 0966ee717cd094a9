//! Each rule of the contract, broken once.

use super::*;
use dd_proto::envelope::{Body, Encoding, Envelope, Recipient};
use dd_proto::id::{DeliveryId, Generation, MessageId, RecipientNumber, SiteVersion};
use dd_proto::site::{Certified, Proof, Site};

use crate::dispatch::{Assignment, Order};

fn site() -> Site {
    let mut site = crate::inflow::closed(&"home.example".parse().unwrap());
    site.name = "home".parse().unwrap();
    site.version = SiteVersion(7);
    site.hosts = vec![dd_proto::site::Host {
        name: dd_proto::site::HostName::Dns("home.dyn.example".parse().unwrap()),
        port: 25.try_into().unwrap(),
    }];
    site.proof = Proof::Certificate(Certified {
        authority: "member-ca".parse().unwrap(),
        name: "home.example".parse().unwrap(),
    });
    site
}

fn lease() -> Lease {
    Lease {
        delivery: DeliveryId {
            message: MessageId::new(1_700_000_000_000, [7; 10]),
            site: "home".parse().unwrap(),
        },
        generation: Generation {
            start: 3,
            counter: 9,
        },
    }
}

/// A stream that was given two recipients of a message, under a plan with a certificate.
fn door() -> Door {
    let recipient = |number| Recipient {
        number: RecipientNumber(number),
        path: "me@home.example".parse().unwrap(),
        notify: None,
        orcpt: None,
    };
    let door = Door::default();
    door.gave(&Order::Plan(site().into()));
    door.gave(&Order::Assign(Box::new(Assignment {
        lease: lease(),
        version: SiteVersion(7),
        envelope: Envelope {
            reverse_path: "a@b.example".parse().unwrap(),
            body: Body::SevenBit,
            encoding: Encoding::Ascii,
            ret: None,
            envid: None,
            recipients: vec![recipient(1), recipient(3)],
            client: None,
        },
        bytes: 1,
        content: None,
        in_doubt: false,
        fresh: false,
    })));
    door
}

fn answer(number: u32, disposition: pb::Disposition, code: u32) -> pb::RecipientResult {
    pb::RecipientResult {
        number,
        disposition: disposition.into(),
        reply: Some(pb::Reply {
            code,
            ..pb::Reply::default()
        }),
        dsn_passed_on: false,
        not_asked: false,
    }
}

fn observed() -> pb::Observed {
    pb::Observed {
        host: "home.dyn.example:25".to_owned(),
        peer: "192.0.2.1:25".to_owned(),
        proof: "certificate".to_owned(),
        tls_version: "TLSv1.3".to_owned(),
        certificate: Some(pb::PeerCertificate::default()),
        ..pb::Observed::default()
    }
}

fn good() -> pb::Report {
    use pb::Disposition as D;
    pb::Report {
        lease: Some(lease().into()),
        session: 4,
        outcome: pb::Outcome::Transacted.into(),
        observed: Some(observed()),
        recipients: vec![answer(1, D::Relayed, 250), answer(3, D::Failed, 550)],
        dot_sent: true,
        at_ms: 1_700_000_000_000,
        ..pb::Report::default()
    }
}

fn said(report: pb::Report) -> Result<(), Contradiction> {
    door().judge(&mut Event::Report(Box::new(report)))
}

type Change = fn(&mut pb::Report);

#[test]
fn a_report_that_contradicts_itself_or_its_assignment_is_refused_by_event_lease_and_field() {
    use pb::Disposition as D;
    use pb::Outcome as O;
    let rows: &[(Change, &str)] = &[
        (
            |it| it.recipients[1].reply = None,
            ", recipient 3: reply is missing",
        ),
        (
            |it| it.recipients[0] = answer(1, D::Relayed, 550),
            ", recipient 1: disposition is RELAYED, and the reply is 550, no 2yz",
        ),
        (
            |it| it.recipients[1] = answer(3, D::Failed, 450),
            ", recipient 3: disposition is FAILED, and the reply is 450, no 5yz",
        ),
        (
            |it| {
                it.recipients[1] = answer(3, D::Deferred, 450);
                it.recipients[1].not_asked = true;
            },
            ", recipient 3: disposition is no FAILED, and not_asked is true: what a site was not asked cannot be tried again",
        ),
        (
            |it| it.recipients[1] = answer(3, D::Deferred, 250),
            ", recipient 3: disposition is DEFERRED, and the reply is 250, no 4yz or 5yz",
        ),
        (
            |it| it.recipients[1] = answer(3, D::Failed, 99_999),
            ", recipient 3: reply.code is 99999, which is no reply: expected 200 to 599",
        ),
        (
            |it| it.recipients[1] = answer(3, D::Unspecified, 550),
            ", recipient 3: disposition is missing, or a name that is spelt wrong",
        ),
        (
            |it| it.recipients[1] = answer(1, D::Failed, 550),
            ", recipient 1: number is named twice",
        ),
        (
            |it| it.recipients[1] = answer(2, D::Failed, 550),
            ", recipient 2: number was not in the assignment",
        ),
        (
            |it| it.recipients.clear(),
            ": recipients is empty: OUTCOME_TRANSACTED says what each recipient was answered",
        ),
        (
            |it| it.dot_sent = false,
            ", recipient 1: disposition is RELAYED, and no dot was sent: dot_sent is false, and no DotSent came",
        ),
        (
            |it| it.outcome = 0,
            ": outcome is missing, or a name that is spelt wrong",
        ),
        (
            |it| it.outcome = O::Broken.into(),
            ": outcome is OUTCOME_BROKEN, and a recipient is RELAYED: that is OUTCOME_TRANSACTED",
        ),
        (
            |it| {
                it.outcome = O::Broken.into();
                it.recipients.remove(0);
            },
            ": outcome is OUTCOME_BROKEN, and dot_sent is true: what ends behind the dot without an answer is OUTCOME_IN_DOUBT",
        ),
        (|it| it.observed = None, ": observed.proof is missing"),
        (
            |it| it.observed.as_mut().unwrap().proof = "port".to_owned(),
            ": observed.proof is `port`, and the plan's is `certificate`",
        ),
        (
            |it| it.observed.as_mut().unwrap().host = "203.0.113.5:25".to_owned(),
            ": observed.host is `203.0.113.5:25`, which is no host of the plan",
        ),
        (
            |it| it.observed.as_mut().unwrap().peer.clear(),
            ": observed.peer is missing",
        ),
    ];
    assert!(said(good()).is_ok());
    for (change, expected) in rows {
        let mut report = good();
        change(&mut report);
        let refused = said(report).expect_err(expected);
        let expected = format!("{}{expected}", whose_report());
        assert_eq!(refused.fault.to_string(), expected);
        assert_eq!(
            refused.dot,
            Some(Box::new(lease())),
            "its dot may have gone out: {expected}"
        );
    }
}

fn whose_report() -> String {
    format!("report of {}/home", lease().delivery.message)
}

#[test]
fn a_home_that_is_lost_behind_some_of_its_answers_leaves_the_others_in_doubt() {
    let mut report = good();
    report.outcome = pb::Outcome::InDoubt.into();
    assert!(said(report.clone()).is_ok());
    report.dot_sent = false;
    assert!(said(report).is_err());
}

#[test]
fn what_cannot_have_sent_a_dot_is_not_in_doubt() {
    let mut report = good();
    report.outcome = pb::Outcome::Unreachable.into();
    report.dot_sent = false;
    report.recipients = vec![answer(9, pb::Disposition::Failed, 550)];
    let refused = said(report.clone()).expect_err("9 was not assigned");
    assert_eq!(refused.dot, None);
    // But for a dot that was told.
    let door = door();
    let dot = pb::DotSent {
        lease: Some(lease().into()),
        recipients: vec![1],
    };
    assert!(door.judge(&mut Event::DotSent(dot)).is_ok());
    let refused = door.judge(&mut Event::Report(Box::new(report)));
    assert_eq!(
        refused.expect_err("9 was not assigned").dot,
        Some(Box::new(lease()))
    );
}

#[test]
fn what_was_not_given_on_this_stream_is_judged_by_itself() {
    let mut report = good();
    report.observed = None;
    report.recipients.truncate(1);
    let mut event = Event::Report(Box::new(report.clone()));
    assert!(Door::default().judge(&mut event).is_ok());
    let door = door();
    assert!(door.judge(&mut Event::Report(Box::new(good()))).is_ok());
    // The assignment has ended with it.
    assert!(door.judge(&mut Event::Report(Box::new(report))).is_ok());
}

#[test]
fn what_a_newer_agent_calls_an_outcome_ends_no_stream() {
    let mut report = good();
    report.outcome = 77;
    report.recipients.truncate(1);
    assert!(said(report).is_ok());
}

#[test]
fn a_recipient_beyond_a_limit_is_open_and_ends_no_stream() {
    let mut report = good();
    report.recipients.truncate(1);
    assert!(said(report).is_ok());
}

#[test]
fn a_proof_is_one_of_the_plan() {
    type Change = fn(&mut pb::Observed);
    let rows: &[(Change, &str)] = &[
        (
            |it| it.host = "203.0.113.5:25".to_owned(),
            "observed.host is `203.0.113.5:25`, which is no host of the plan",
        ),
        (|it| it.host.clear(), "observed.host is missing"),
        (|it| it.proof.clear(), "observed.proof is missing"),
        (
            |it| it.proof = "port".to_owned(),
            "observed.proof is `port`, and the plan's is `certificate`",
        ),
        (
            |it| it.tls_version.clear(),
            "observed.tls_version is empty, and the proof `certificate` rests on TLS",
        ),
        (
            |it| it.refusal = Some(pb::Refusal::default()),
            "observed.refusal is there, so nothing was proved: that is OUTCOME_WRONG_HOST",
        ),
    ];
    let prove = |observed| {
        door().judge(&mut Event::Proved(Box::new(pb::Proved {
            site: "home".to_owned(),
            session: 4,
            observed: Some(observed),
        })))
    };
    assert!(prove(observed()).is_ok());
    // A fingerprint is proved by certificates of which nothing else can be read.
    let mut unreadable = observed();
    unreadable.certificate = None;
    assert!(prove(unreadable).is_ok());
    for (change, expected) in rows {
        let mut observed = observed();
        change(&mut observed);
        let refused = prove(observed).expect_err(expected).fault.to_string();
        assert_eq!(refused, format!("proved of session 4 at home: {expected}"));
    }
}

#[test]
fn a_static_address_is_one_of_the_plan() {
    let mut site = site();
    site.proof = Proof::StaticIp {
        addresses: ["192.0.2.1".parse().unwrap()].into(),
        certificate: None,
    };
    let mut seen = observed();
    seen.proof = "static-ip".to_owned();
    seen.tls_version.clear();
    // Behind NAT64 an IPv4 host is reached by an address that wraps its own (RFC 6052).
    for peer in [
        "192.0.2.1:25",
        "[64:ff9b::c000:201]:25",
        "[::ffff:192.0.2.1]:25",
    ] {
        seen.peer = peer.to_owned();
        assert_eq!(seen::proves(&seen, &site), Ok(()), "{peer}");
    }
    seen.peer = "198.51.100.1:25".to_owned();
    let refused = seen::proves(&seen, &site).unwrap_err();
    assert_eq!(
        refused.says,
        "is 198.51.100.1:25, which is none of the plan's addresses"
    );
}

#[test]
fn a_journal_with_a_contradiction_keeps_no_agent_from_its_work() {
    assert!(matches!(journaled(good()), Ok(Journaled::Report(_))));
    let mut relayed = good();
    relayed.recipients[0] = answer(1, pb::Disposition::Relayed, 550);
    match journaled(relayed) {
        Ok(Journaled::InDoubt(dot, fault)) => {
            assert_eq!(dot.lease, lease());
            assert!(fault.to_string().starts_with(&whose_report()), "{fault}");
        }
        other => panic!("{other:?}"),
    }
    let mut nothing = good();
    (nothing.outcome, nothing.dot_sent) = (pb::Outcome::Busy.into(), false);
    nothing.recipients = vec![answer(1, pb::Disposition::Failed, 250)];
    match journaled(nothing) {
        Ok(Journaled::Nothing(report, _)) => {
            assert_eq!(report.outcome, Outcome::AgentTrouble);
            assert!(report.recipients.is_empty());
        }
        other => panic!("{other:?}"),
    }
    let mut whose = good();
    whose.lease = None;
    assert_eq!(
        journaled(whose).unwrap_err().to_string(),
        "report: lease is missing"
    );
}

#[test]
fn a_second_hello_comes_too_late() {
    let fault = not_understood(&about(&Event::Hello(pb::Hello::default())), "hello");
    assert_eq!(
        fault.to_string(),
        "hello: hello comes too late: it belongs before HelloEnd"
    );
}

//! Every state of a session with every input: what follows, what is sent, what it comes to.
//!
//! The rows stand in `golden/session-transitions.txt`. A change shows as a difference; the message of the failed test
//! says how to take it over.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use dd_agent::session::{AskTls, Established, Lost, Next, Opening, Transaction, TransactionWant};
use dd_proto::envelope::Envelope;
use dd_proto::site::Way;
use dd_proto::smtp::auth::Login;

use super::support::{HELO, NOW, envelope, handshake, seen, terms};

static MESSAGE: LazyLock<Arc<Envelope>> =
    LazyLock::new(|| Arc::new(envelope("a@b.example -> c@home.example, d@home.example")));

/// One thing that happens to a session. A bare code is a one-line reply.
type Input = &'static str;

const FROM_THE_SERVER: &[Input] = &[
    "220",
    "250",
    "354",
    "421",
    "450",
    "552",
    "554",
    "malformed",
    "over-long",
    "early",
    "closed",
    "silent",
];
const OPENING_ONLY: &[Input] = &[
    "250 STARTTLS",
    "TLS ok",
    "TLS ok-other-name",
    "TLS UnknownIssuer",
];
const TRANSACTION_ONLY: &[Input] = &["content", "content ended", "dot", "dot ahead", "give up"];

/// (Proof, what leads to the state.)
const OPENINGS: &[(&str, &[Input])] = &[
    ("certificate", &[]),
    ("certificate", &["220"]),
    ("certificate", &["220", "250 STARTTLS"]),
    ("certificate", &["220", "250 STARTTLS", "220"]),
    ("certificate", &["220", "250 STARTTLS", "220", "TLS ok"]),
    (
        "certificate",
        &["220", "250 STARTTLS", "220", "TLS ok", "250"],
    ),
    ("certificate", &["554"]),
    ("static-ip", &[]),
    ("static-ip", &["220"]),
    ("static-ip", &["220", "554"]),
    ("static-ip", &["220", "250 STARTTLS"]),
    ("static-ip", &["220", "250 STARTTLS", "220"]),
    ("static-ip", &["220", "250 STARTTLS", "220", "TLS ok"]),
    ("static-ip", &["220", "250"]),
    ("static-ip", &["554"]),
    ("static-ip-elsewhere", &[]),
    ("static-ip-elsewhere", &["220"]),
    ("port", &[]),
    ("port", &["220"]),
    ("certificate on connect", &[]),
    ("certificate on connect", &["TLS ok"]),
    ("certificate on connect", &["TLS ok", "220"]),
    ("static-ip on connect", &[]),
    ("static-ip on connect", &["TLS ok"]),
    (
        "certificate with a login",
        &["220", "250 STARTTLS", "220", "TLS ok"],
    ),
    (
        "certificate with a login",
        &["220", "250 STARTTLS", "220", "TLS ok", "250 AUTH"],
    ),
    (
        "certificate with a login",
        &["220", "250 STARTTLS", "220", "TLS ok", "250 AUTH", "334"],
    ),
    (
        "certificate with a login",
        &[
            "220",
            "250 STARTTLS",
            "220",
            "TLS ok",
            "250 AUTH",
            "334",
            "334",
        ],
    ),
];

/// What the EHLO offers, and what leads to the state. The message goes to two recipients.
const TRANSACTIONS: &[(&str, &[Input])] = &[
    ("nothing", &[]),
    ("nothing", &["250"]),
    ("nothing", &["250", "250"]),
    ("nothing", &["250", "450"]),
    ("nothing", &["250", "554"]),
    ("nothing", &["250", "250", "250"]),
    ("nothing", &["250", "450", "250"]),
    ("nothing", &["250", "554", "250"]),
    ("nothing", &["250", "250", "250", "354"]),
    ("nothing", &["250", "250", "250", "354", "content ended"]),
    (
        "nothing",
        &["250", "250", "250", "354", "content ended", "dot"],
    ),
    (
        "nothing",
        &["250", "450", "250", "354", "content ended", "dot"],
    ),
    (
        "nothing",
        &["250", "554", "250", "354", "content ended", "dot"],
    ),
    (
        "nothing",
        &["250", "250", "250", "354", "content ended", "dot", "250"],
    ),
    ("PIPELINING", &[]),
    ("PIPELINING", &["250", "554", "450"]),
    ("PIPELINING", &["250", "554", "450", "354"]),
    ("PIPELINING", &["250", "250", "250", "354", "content ended"]),
    (
        "PIPELINING",
        &["250", "250", "250", "354", "content ended", "dot ahead"],
    ),
    ("sent ahead", &[]),
    ("sent ahead", &["250", "554"]),
    ("sent ahead", &["250", "554", "450"]),
    ("a message before", &[]),
];

/// The bytes of an input that is bytes. `early` is the expected answer with another behind it.
fn bytes(input: Input, state: &str) -> Option<Vec<u8>> {
    let expected = match state {
        "Greeting" | "GreetingInTls" | "Securing" => "220",
        "Data" => "354",
        _ => "250",
    };
    match input {
        "malformed" => Some(b"what?\r\n".to_vec()),
        "over-long" => Some([b"250 ".as_slice(), &[b'a'; 100_000], b"\r\n"].concat()),
        "early" => Some(format!("{expected} home\r\n250 more\r\n").into_bytes()),
        "250 AUTH" => Some(b"250-home\r\n250 AUTH LOGIN\r\n".to_vec()),
        "250 STARTTLS" => Some(b"250-home\r\n250 STARTTLS\r\n".to_vec()),
        code if code.parse::<u16>().is_ok() => Some(format!("{code} home\r\n").into_bytes()),
        _ => None,
    }
}

/// The first word of each line.
fn verbs(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let verbs: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    if verbs.is_empty() {
        "-".to_owned()
    } else {
        verbs.join(",")
    }
}

fn lost(input: Input) -> Option<Lost> {
    match input {
        "closed" => Some(Lost::Closed),
        "silent" => Some(Lost::TimedOut),
        _ => None,
    }
}

fn step_opening(opening: &mut Opening, input: Input) {
    if let Some(bytes) = bytes(input, opening.state_name()) {
        opening.received(&bytes, NOW());
    } else if let Some(lost) = lost(input) {
        opening.lost(lost, NOW());
    } else {
        let word = input.strip_prefix("TLS ").unwrap();
        opening.secured(handshake(word), NOW());
    }
}

fn step_transaction(transaction: &mut Transaction<'_>, input: Input) {
    if let Some(bytes) = bytes(input, transaction.state_name()) {
        transaction.received(&bytes);
        return;
    }
    if let Some(lost) = lost(input) {
        return transaction.lost(lost);
    }
    match input {
        "content" => transaction.content(b"(content)\r\n"),
        "content ended" => transaction.content_ended(),
        "dot" => transaction.send_dot(None),
        "dot ahead" => transaction.send_dot(Some(Next {
            envelope: &MESSAGE,
            content_bytes: 100,
        })),
        "give up" => transaction.give_up("stopped"),
        other => panic!("{other}"),
    }
}

/// The states of a session, and the states that it went to.
#[derive(Default)]
struct Table {
    text: String,
    from: BTreeSet<&'static str>,
    to: BTreeSet<&'static str>,
}

impl Table {
    fn head(&mut self, context: &str, path: &[Input], state: &'static str) {
        self.from.insert(state);
        let path = path.join(", ");
        writeln!(self.text, "\n{state}  ({context}: {path})").unwrap();
    }

    fn row(&mut self, input: Input, next: &'static str, sent: &str, verdict: &str) {
        self.to.insert(next);
        writeln!(
            self.text,
            "  {input:<18} -> {next:<12} {sent:<10} {verdict}"
        )
        .unwrap();
    }

    fn openings(&mut self) {
        for (proof, path) in OPENINGS {
            self.head(proof, path, opening_at(proof, path).state_name());
            for input in FROM_THE_SERVER.iter().chain(OPENING_ONLY) {
                let mut opening = opening_at(proof, path);
                step_opening(&mut opening, input);
                let next = opening.state_name();
                let sent = verbs(&opening.take_output());
                let verdict = match opening.finish() {
                    Err(unproved) if next == "Failed" => {
                        let failure = unproved.failure;
                        let reason = failure.refusal.map_or("-", |refusal| refusal.reason());
                        format!("{:?} {reason}", failure.verdict)
                    }
                    _ => "-".to_owned(),
                };
                self.row(input, next, &sent, &verdict);
            }
        }
    }

    fn transactions(&mut self) {
        for (offer, path) in TRANSACTIONS {
            let mut established = established(offer);
            self.head(
                offer,
                path,
                at(established.begin(&MESSAGE, 100), path).state_name(),
            );
            for input in FROM_THE_SERVER.iter().chain(TRANSACTION_ONLY) {
                let mut established = self::established(offer);
                let mut transaction = at(established.begin(&MESSAGE, 100), path);
                step_transaction(&mut transaction, input);
                let next = transaction.state_name();
                let sent = verbs(&transaction.take_output());
                let verdict = came_to(transaction);
                self.row(input, next, &sent, &verdict);
            }
        }
    }
}

fn opening_at(proof: &str, path: &[Input]) -> Opening {
    let (proof, asks) = match proof.strip_suffix(" on connect") {
        Some(proof) => (proof, AskTls::OnConnect),
        None => (proof, AskTls::WhereOffered),
    };
    let (proof, has_login) = match proof.strip_suffix(" with a login") {
        Some(proof) => (proof, true),
        None => (proof, false),
    };
    let login = Login::new("tim".to_owned(), "tanstaaftanstaaf".to_owned());
    let way = Way {
        login: login.ok().filter(|_| has_login),
        ..Way::default()
    };
    let opening = Opening::new(Arc::new(terms(proof)), HELO.to_owned(), asks, seen());
    let mut opening = opening.logging_in(&way);
    for input in path {
        step_opening(&mut opening, input);
    }
    opening.take_output();
    opening
}

fn established(offer: &str) -> Established {
    let mut opening = opening_at("port", &["220"]);
    let ehlo = if ["PIPELINING", "sent ahead"].contains(&offer) {
        "250-home\r\n250 PIPELINING\r\n"
    } else {
        "250 home\r\n"
    };
    opening.received(ehlo.as_bytes(), NOW());
    let mut established = opening.finish().unwrap();
    if offer == "a message before" {
        let message = Arc::new(envelope("a@b.example -> c@home.example"));
        at(established.begin(&message, 100), &["250", "554"]).finish();
    }
    if offer == "sent ahead" {
        let message = Arc::new(envelope("a@b.example -> c@home.example"));
        let path = ["250", "250", "354", "content ended", "dot ahead", "250"];
        at(established.begin(&message, 100), &path).finish();
    }
    established
}

fn at<'s>(mut transaction: Transaction<'s>, path: &[Input]) -> Transaction<'s> {
    for input in path {
        step_transaction(&mut transaction, input);
    }
    transaction.take_output();
    transaction
}

fn came_to(transaction: Transaction<'_>) -> String {
    if transaction.want() != TransactionWant::Nothing {
        return "-".to_owned();
    }
    let ended = transaction.finish();
    let mut text = format!("{:?}", ended.outcome);
    for result in &ended.recipients {
        write!(text, " {}:{:?}", result.number.0, result.disposition).unwrap();
    }
    if ended.dot_sent {
        text += " dot";
    }
    write!(text, " {:?}", ended.after).unwrap();
    text
}

fn table() -> Table {
    let mut table = Table::default();
    table.text += "# state  (proof or offer: what led there), then: input -> next state, verbs sent, what it comes to\n";
    table.openings();
    table.transactions();
    table
}

#[test]
fn every_transition_is_as_reviewed() {
    let actual = table().text;
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/session-transitions.txt");
    if std::fs::read_to_string(&golden).unwrap_or_default() != actual {
        let new = Path::new(env!("CARGO_TARGET_TMPDIR")).join("session-transitions.txt");
        std::fs::write(&new, actual).unwrap();
        let (golden, new) = (golden.display(), new.display());
        panic!(
            "transitions changed: `diff {golden} {new}`; where that is meant, `cp {new} {golden}`"
        );
    }
}

#[test]
fn no_state_is_missing_from_the_table_or_the_diagram() {
    let Table { from, to, .. } = table();
    let missing: Vec<_> = to.difference(&from).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let diagram = include_str!("../../src/session/mod.rs")
        .split("```")
        .nth(1)
        .unwrap();
    for state in from {
        assert!(diagram.contains(state), "{state}");
    }
}

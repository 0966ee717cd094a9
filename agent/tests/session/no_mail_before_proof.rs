//! No input makes a session write MAIL before a proof.

use std::sync::Arc;

use dd_agent::session::{AskTls, Lost, Opening, OpeningWant};
use proptest::prelude::*;

use super::support::{HELO, NOW, envelope, handshake, seen, terms};

#[derive(Debug, Clone)]
enum Input {
    Bytes(Vec<u8>),
    Handshake(&'static str),
    Lost(Lost),
}

const REPLIES: &[&str] = &[
    "220 home ESMTP\r\n",
    "220 go\r\n",
    "250 home\r\n",
    "250-home\r\n250-STARTTLS\r\n250 PIPELINING\r\n",
    "250-home\r\n250 PIPELINING\r\n",
    "354 go\r\n",
    "421 closing\r\n",
    "454 no TLS\r\n",
    "502 what\r\n",
    "554 go away\r\n",
];

fn input() -> impl Strategy<Value = Input> {
    const HANDSHAKES: &[&str] = &[
        "ok",
        "ok-other-name",
        "ok-unchecked",
        "UnknownIssuer",
        "Expired",
    ];
    prop_oneof![
        8 => prop::sample::select(REPLIES).prop_map(|r| Input::Bytes(r.as_bytes().to_vec())),
        4 => prop::sample::select(HANDSHAKES).prop_map(Input::Handshake),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Input::Bytes),
        1 => Just(Input::Lost(Lost::Closed)),
    ]
}

/// Most cases begin as a real session does, or they would never come far.
fn inputs() -> impl Strategy<Value = Vec<Input>> {
    let usual = [REPLIES[0], REPLIES[3], REPLIES[1]].map(|r| Input::Bytes(r.as_bytes().to_vec()));
    (0..=usual.len(), prop::collection::vec(input(), 0..6))
        .prop_map(move |(taken, more)| usual[..taken].iter().cloned().chain(more).collect())
}

/// Everything the session writes, and whether a handshake that proves the site was part of the input.
fn run(proof: &str, asks: AskTls, inputs: &[Input]) -> (String, bool) {
    let mut written = Vec::new();
    let mut proving_handshake = false;
    let mut opening = Opening::new(Arc::new(terms(proof)), HELO.to_owned(), asks, seen());
    for input in inputs {
        match input {
            Input::Bytes(bytes) => opening.received(bytes, NOW()),
            Input::Handshake(word) => {
                proving_handshake |= *word == "ok" && opening.want() == OpeningWant::Handshake;
                opening.secured(handshake(word), NOW());
            }
            Input::Lost(lost) => opening.lost(*lost, NOW()),
        }
        written.extend_from_slice(&opening.take_output());
    }
    if let Ok(mut established) = opening.finish() {
        let envelope = Arc::new(envelope("a@b.example -> c@home.example"));
        written.extend_from_slice(&established.begin(&envelope, 10).take_output());
    }
    (
        String::from_utf8_lossy(&written).into_owned(),
        proving_handshake,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn no_certificate_no_mail(inputs in inputs()) {
        let (written, proved) = run("certificate", AskTls::WhereOffered, &inputs);
        prop_assert!(proved || !written.contains("MAIL"), "{written}");
        for line in written.split_terminator("\r\n") {
            let known = ["EHLO out1.example.net", "STARTTLS"].contains(&line)
                || (proved && (line.starts_with("MAIL") || line.starts_with("RCPT") || line == "DATA"));
            prop_assert!(known, "{line}");
        }
    }

    /// And nothing at all in the clear.
    #[test]
    fn no_handshake_on_connect_no_word(inputs in inputs()) {
        let (written, proved) = run("certificate", AskTls::OnConnect, &inputs);
        prop_assert!(proved || written.is_empty(), "{written}");
        prop_assert!(!written.contains("STARTTLS"), "{written}");
    }

    #[test]
    fn no_listed_address_no_mail(inputs in inputs()) {
        let (written, _) = run("static-ip-elsewhere", AskTls::WhereOffered, &inputs);
        prop_assert!(!written.contains("MAIL"), "{written}");
    }
}

#[test]
fn the_property_is_not_empty() {
    let bytes = |index: usize| Input::Bytes(REPLIES[index].as_bytes().to_vec());
    let inputs = [
        bytes(0),
        bytes(3),
        bytes(1),
        Input::Handshake("ok"),
        bytes(2),
    ];
    let (written, proved) = run("certificate", AskTls::WhereOffered, &inputs);
    assert!(
        proved && written.contains("MAIL FROM:<a@b.example>"),
        "{written}"
    );
}

//! A home that offers DSN and SIZE and refuses every parameter, with two messages on one session.

use std::sync::Arc;

use dd_agent::session::{After, AskTls, Established, Next, Opening, Transaction, TransactionWant};
use dd_proto::envelope::Envelope;
use dd_proto::report::{Disposition, RecipientResult, Told};

use super::support::{HELO, NOW, envelope, seen, terms};

/// More than may be unanswered at once, so that DATA waits for the first answers.
const MANY: usize = 150;
const BYTES: u64 = 11;
const LIMIT: u64 = 1000;

fn open() -> Established {
    let terms = Arc::new(terms("port"));
    let mut opening = Opening::new(terms, HELO.to_owned(), AskTls::WhereOffered, seen());
    opening.received(b"220 home\r\n", NOW());
    opening.take_output();
    let offer = format!("250-home\r\n250-PIPELINING\r\n250-SIZE {LIMIT}\r\n250 DSN\r\n");
    opening.received(offer.as_bytes(), NOW());
    opening.finish().unwrap()
}

fn message(recipients: usize) -> Arc<Envelope> {
    let recipients: Vec<String> = (0..recipients).map(|n| format!("r{n}@c.example")).collect();
    Arc::new(envelope(&format!(
        "dsn a@b.example -> {}",
        recipients.join(", ")
    )))
}

fn next(envelope: &Arc<Envelope>, content_bytes: u64) -> Next<'_> {
    Next {
        envelope,
        content_bytes,
    }
}

/// The home's answer to one line. It takes MAIL as it is.
fn answer(line: &str) -> &'static str {
    match line {
        "DATA" => "354 go\r\n",
        _ if line.starts_with("RCPT") && line.contains("> ") => "555 5.5.4 no parameters\r\n",
        _ => "250 ok\r\n",
    }
}

/// What each recipient is told, and the lines that went out behind the dot, which the home has still to answer.
fn transact(
    mut transaction: Transaction<'_>,
    ahead: &[String],
    next: Option<Next<'_>>,
) -> (Vec<RecipientResult>, Vec<String>) {
    let mut unread: Vec<String> = ahead.to_vec();
    loop {
        match transaction.want() {
            TransactionWant::Content => {
                transaction.content(b"a: b\r\n\r\nc\r\n");
                transaction.content_ended();
                transaction.take_output();
            }
            TransactionWant::Dot => transaction.send_dot(next),
            TransactionWant::Bytes(_) => {
                let out = transaction.take_output();
                let text = String::from_utf8_lossy(&out);
                unread.extend(text.split_terminator("\r\n").map(str::to_owned));
                let line = unread.remove(0);
                transaction.received(answer(&line).as_bytes());
            }
            TransactionWant::Nothing => break,
        }
    }
    let ended = transaction.finish();
    assert_eq!(ended.after, After::Usable, "{}", ended.detail);
    (ended.recipients, unread)
}

fn all_relayed(results: &[RecipientResult], recipients: usize) {
    assert_eq!(results.len(), recipients);
    for result in results {
        assert_eq!(result.disposition, Disposition::Relayed, "{result:?}");
        assert_eq!(result.told, Told::NotPassedOn, "{result:?}");
    }
}

#[test]
fn an_envelope_behind_the_dot_of_one_that_found_parameters_refused_goes_without() {
    let mut session = open();
    let (first, second) = (message(MANY), message(2));
    let transaction = session.begin(&first, BYTES);
    let (results, ahead) = transact(transaction, &[], Some(next(&second, BYTES)));
    all_relayed(&results, MANY);
    assert!(session.is_ahead());
    assert!(ahead.iter().all(|line| !line.contains("> ")), "{ahead:?}");
    let (results, _) = transact(session.begin(&second, BYTES), &ahead, None);
    all_relayed(&results, 2);
}

//! The far ends of a trial: sites that answer as a recipient's name says, and the smarthost that DSNs go to.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::ledger::Ledger;
use super::letter::{self, Answer};
use crate::site::{Host, Received, Verdict};

/// One letter in so many breaks the connection the first time it is here.
const BREAKS_EACH: u64 = 97;

/// A site of a trial.
#[derive(Debug)]
pub struct Home {
    number: usize,
    ledger: Arc<Ledger>,
    /// Recipients that were put off, and letters that broke the connection: each once.
    met: Mutex<HashSet<String>>,
}

impl Home {
    pub fn new(number: usize, ledger: Arc<Ledger>) -> Self {
        Self {
            number,
            ledger,
            met: Mutex::default(),
        }
    }

    fn first_time(&self, what: &str) -> bool {
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        met.insert(what.to_owned())
    }
}

impl Host for Home {
    fn rcpt(&self, argument: &str) -> Option<String> {
        let address = address(argument);
        match Answer::of(&address) {
            Some(Answer::Takes) => None,
            Some(Answer::Defers) if self.first_time(&address) => {
                Some("451 4.2.0 not now".to_owned())
            }
            Some(Answer::Defers) => None,
            Some(Answer::Refuses) | None => Some("550 5.1.1 nobody of that name".to_owned()),
        }
    }

    fn message(&self, message: Received) -> Verdict {
        let recipients: Vec<String> = message.recipients.iter().map(|it| address(it)).collect();
        let content = &message.content;
        let number = self.ledger.delivered(self.number, &recipients, content);
        match number {
            Some(number)
                if number % BREAKS_EACH == 5 && self.first_time(&format!("letter {number}")) =>
            {
                Verdict::TakesAndBreaks
            }
            _ => Verdict::Takes,
        }
    }
}

/// Takes every DSN, and notes whom it is about.
#[derive(Debug)]
pub struct Smarthost(pub Arc<Ledger>);

impl Host for Smarthost {
    fn rcpt(&self, _: &str) -> Option<String> {
        None
    }

    fn message(&self, message: Received) -> Verdict {
        let text = String::from_utf8_lossy(&message.content);
        let failed = text.contains("Action: failed");
        let about: Vec<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix("Final-Recipient: "))
            .filter_map(|value| value.split_once(';'))
            .map(|(_, address)| address.trim().to_owned())
            .collect();
        // What is about no letter of ours accounts for nothing: its recipients are missed at the end.
        if let (true, Some(number)) = (failed, letter::number(&message.content)) {
            self.0.notified(number, &about);
        }
        Verdict::Takes
    }
}

/// What stands between the angle brackets.
fn address(argument: &str) -> String {
    let inner = argument.trim_start_matches('<');
    inner.split('>').next().unwrap_or(inner).to_owned()
}

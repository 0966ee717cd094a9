//! What a trial came to, as a table for people and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::ledger::Judgement;
use super::tally::Tally;

/// A trial at its end.
#[derive(Debug)]
pub struct Summary<'a> {
    pub name: &'a str,
    pub seed: u64,
    pub took: Duration,
    pub judgement: &'a Judgement,
    pub tally: &'a Tally,
    /// What else was found wrong.
    pub faults: &'a [String],
}

impl Summary<'_> {
    /// Whether every promise was kept.
    pub fn holds(&self) -> bool {
        self.judgement.holds()
            && self.judgement.duplicates_unmarked.is_empty()
            && self.faults.is_empty()
            && self.tally.count("panics") == 0
    }

    pub fn table(&self) -> String {
        let judgement = self.judgement;
        let mut rows: Vec<(String, String)> = vec![
            ("seed".into(), self.seed.to_string()),
            ("seconds".into(), format!("{:.0}", self.took.as_secs_f64())),
        ];
        let mut count = |name: &str, value: usize| rows.push((name.into(), value.to_string()));
        count("messages acknowledged", judgement.messages);
        count("recipients acknowledged", judgement.recipients);
        count("… delivered", judgement.delivered);
        count("… queued", judgement.queued);
        count("… told by DSN", judgement.notified);
        count("duplicates, marked in doubt", judgement.duplicates_in_doubt);
        count("duplicates, unmarked", judgement.duplicates_unmarked.len());
        count("LOST", judgement.lost.len());
        count("STRANGE", judgement.strange.len());
        count("other faults", self.faults.len());
        let counts = self.tally.counts();
        rows.extend(
            counts
                .iter()
                .map(|(name, it)| ((*name).to_owned(), it.to_string())),
        );
        let mut text = format!("{}\n", self.name);
        for (name, value) in rows {
            let _ = writeln!(text, "  {name:<34} {value:>12}");
        }
        for (what, all) in [
            ("lost", &judgement.lost),
            ("strange", &judgement.strange),
            ("unmarked", &judgement.duplicates_unmarked),
        ] {
            for it in all.iter().take(10) {
                let _ = writeln!(text, "  {what}: {it}");
            }
        }
        for trouble in self.tally.troubles().iter().take(10) {
            let _ = writeln!(text, "  logged: {trouble}");
        }
        for fault in self.faults.iter().take(10) {
            let _ = writeln!(text, "  fault: {fault}");
        }
        text
    }

    pub fn json(&self) -> Value {
        json!({
            "trial": self.name,
            "seed": self.seed,
            "seconds": self.took.as_secs(),
            "holds": self.holds(),
            "mail": self.judgement.json(),
            "logs": self.tally.json(),
            "faults": self.faults,
        })
    }
}

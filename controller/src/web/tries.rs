//! The last tries, as a member sees them: those that ended alike one behind the other are one row.
//!
//! # Not here
//! What counts as alike, and how many are kept: [`crate::history`].

use super::advice::{Found, advice};
use super::view::{Eye, When};
use super::words::Words;
use crate::history::Run;

/// Rows on the page.
const ROWS: usize = 6;

#[derive(Debug)]
pub(super) struct Try {
    /// Of the newest.
    pub(super) at: When,
    /// How many ended so, one behind the other.
    pub(super) times: u32,
    pub(super) tone: &'static str,
    pub(super) word: &'static str,
    /// That made the newest.
    pub(super) agent: String,
    pub(super) address: String,
    /// What it means, and what to do, in the language of the page.
    pub(super) advice: Option<String>,
    /// What our agent found, in full; in English.
    pub(super) detail: String,
    /// What the member's own server answered.
    pub(super) answer: Option<String>,
}

/// Newest first, as `runs` are.
pub(super) fn rows(runs: &[Run], hosts: &[&str], eye: Eye) -> Vec<Try> {
    let runs = runs.iter().take(ROWS);
    runs.map(|run| row(run, hosts, eye)).collect()
}

fn row(run: &Run, hosts: &[&str], eye: Eye) -> Try {
    let it = &run.last;
    let w = eye.words();
    let (tone, word) = w.outcome(it.outcome);
    let found = Found {
        why: it.outcome,
        reason: &it.reason,
        detail: &it.detail,
        hosts,
    };
    Try {
        at: eye.when(it.at),
        times: run.times,
        tone,
        word,
        agent: it.agent.to_string(),
        address: it.address.clone(),
        advice: match it.outcome {
            "unreachable" | "wrong-host" | "in-doubt" => advice(&found, eye.language),
            _ => None,
        },
        answer: answer(&it.detail).filter(|_| tone != "good"),
        detail: it.detail.clone(),
    }
}

/// The server's own words, where an agent's sentence is nothing else.
fn answer(detail: &str) -> Option<String> {
    let quoted = detail.strip_prefix("the site answered `");
    let reply = quoted.and_then(|it| Some(it.rsplit_once('`')?.0));
    let reply = reply.unwrap_or(detail);
    let code = reply.split(' ').next().unwrap_or_default();
    let is_code = code.len() == 3 && code.bytes().all(|it| it.is_ascii_digit());
    is_code.then(|| reply.to_owned())
}

impl Words {
    /// How an attempt ended.
    pub(super) fn outcome(&self, outcome: &str) -> (&'static str, &'static str) {
        match outcome {
            "relayed" => ("good", self.r_relayed),
            "deferred" => ("warn", self.r_deferred),
            "failed" => ("bad", self.r_failed),
            "kept" => ("warn", self.r_kept),
            "not-sent" => ("warn", self.r_not_sent),
            "in-doubt" => ("warn", self.r_in_doubt),
            "unreachable" => ("bad", self.r_unreachable),
            "wrong-host" => ("bad", self.r_wrong_host),
            "refused" => ("warn", self.r_refused),
            _ => ("warn", self.r_busy),
        }
    }
}

//! The last tries, as a member sees them: those that ended alike one behind the other are one row.

use super::advice::{Found, advice};
use super::view::{Eye, When};
use crate::dispatch::LastAttempt;

/// Rows on the page.
const ROWS: usize = 6;

#[derive(Debug)]
pub(super) struct Try {
    /// Of the newest.
    pub(super) at: When,
    /// How many ended so, one behind the other.
    pub(super) times: usize,
    pub(super) tone: &'static str,
    pub(super) word: &'static str,
    /// All that had a part in it.
    pub(super) agents: String,
    pub(super) address: String,
    /// What it means, and what to do, in the language of the page.
    pub(super) advice: Option<String>,
    /// What our agent found, in full; in English.
    pub(super) detail: String,
    /// What the member's own server answered.
    pub(super) answer: Option<String>,
}

/// Newest first, as `attempts` are.
pub(super) fn rows(attempts: &[LastAttempt], hosts: &[&str], eye: Eye) -> Vec<Try> {
    let runs = attempts.chunk_by(alike).take(ROWS);
    runs.map(|run| row(run, hosts, eye)).collect()
}

/// Which agent it was makes no difference to the member.
fn alike(one: &LastAttempt, other: &LastAttempt) -> bool {
    one.outcome == other.outcome
        && one.address == other.address
        && one.reason == other.reason
        && one.detail == other.detail
}

fn row(run: &[LastAttempt], hosts: &[&str], eye: Eye) -> Try {
    let it = &run[0];
    let w = eye.words();
    let (tone, word) = match it.outcome {
        "relayed" => ("good", w.r_relayed),
        "deferred" => ("warn", w.r_deferred),
        "failed" => ("bad", w.r_failed),
        "in-doubt" => ("warn", w.r_in_doubt),
        "unreachable" => ("bad", w.r_unreachable),
        "wrong-host" => ("bad", w.r_wrong_host),
        "refused" => ("warn", w.r_refused),
        _ => ("warn", w.r_busy),
    };
    let found = Found {
        why: it.outcome,
        reason: &it.reason,
        detail: &it.detail,
        hosts,
    };
    Try {
        at: eye.when(it.at),
        times: run.len(),
        tone,
        word,
        agents: agents(run),
        address: it.address.clone(),
        advice: match it.outcome {
            "unreachable" | "wrong-host" | "in-doubt" => advice(&found, eye.language),
            _ => None,
        },
        answer: answer(&it.detail).filter(|_| tone != "good"),
        detail: it.detail.clone(),
    }
}

fn agents(run: &[LastAttempt]) -> String {
    let mut names: Vec<String> = run.iter().map(|it| it.agent.to_string()).collect();
    names.sort_unstable();
    names.dedup();
    names.join(", ")
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

#[cfg(test)]
mod tests {
    use super::*;

    use jiff::Timestamp;

    use crate::web::language::Language;

    #[test]
    fn equal_tries_in_a_row_are_one_row_with_all_their_agents() {
        let attempt = |minute: i64, agent: &str, outcome, detail: &str| LastAttempt {
            at: Timestamp::from_second(1_800_000_000 - 60 * minute).unwrap(),
            agent: agent.parse().unwrap(),
            address: "192.0.2.7:25".to_owned(),
            outcome,
            detail: detail.to_owned(),
            reason: String::new(),
            peer: None,
        };
        let attempts = [
            attempt(1, "out2", "unreachable", "x"),
            attempt(4, "out1", "unreachable", "x"),
            attempt(7, "out2", "unreachable", "x"),
            attempt(9, "out1", "relayed", ""),
            attempt(11, "out1", "unreachable", "x"),
        ];
        let eye = Eye {
            language: Language::German,
            now: Timestamp::from_second(1_800_000_000).unwrap(),
        };
        let rows = rows(&attempts, &["home.example:25"], eye);
        let seen: Vec<_> = rows
            .iter()
            .map(|it| (it.times, it.agents.as_str(), it.at.relative.as_str()))
            .collect();
        let expected = [
            (3, "out1, out2", "vor 60 Sekunden"),
            (1, "out1", "vor 9 Minuten"),
            (1, "out1", "vor 11 Minuten"),
        ];
        assert_eq!(seen, expected);
    }
}

//! `ddadm etrn`: release a site, and say what came of it.

use std::time::Duration;

use dd_proto::name::SiteName;
use dd_proto::pb;
use dd_proto::pb::release_outcome::Result as Came;
use serde::Serialize;

use crate::args::Etrn;
use crate::client::Controller;
use crate::cmd::many;
use crate::failure::{Exit, Failure};
use crate::output::{Answer, count, present, printable};

pub(crate) async fn run(etrn: Etrn, controller: &Controller) -> Result<Answer, Failure> {
    let wait = etrn.wait.unwrap_or(Duration::ZERO);
    let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    // All at once first, so that one that is waited for does not hold up the others.
    if let [_, _, ..] = &etrn.sites[..]
        && wait_ms > 0
    {
        for site in &etrn.sites {
            // What is refused is said below.
            let _ = release(site, 0, controller).await;
        }
    }
    many::each(&etrn.sites, async |site| {
        release(site, wait_ms, controller).await
    })
    .await
}

async fn release(
    site: &SiteName,
    wait_ms: u64,
    controller: &Controller,
) -> Result<Answer, Failure> {
    let request = pb::ReleaseRequest {
        name: site.to_string(),
        wait_ms,
    };
    let outcome = controller.sites().await?.release(request).await;
    Ok(answer(site.as_str(), controller.one(outcome)?))
}

#[derive(Debug, Serialize)]
struct View<'a> {
    site: &'a str,
    result: &'static str,
    waiting: u64,
    relayed: u64,
    deferred: u64,
    failed: u64,
    detail: Option<String>,
}

fn answer(site: &str, outcome: pb::ReleaseOutcome) -> Answer {
    let (result, sentence, exit) = said(&outcome);
    let text = format!("{site}: {}\n", printable(&sentence));
    let view = View {
        site,
        result,
        waiting: outcome.waiting,
        relayed: outcome.relayed,
        deferred: outcome.deferred,
        failed: outcome.failed,
        detail: present(outcome.detail),
    };
    Answer::new(&view, text).ending(exit)
}

/// The word for programs, the sentence for people, and how the command ends: 5 where the far end is the matter, 1
/// where mail still waits (or failed) for another reason.
fn said(outcome: &pb::ReleaseOutcome) -> (&'static str, String, Exit) {
    let because = |what: &str| match outcome.detail.as_str() {
        "" => what.to_owned(),
        detail => format!("{what}: {detail}"),
    };
    match outcome.result() {
        Came::Unspecified => (
            "released",
            format!("released, {} waiting", outcome.waiting),
            Exit::Done,
        ),
        Came::NothingWaiting => ("nothing-waiting", "nothing waiting".into(), Exit::Done),
        Came::Done if outcome.deferred + outcome.failed > 0 => {
            ("done", because(&counts(outcome)), Exit::Failed)
        }
        Came::Done => ("done", counts(outcome), Exit::Done),
        Came::NotReached => ("not-reached", because("not reached"), Exit::SiteNotReached),
        Came::NotProved => ("wrong-host", because("wrong host"), Exit::SiteNotReached),
        Came::Refused => ("refused", because("refused"), Exit::Failed),
        Came::Held => ("held", held(&outcome.detail), Exit::Failed),
        Came::Pending if is_untried(outcome) => ("pending", because("not tried"), Exit::Failed),
        Came::Pending => (
            "pending",
            because(&format!("still at work, {}", counts(outcome))),
            Exit::Failed,
        ),
    }
}

/// Nothing has come of it, and there is a reason.
fn is_untried(outcome: &pb::ReleaseOutcome) -> bool {
    outcome.relayed + outcome.deferred + outcome.failed == 0 && !outcome.detail.is_empty()
}

fn held(detail: &str) -> String {
    match detail {
        "" => "held; `ddadm site resume` ends it".into(),
        detail if detail.starts_with("held") => detail.to_owned(),
        by => format!("held by {by}"),
    }
}

/// `3 relayed, 1 deferred`: what is zero is left out, but for the relayed.
fn counts(outcome: &pb::ReleaseOutcome) -> String {
    let mut said = count(outcome.relayed, "relayed", "relayed");
    for (number, what) in [(outcome.deferred, "deferred"), (outcome.failed, "failed")] {
        if number > 0 {
            said.push_str(&format!(", {number} {what}"));
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_of_it_is_one_sentence_and_an_exit_code() {
        let outcome = |result: Came, relayed, deferred, failed, detail: &str| pb::ReleaseOutcome {
            waiting: 3,
            result: result.into(),
            relayed,
            deferred,
            failed,
            detail: detail.into(),
        };
        for (outcome, sentence, exit) in [
            (
                outcome(Came::Unspecified, 0, 0, 0, ""),
                "released, 3 waiting",
                Exit::Done,
            ),
            (
                outcome(Came::NothingWaiting, 0, 0, 0, ""),
                "nothing waiting",
                Exit::Done,
            ),
            (outcome(Came::Done, 3, 0, 0, ""), "3 relayed", Exit::Done),
            (
                outcome(Came::Done, 2, 1, 0, "452 full"),
                "2 relayed, 1 deferred: 452 full",
                Exit::Failed,
            ),
            (
                outcome(Came::Done, 2, 0, 1, ""),
                "2 relayed, 1 failed",
                Exit::Failed,
            ),
            (
                outcome(Came::NotReached, 0, 0, 0, "connection refused"),
                "not reached: connection refused",
                Exit::SiteNotReached,
            ),
            (
                outcome(Came::NotProved, 0, 0, 0, "no STARTTLS"),
                "wrong host: no STARTTLS",
                Exit::SiteNotReached,
            ),
            (
                outcome(Came::Refused, 0, 0, 0, "554\r\nno\x1b[2J"),
                "refused: 554\\r\\nno\\u{1b}[2J",
                Exit::Failed,
            ),
            (
                outcome(Came::Held, 0, 0, 0, "root"),
                "held by root",
                Exit::Failed,
            ),
            (
                outcome(Came::Held, 0, 0, 0, "held by root since noon"),
                "held by root since noon",
                Exit::Failed,
            ),
            (
                outcome(Came::Pending, 1, 0, 0, ""),
                "still at work, 1 relayed",
                Exit::Failed,
            ),
            (
                outcome(Came::Pending, 0, 0, 0, "no agent works"),
                "not tried: no agent works",
                Exit::Failed,
            ),
        ] {
            let shown = format!("home: {sentence}\n");
            assert!(
                answer("home", outcome.clone()).both().starts_with(&shown),
                "{shown}"
            );
            assert_eq!(said(&outcome).2, exit, "{sentence}");
        }
        insta::assert_snapshot!(
            answer("home", outcome(Came::NotReached, 0, 0, 0, "timeout")).both()
        );
    }
}

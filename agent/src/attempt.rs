//! An attempt, the whole story: resolve → connect → session → hand over → report. All branching is here.
//!
//! # Not here
//! What a failure means ([`crate::session::outcome`]); which message is next ([`crate::deliver`]).

use dd_proto::id::SessionId;
use dd_proto::report::{Delays, DotSent, Observed, Outcome, Reply, Report, Stage};
use dd_proto::site::Host;

use crate::agent::{Agent, now, wall};
use crate::connect::connect;
use crate::content;
use crate::lease::{Boottime, Standing};
use crate::live::{self, Live};
use crate::plan::{Assignment, Plan};
use crate::proof::{Refusal, Seen, proof_for, reason_for};
use crate::resolve::Freshness;
use crate::session::outcome::{Cause, Phase, Standing as Proved, Verdict, verdict};
use crate::session::{AskTls, Ended, Opening, TransactionWant, Unproved};

/// No host of the site gave a proved session.
#[derive(Debug, Clone)]
pub struct Missed {
    pub outcome: Outcome,
    pub detail: String,
    pub observed: Observed,
    pub reply: Option<Reply>,
}

/// What became of a message on a proved session.
#[derive(Debug)]
pub enum Handed {
    /// To be reported.
    Ended(Ended),
    /// No dot went out, and none may: the lease is over.
    LeaseOver,
}

/// Tries the site's hosts in order until one proves itself. Only that one gets mail.
///
/// # Errors
/// The most telling failure: one behind the connect before one in front of it.
pub async fn open(
    agent: &Agent,
    plan: &Plan,
    freshness: Freshness,
    tls: AskTls,
) -> Result<Live, Missed> {
    let mut told: Option<Missed> = None;
    for host in &plan.hosts {
        let mut ask_tls = tls;
        let mut note = String::new();
        let missed = loop {
            match one_host(agent, plan, host, freshness, ask_tls).await {
                Ok(mut live) => {
                    live.note = note;
                    return Ok(live);
                }
                Err((Verdict::WithoutTls, missed)) if ask_tls == AskTls::WhereOffered => {
                    note = format!("without TLS, for: {}", missed.detail);
                    ask_tls = AskTls::Not;
                }
                Err((Verdict::NextHost(_), missed)) => break missed,
                Err((_, missed)) => return Err(missed),
            }
        };
        match &told {
            Some(before) if before.outcome != Outcome::Unreachable => {}
            _ => told = Some(missed),
        }
    }
    Err(told.expect("a plan has at least one host"))
}

async fn one_host(
    agent: &Agent,
    plan: &Plan,
    host: &Host,
    freshness: Freshness,
    ask_tls: AskTls,
) -> Result<Live, (Verdict, Missed)> {
    let probe = live::take_slot(&agent.probes).await;
    let addresses = match agent.resolver.addresses(&host.name, freshness).await {
        Ok(addresses) => addresses,
        Err(error) => return Err(unreached(plan, host, Phase::Resolve, Cause::Closed, &error)),
    };
    let rules = agent.rules();
    let connecting = connect(
        &agent.sources,
        &addresses,
        host.port,
        &rules,
        &plan.allow_targets,
    );
    let connection = match connecting.await {
        Ok(connection) => connection,
        Err(error) => {
            let cause = if error.is_own_trouble() {
                // Told before the report, so that nothing more comes here.
                agent.look_at_addresses();
                Cause::Own
            } else {
                Cause::Closed
            };
            return Err(unreached(plan, host, Phase::Connect, cause, &error));
        }
    };
    let seen = Seen::new(host.clone(), connection.peer, connection.local);
    let opening = Opening::new(plan.terms.clone(), agent.helo.clone(), ask_tls, seen);
    live::open(
        connection.stream,
        opening,
        &agent.tls,
        &plan.terms,
        &agent.slots,
        probe,
    )
    .await
    .map_err(|unproved| missed(plan, *unproved))
}

/// Hands one message over on a proved session. `next` is asked, at most once, for the message whose envelope goes out
/// together with this one's dot; the caller has to hand that over next, or to end the session.
pub async fn hand_over<'n>(
    agent: &Agent,
    live: &mut Live,
    assignment: &Assignment,
    next: impl FnOnce() -> Option<&'n Assignment>,
) -> Handed {
    let Live { wire, session, .. } = live;
    let mut transaction = session.begin(&assignment.envelope, assignment.content_bytes);
    let mut next = Some(next);
    let mut since = now();
    loop {
        match transaction.want() {
            TransactionWant::Content => {
                content::give(agent, wire, &mut transaction, assignment).await;
            }
            TransactionWant::Dot => {
                // A 250 that came before the dot does not answer it.
                if let Some(early) = wire.read_now().await {
                    match early {
                        Ok(bytes) => _ = transaction.received(bytes),
                        Err(lost) => transaction.lost(lost),
                    }
                    continue;
                }
                if agent.leases.standing(&assignment.lease, Boottime::now()) != Standing::Held {
                    return Handed::LeaseOver;
                }
                let dot = DotSent {
                    lease: assignment.lease.clone(),
                    recipients: transaction.accepted().to_vec(),
                };
                match agent.dot_goes_out(dot).await {
                    Ok(()) => {
                        let next = next.take().and_then(|next| next());
                        transaction.send_dot(next.map(Assignment::to_be_sent));
                    }
                    Err(error) => transaction.give_up(&error.to_string()),
                }
            }
            TransactionWant::Bytes(limit) => {
                let out = transaction.take_output();
                if !out.is_empty() {
                    if let Err(lost) = wire.write(&out, transaction.write_timeout()).await {
                        transaction.received(&wire.last_words().await);
                        transaction.lost(lost);
                        continue;
                    }
                    since = now();
                }
                // One deadline for each reply, however slowly its bytes come.
                match wire.read(since + limit).await {
                    Ok(bytes) if transaction.received(bytes) > 0 => since = now(),
                    Ok(_) => {}
                    Err(lost) => transaction.lost(lost),
                }
            }
            TransactionWant::Nothing => return Handed::Ended(transaction.finish()),
        }
    }
}

/// Reports the message that a session was opened for in vain.
pub async fn report_missed(agent: &Agent, id: SessionId, assignment: &Assignment, missed: Missed) {
    let total = now().saturating_duration_since(assignment.received);
    agent
        .report(Report {
            lease: assignment.lease.clone(),
            session: id,
            outcome: missed.outcome,
            detail: missed.detail,
            observed: missed.observed,
            recipients: Vec::new(),
            dot_sent: false,
            reply: missed.reply,
            delays: Delays {
                total,
                ..Delays::default()
            },
            at: wall(),
            stage: Stage::Session,
        })
        .await;
}

/// Reports what became of a message on a proved session.
pub async fn report(
    agent: &Agent,
    id: SessionId,
    live: &Live,
    assignment: &Assignment,
    ended: Ended,
) {
    let since =
        |instant: std::time::Instant| instant.saturating_duration_since(assignment.received);
    let detail = match live.note.as_str() {
        "" => ended.detail,
        note => format!("{}; {note}", ended.detail),
    };
    agent
        .report(Report {
            lease: assignment.lease.clone(),
            session: id,
            outcome: ended.outcome,
            detail,
            observed: live.in_short(),
            recipients: ended.recipients,
            dot_sent: ended.dot_sent,
            reply: ended.reply,
            delays: Delays {
                connect: since(live.connected),
                proof: since(live.proved),
                total: since(now()),
            },
            at: wall(),
            stage: ended.phase.stage(),
        })
        .await;
}

fn unreached(
    plan: &Plan,
    host: &Host,
    phase: Phase,
    cause: Cause,
    error: &dyn std::error::Error,
) -> (Verdict, Missed) {
    let verdict = verdict(phase, cause, Proved::Unproved);
    let observed = Observed {
        host: host.to_string(),
        proof: proof_for(&plan.terms).kind().to_owned(),
        ..Observed::default()
    };
    let missed = Missed {
        outcome: outcome_of(verdict),
        detail: error.to_string(),
        observed,
        reply: None,
    };
    (verdict, missed)
}

fn missed(plan: &Plan, unproved: Unproved) -> (Verdict, Missed) {
    let Unproved { failure, seen } = unproved;
    let reason = |refusal: &Refusal| reason_for(refusal, &plan.terms, &seen);
    let refusal = failure.refusal.as_ref().map(reason);
    let missed = Missed {
        outcome: outcome_of(failure.verdict),
        detail: failure.detail,
        observed: seen.to_observed(proof_for(&plan.terms).kind(), refusal),
        reply: failure.reply,
    };
    (failure.verdict, missed)
}

fn outcome_of(verdict: Verdict) -> Outcome {
    match verdict {
        Verdict::NextHost(outcome) | Verdict::Ends(outcome) => outcome,
        Verdict::WithoutTls | Verdict::Recipients(_) => Outcome::Broken,
    }
}

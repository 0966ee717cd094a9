//! An attempt, the whole story: resolve → connect → session → hand over → report. All branching is here.
//!
//! # Not here
//! What a failure means ([`crate::session::outcome`]); which message is next ([`crate::deliver`]).

use dd_proto::id::SessionId;
use dd_proto::report::{
    Delays, DotSent, GivenBack, Observed, Outcome, RecipientResult, Reply, Report,
};
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
use crate::session::{After, AskTls, Ended, Opening, Transaction, TransactionWant, Unproved};

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

/// Hands one message over on a proved session.
pub async fn hand_over(agent: &Agent, live: &mut Live, assignment: &Assignment) -> Handed {
    let Live { wire, session, .. } = live;
    let mut transaction = session.begin(&assignment.envelope, assignment.content_bytes);
    loop {
        match transaction.want() {
            TransactionWant::Content => {
                content::give(agent, wire, &mut transaction, assignment).await;
            }
            TransactionWant::Dot => {
                // A 250 that came before the dot does not answer it.
                if let Some(early) = wire.read_now().await {
                    match early {
                        Ok(bytes) => transaction.received(bytes),
                        Err(lost) => transaction.lost(lost),
                    }
                    continue;
                }
                if agent.leases.standing(&assignment.lease, Boottime::now()) != Standing::Held {
                    return Handed::LeaseOver;
                }
                note_dot(agent, assignment, &mut transaction).await;
            }
            TransactionWant::Bytes(limit) => {
                let out = transaction.take_output();
                if let Err(lost) = wire.write(&out, transaction.write_timeout()).await {
                    transaction.lost(lost);
                    continue;
                }
                match wire.read(now() + limit).await {
                    Ok(bytes) => transaction.received(bytes),
                    Err(lost) => transaction.lost(lost),
                }
            }
            TransactionWant::Nothing => return Handed::Ended(transaction.finish()),
        }
    }
}

async fn note_dot(agent: &Agent, assignment: &Assignment, transaction: &mut Transaction<'_>) {
    let dot = DotSent {
        lease: assignment.lease.clone(),
        recipients: transaction.accepted().to_vec(),
    };
    match agent.dot_goes_out(dot).await {
        Ok(()) => transaction.send_dot(),
        Err(error) => transaction.give_up(&error.to_string()),
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
        })
        .await;
}

/// Reports a message, or gives it back; says whether the session can go on.
pub async fn settle(
    agent: &Agent,
    id: SessionId,
    live: &Live,
    assignment: &Assignment,
    earlier: Earlier,
    handed: Handed,
) -> (After, Vec<RecipientResult>) {
    let ended = match handed {
        Handed::Ended(ended) => ended,
        Handed::LeaseOver => {
            agent.give_back(&assignment.lease, GivenBack::LeaseExpired);
            return (After::Spent, Vec::new());
        }
    };
    // The site ended a kept session between two messages: nothing was tried.
    if ended.outcome == Outcome::Broken && ended.phase == Phase::Mail && earlier == Earlier::Some {
        agent.give_back(&assignment.lease, GivenBack::SessionEnded);
        return (After::Spent, Vec::new());
    }
    let since =
        |instant: std::time::Instant| instant.saturating_duration_since(assignment.received);
    let detail = match live.note.as_str() {
        "" => ended.detail,
        note => format!("{}; {note}", ended.detail),
    };
    let recipients = ended.recipients.clone();
    agent
        .report(Report {
            lease: assignment.lease.clone(),
            session: id,
            outcome: ended.outcome,
            detail,
            observed: live.session.seen().to_observed(live.session.proof(), None),
            recipients: ended.recipients,
            dot_sent: ended.dot_sent,
            reply: ended.reply,
            delays: Delays {
                connect: since(live.connected),
                proof: since(live.proved),
                total: since(now()),
            },
            at: wall(),
        })
        .await;
    (ended.after, recipients)
}

/// Whether a message went over this session before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Earlier {
    None,
    Some,
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

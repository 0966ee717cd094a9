//! An attempt, the whole story: resolve → connect → session → hand over → report.
//!
//! # Not here
//! The way to one host, address by address ([`crate::way`]). What a failure means ([`crate::session::outcome`]); which message is next ([`crate::deliver`]).

use std::time::Duration;

use dd_proto::id::{Lease, SessionId};
use dd_proto::report::{Delays, DotSent, GivenBack, Report, Stage};

use crate::agent::{Agent, now, wall};
use crate::content;
use crate::lease::{Boottime, Leases, Standing};
use crate::live::{BLOCK_BYTES, Live, Wire};
use crate::plan::{Assignment, Plan, ToBeSent};
use crate::resolve::Freshness;
use crate::session::{AskTls, Ended, Lost, TransactionWant};
use crate::tried::{Missed, Tried};
use crate::way::Way;

/// What became of a message on a proved session.
#[derive(Debug)]
pub enum Handed {
    /// To be reported.
    Ended(Ended),
    /// No dot went out, and none will.
    GivenUp(GivenBack),
}

/// Tries the site's hosts in order, and each host's addresses, until one proves itself. Only that one gets mail.
///
/// # Errors
/// The most telling failure, in the words of all.
pub async fn open(
    agent: &Agent,
    plan: &Plan,
    freshness: Freshness,
    tls: AskTls,
) -> Result<Live, Missed> {
    let hosts = agent.visits.order_hosts(&plan.hosts, now());
    let mut tried = Tried::default();
    for (at, host) in hosts.iter().enumerate() {
        let hosts_left = hosts.len() - at - 1;
        let way = Way::new(agent, plan, host, tls, hosts_left);
        if let Some(live) = Box::pin(way.walk(freshness, &mut tried)).await {
            return Ok(live);
        }
        if tried.is_own_trouble() {
            // Told before the report, so that nothing more comes here.
            agent.look_for_trouble();
            break;
        }
    }
    Err(tried.told())
}

/// Hands one message over on a proved session. `next` is asked, at most once, for the message whose envelope goes out
/// together with this one's dot; the caller has to hand that over next, or to end the session.
///
/// Dropped before the dot goes ([`live::Pulse`]), it leaves nothing but a session that has to end.
pub async fn hand_over(
    agent: &Agent,
    live: &mut Live,
    assignment: &Assignment,
    next: impl FnOnce() -> Option<ToBeSent>,
) -> Handed {
    let Live { wire, session, .. } = live;
    wire.pulse().begins();
    let mut transaction = session.begin(&assignment.envelope, assignment.content_bytes);
    let mut next = Some(next);
    let mut since = now();
    loop {
        match transaction.want() {
            TransactionWant::Content => {
                content::give(agent, wire, &mut transaction, assignment).await;
            }
            TransactionWant::Dot => {
                // All that the dot could wait for comes before the lease is looked at: much of the content, and a slot.
                // The dot, with a line's end before it, has to fit into the same block.
                if transaction.output_len() + b"\r\n.\r\n".len() > BLOCK_BYTES {
                    let out = transaction.take_output();
                    if let Err(lost) = wire.write(&out, transaction.write_timeout()).await {
                        transaction.received(&wire.last_words().await);
                        transaction.lost(lost);
                        continue;
                    }
                }
                wire.may_send().await;
                // A 250 that came before the dot does not answer it.
                if let Some(early) = wire.read_now().await {
                    match early {
                        Ok(bytes) => _ = transaction.received(bytes),
                        Err(lost) => transaction.lost(lost),
                    }
                    continue;
                }
                if !holds(agent, assignment) {
                    return Handed::GivenUp(GivenBack::LeaseExpired);
                }
                wire.pulse().dot_goes();
                let dot = DotSent {
                    lease: assignment.lease.clone(),
                    recipients: transaction.accepted().to_vec(),
                };
                if let Err(error) = agent.dot_goes_out(dot).await {
                    transaction.give_up(&error.to_string());
                    continue;
                }
                // A sync takes its time.
                if !holds(agent, assignment) {
                    agent.dot_stays(&assignment.lease);
                    return Handed::GivenUp(GivenBack::LeaseExpired);
                }
                let next = next.take().and_then(|next| next());
                transaction.send_dot(next.as_ref().map(ToBeSent::ahead));
                let (out, limit) = (transaction.take_output(), transaction.write_timeout());
                if let Err(lost) =
                    send_dot(wire, &out, limit, &agent.leases, &assignment.lease).await
                {
                    transaction.received(&wire.last_words().await);
                    transaction.lost(lost);
                    continue;
                }
                since = now();
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
                    Ok(bytes) => {
                        let at = now();
                        transaction.took(at.saturating_duration_since(since));
                        if transaction.received(bytes) > 0 {
                            since = at;
                            wire.pulse().moves(at);
                        }
                    }
                    Err(lost) => transaction.lost(lost),
                }
            }
            TransactionWant::Nothing => return Handed::Ended(transaction.finish()),
        }
    }
}

/// Sends what ends in the dot, and the envelope that may follow it. A site that reads nothing may keep it waiting: once the
/// lease is over the message may be somebody else's, so what is left of the block with the dot is never sent. The
/// connection ends, and whether the site has the message nobody knows.
async fn send_dot(
    wire: &mut Wire,
    out: &[u8],
    limit: Duration,
    leases: &Leases,
    lease: &Lease,
) -> Result<(), Lost> {
    let (with_the_dot, ahead) = out.split_at(out.len().min(BLOCK_BYTES));
    wire.write_before(with_the_dot, limit, leases.is_over(lease))
        .await?;
    wire.write(ahead, limit).await
}

/// Whether the lease allows a dot.
fn holds(agent: &Agent, assignment: &Assignment) -> bool {
    agent.leases.standing(&assignment.lease, Boottime::now()) == Standing::Held
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

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::{TcpListener, TcpSocket, TcpStream};

    use super::*;
    use crate::lease::tests::lease;

    const LAST: &[u8] = b"the end\r\n.\r\n";

    /// A connection to a home that reads nothing any more, and has taken all that it can.
    async fn stuck() -> (Wire, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        let stream = socket
            .connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (home, _) = listener.accept().await.unwrap();
        let filling = vec![b'x'; BLOCK_BYTES];
        // What is on its way may make room once more.
        let room = Duration::from_millis(200);
        while tokio::time::timeout(room, stream.writable()).await.is_ok() {
            while stream.try_write(&filling).is_ok() {}
        }
        (Wire::in_the_clear(stream), home)
    }

    fn held_for(duration: Duration) -> Leases {
        let (leases, now) = (Leases::default(), Boottime::now());
        leases.welcome(&[], duration, now, now);
        leases.take(lease(1), now);
        leases
    }

    async fn all_that_came(mut home: TcpStream) -> Vec<u8> {
        let mut came = Vec::new();
        home.read_to_end(&mut came).await.unwrap();
        came
    }

    #[tokio::test]
    async fn nothing_of_a_dot_goes_out_once_its_lease_is_over() {
        let (mut wire, home) = stuck().await;
        let leases = held_for(Duration::from_millis(300));
        let (limit, began) = (Duration::from_secs(180), now());
        let sent = send_dot(&mut wire, LAST, limit, &leases, &lease(1)).await;
        assert_eq!(sent, Err(Lost::TimedOut));
        let took = now().saturating_duration_since(began);
        assert!(took < Duration::from_secs(60), "{took:?}");
        let standing = leases.standing(&lease(1), Boottime::now());
        assert_eq!(standing, Standing::Expired);
        drop(wire);
        assert!(!all_that_came(home).await.ends_with(LAST));
    }

    #[tokio::test]
    async fn a_dot_whose_lease_the_controller_has_dropped_stays_too() {
        let (mut wire, home) = stuck().await;
        let leases = held_for(Duration::from_secs(3600));
        let now = Boottime::now();
        let limit = Duration::from_secs(180);
        leases.welcome(&[], Duration::from_secs(3600), now, now);
        let sent = send_dot(&mut wire, LAST, limit, &leases, &lease(1)).await;
        assert_eq!(sent, Err(Lost::TimedOut));
        drop(wire);
        assert!(!all_that_came(home).await.ends_with(LAST));
    }

    #[tokio::test]
    async fn a_dot_waits_for_a_slow_home_while_its_lease_is_held() {
        let (mut wire, home) = stuck().await;
        let leases = held_for(Duration::from_secs(3600));
        let held = lease(1);
        let sending = async {
            let limit = Duration::from_secs(180);
            let sent = send_dot(&mut wire, LAST, limit, &leases, &held).await;
            drop(wire);
            sent
        };
        let (sent, came) = tokio::join!(sending, all_that_came(home));
        assert_eq!(sent, Ok(()));
        assert!(came.ends_with(LAST));
    }
}

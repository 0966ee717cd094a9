//! `dd.v1.Delivery`: the streams of agents, and the content they fetch.
//!
//! # Invariants
//! An agent speaks only for itself: its Hello must carry its certificate's name, and content goes only to the holder
//! of the lease. Events wait for dispatch and orders for the agent, each on its own, so neither holds up the other.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use dd_proto::convert::ConvertError;
use dd_proto::id::Lease;
use dd_proto::name::AgentName;
use dd_proto::pb;
use tokio::task::JoinSet;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::attached::Seat;
use super::caller::{AgentId, Caller};
use super::produced::{Items, Produced};
use super::turns::Turns;
use super::{Context, Knowledge, caller, now, order, status};
use crate::dispatch::{AgentEvent, AttachmentId, Handle, Hello};
use crate::store::{StoreError, StoredContent};

/// For the whole Hello, journal included.
const HELLO: Duration = Duration::from_secs(60);
/// More than this many entries no agent can owe.
const MAX_JOURNALED: usize = 200_000;
/// Of the addresses it says it binds, more are not looked at.
const MAX_ADDRESSES: usize = 100;
const CHUNK: usize = 64 << 10;

#[derive(Debug, Clone)]
pub struct Delivery(pub Arc<Context>);

#[tonic::async_trait]
impl pb::delivery_server::Delivery for Delivery {
    type AttachStream = Orders;

    async fn attach(
        &self,
        request: Request<Streaming<pb::AgentEvent>>,
    ) -> Result<Response<Orders>, Status> {
        let agent = Self::agent(&request)?;
        let mut events = request.into_inner();
        let (hello, addresses) = tokio::time::timeout(HELLO, hello(&mut events, &agent.name))
            .await
            .map_err(|_| status::too_slow("the Hello did not end in time"))??;
        let spending = self.0.editor.spend_token(&agent.name);
        spending.await?;
        tracing::info!(target: "agent", agent = %agent.name, version = hello.version, "agent attached");
        let attachment = self.0.dispatch.attach(hello).await;
        let guard = Attached {
            id: attachment.id,
            agent: agent.name.clone(),
            dispatch: self.0.dispatch.clone(),
        };
        let mut seat = self.0.attached.sit(agent.clone());
        seat.binds(addresses);
        if !self.0.registry.recognizes(&agent.name, agent.key) {
            // It was removed while it said Hello, or its name has joined with another key.
            seat.cut();
            if self.0.registry.agent(&agent.name).is_none() {
                self.0.dispatch.agent_removed(agent.name).await;
            }
        }
        let mut listening = JoinSet::new();
        listening.spawn(listen(events, guard, self.0.clone()));
        Ok(Response::new(Orders {
            orders: Turns::new(attachment.orders),
            seat,
            listening,
            context: self.0.clone(),
        }))
    }

    type FetchContentStream = Produced<pb::ContentChunk>;

    async fn fetch_content(
        &self,
        request: Request<pb::FetchContentRequest>,
    ) -> Result<Response<Self::FetchContentStream>, Status> {
        let agent = Self::agent(&request)?;
        let lease = request.into_inner().lease;
        let lease: Lease = lease
            .ok_or(ConvertError("lease"))
            .and_then(TryInto::try_into)
            .map_err(status::malformed)?;
        let held = self.0.dispatch.lease_held(lease.delivery.clone()).await;
        if !held.is_some_and(|held| held.agent == agent.name && held.generation == lease.generation)
        {
            return Err(status::denied("the agent does not hold this lease"));
        }
        let loading = self.0.store.load(&lease.delivery);
        let loaded = match loading.await {
            Err(error @ StoreError::Damaged(_)) => {
                self.0.dispatch.content_damaged(lease).await;
                return Err(error.into());
            }
            loaded => loaded?,
        };
        let loaded = loaded.ok_or_else(|| match self.0.knows_all() {
            Knowledge::Complete => status::unknown("delivery", &lease.delivery.to_string()),
            // It goes on from an earlier start.
            Knowledge::Partial => status::not_all_known(),
        })?;
        Ok(Response::new(Produced::by(|items| {
            send(loaded.content, items)
        })))
    }
}

impl Delivery {
    /// The agent that calls; `roles` has let only a registered one with its own key come as far as this.
    fn agent<T>(request: &Request<T>) -> Result<AgentId, Status> {
        match caller(request) {
            Caller::Agent(agent) => Ok(agent),
            Caller::Nobody | Caller::Lapsed(_) | Caller::Admin(_) | Caller::Local(_) => {
                Err(status::denied("only an agent may do this"))
            }
        }
    }
}

/// Hello, the journal, HelloEnd; and the addresses that the agent binds.
async fn hello(
    events: &mut Streaming<pb::AgentEvent>,
    agent: &AgentName,
) -> Result<(Hello, Vec<IpAddr>), Status> {
    use pb::agent_event::Event;
    use pb::journaled::Entry;
    let Some(Event::Hello(first)) = next(events).await? else {
        return Err(status::invalid("the first event is no Hello"));
    };
    if first.name.parse().ok().as_ref() != Some(agent) {
        return Err(status::denied(format!(
            "the certificate is for the agent `{agent}`: use that name in its configuration, or join again"
        )));
    }
    can_work(&first)?;
    let addresses = first.addresses.iter().take(MAX_ADDRESSES);
    let addresses = addresses.filter_map(|it| it.parse().ok()).collect();
    let mut hello = Hello {
        agent: agent.clone(),
        version: first.version.chars().take(80).collect(),
        slots: first.slots,
        probes: first.probes,
        boot_id: first.boot_id,
        trouble: order::trouble(&first.trouble),
        work_in_hand: first
            .work_in_hand
            .into_iter()
            .map(TryInto::try_into)
            .collect::<Result<_, ConvertError>>()
            .map_err(status::malformed)?,
        in_doubt: Vec::new(),
        reports: Vec::new(),
    };
    for _ in 0..MAX_JOURNALED {
        match next(events).await? {
            Some(Event::HelloEnd(_)) => return Ok((hello, addresses)),
            Some(Event::Journaled(it)) => match it.entry {
                Some(Entry::DotSent(dot)) => {
                    hello
                        .in_doubt
                        .push(dot.try_into().map_err(status::malformed)?);
                }
                Some(Entry::Report(report)) => {
                    hello
                        .reports
                        .push(report.try_into().map_err(status::malformed)?);
                }
                None => return Err(status::malformed(ConvertError("entry"))),
            },
            _ => return Err(status::invalid("the Hello has no end")),
        }
    }
    Err(status::too_much("the journal in the Hello is too long"))
}

/// Whether a Hello is one of an agent that this controller can give work.
///
/// # Errors
/// It is not; what the agent, of whatever version, lacks.
fn can_work(hello: &pb::Hello) -> Result<(), Status> {
    if !hello.kinds.iter().any(|kind| kind == order::KIND) {
        let kinds = match hello.kinds.is_empty() {
            true => "no kind of delivery".to_owned(),
            false => hello.kinds.join(", ").chars().take(80).collect(),
        };
        return Err(status::refused(format!(
            "the agent serves {kinds}, and this controller has work of the kind `{}` only: use an agent that serves it",
            order::KIND
        )));
    }
    if hello.slots == 0 || hello.probes == 0 {
        return Err(status::invalid(
            "the agent has no slots or no probes, so it can do nothing: it needs one of each at least",
        ));
    }
    Ok(())
}

/// The next event that this version knows; None at the end. What a newer agent says beyond that is passed over.
async fn next(
    events: &mut Streaming<pb::AgentEvent>,
) -> Result<Option<pb::agent_event::Event>, Status> {
    while let Some(event) = events.message().await? {
        if let Some(event) = event.event {
            return Ok(Some(event));
        }
    }
    Ok(None)
}

/// Tells dispatch that the agent is gone, however its stream ends.
struct Attached {
    id: AttachmentId,
    agent: AgentName,
    dispatch: Handle,
}

impl Drop for Attached {
    fn drop(&mut self) {
        tracing::info!(target: "agent", agent = %self.agent, "agent detached");
        self.dispatch.detached(self.id);
    }
}

/// Hands events on until the stream ends, or says what cannot be understood.
async fn listen(
    mut events: Streaming<pb::AgentEvent>,
    attached: Attached,
    context: Arc<Context>,
) -> Option<Status> {
    loop {
        let event = match next(&mut events).await {
            Ok(Some(event)) => event,
            Ok(None) => return None,
            Err(error) => return Some(error),
        };
        if let pb::agent_event::Event::Checked(checked) = event {
            context.attached.answered(&attached.agent, checked);
            continue;
        }
        if let pb::agent_event::Event::SessionClosed(closed) = &event {
            context.sights.closed(closed, now());
        }
        match order::event(event) {
            Ok(event @ AgentEvent::Proved { .. }) => {
                if let AgentEvent::Proved { site, observed, .. } = &event {
                    context.sights.saw(&attached.agent, site, observed, now());
                }
                attached.dispatch.agent_event(attached.id, event).await;
            }
            Ok(event) => attached.dispatch.agent_event(attached.id, event).await,
            Err(error) => {
                tracing::warn!(agent = %attached.agent, %error, "an agent says what cannot be understood");
                return Some(status::malformed(error));
            }
        }
    }
}

/// The orders of one attachment; dropped, it ends the attachment.
#[derive(Debug)]
pub struct Orders {
    orders: Turns,
    seat: Seat,
    listening: JoinSet<Option<Status>>,
    context: Arc<Context>,
}

impl Stream for Orders {
    type Item = Result<pb::Order, Status>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<Self::Item>> {
        match self.seat.poll_order(context) {
            Poll::Ready(Some(order)) => return Poll::Ready(Some(Ok(order))),
            Poll::Ready(None) => {
                let removed = "the agent has been removed, or has joined anew elsewhere: run `ddadm agent add` (or `ddadm agent token`, where it is still listed) to have it back";
                return Poll::Ready(Some(Err(status::unrecognized(removed))));
            }
            Poll::Pending => {}
        }
        // Orders before events: what was acknowledged is told even to an agent that has just said its last.
        if let Poll::Ready(order) = self.orders.poll_order(context) {
            return Poll::Ready(order.map(|it| Ok(order::order(&self.context, it))));
        }
        match self.listening.poll_join_next(context) {
            Poll::Ready(Some(Ok(Some(error)))) => Poll::Ready(Some(Err(error))),
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// In order and no faster than it is taken.
pub(super) async fn send(content: StoredContent, items: Items<pb::ContentChunk>) {
    let mut file = match content {
        StoredContent::Inline(mut bytes) => {
            while !bytes.is_empty() {
                let data = bytes.split_to(bytes.len().min(CHUNK));
                if items.send(Ok(pb::ContentChunk { data })).await.is_err() {
                    return;
                }
            }
            return;
        }
        StoredContent::File(file) => file,
    };
    loop {
        let item = match file.next(CHUNK).await {
            Ok(data) if data.is_empty() => return,
            Ok(data) => Ok(pb::ContentChunk { data }),
            Err(error) => Err(status::trouble(&error)),
        };
        let last = item.is_err();
        if items.send(item).await.is_err() || last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    #[test]
    fn an_agent_that_can_do_nothing_here_is_told_why() {
        let hello = |kinds: &[&str], slots, probes| pb::Hello {
            kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
            slots,
            probes,
            ..pb::Hello::default()
        };
        for (hello, expected) in [
            (hello(&["smtp"], 1, 1), None),
            // A newer one that serves more.
            (hello(&["lmtp", "smtp"], 1, 1), None),
            (
                hello(&["lmtp"], 1, 1),
                Some((Code::FailedPrecondition, "serves lmtp")),
            ),
            (
                hello(&[], 1, 1),
                Some((Code::FailedPrecondition, "no kind of delivery")),
            ),
            (
                hello(&["smtp"], 0, 1),
                Some((Code::InvalidArgument, "no slots")),
            ),
            (
                hello(&["smtp"], 1, 0),
                Some((Code::InvalidArgument, "no probes")),
            ),
        ] {
            let refused = can_work(&hello).err();
            assert_eq!(refused.as_ref().map(Status::code), expected.map(|it| it.0));
            if let (Some(refused), Some((_, says))) = (refused, expected) {
                assert!(refused.message().contains(says), "{}", refused.message());
            }
        }
    }
}

//! `dd.v1.Delivery`: the streams of agents, and the content they fetch.
//!
//! # Invariants
//! An agent speaks only for itself: its Hello must carry its certificate's name, and content goes only to the holder
//! of the lease. Events wait for dispatch and orders for the agent, each on its own, so neither holds up the other.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use dd_proto::convert::ConvertError;
use dd_proto::feature::Feature;
use dd_proto::id::Lease;
use dd_proto::name::AgentName;
use dd_proto::pb;
use dd_proto::report::DotSent;
use tokio::task::JoinSet;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::attached::Seat;
use super::caller::{AgentId, Caller};
use super::conduct::Say;
use super::door::{self, Contradiction, Door, Fault, Journaled, limits};
use super::produced::{Items, Produced};
use super::turns::Turns;
use super::{Context, Knowledge, caller, from, now, order, status};
use crate::dispatch::{AgentEvent, AttachmentId, Handle, Hello, Machine};
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
        let from = from(&request);
        let mut events = request.into_inner();
        let hello = match tokio::time::timeout(HELLO, self.hello(&mut events, &agent.name)).await {
            Ok(hello) => hello,
            Err(_) => Err(status::too_slow("the Hello did not end in time")),
        };
        let (mut hello, addresses) =
            hello.inspect_err(|status| self.refused(&agent.name, &from, status))?;
        let greeting = self.0.editor.greet(&agent.name, &hello.boot_id);
        hello.machine = greeting.await?;
        tracing::info!(target: "agent", agent = %agent.name, version = hello.version, from, "agent attached");
        // Before dispatch ends the older stream's orders, so that it can say why.
        self.displace(&agent.name, &from);
        let features = hello.features.clone();
        let attachment = self.0.dispatch.attach(hello).await;
        self.0.editor.is_attached(&agent.name);
        let guard = Attached {
            id: attachment.id,
            agent: agent.name.clone(),
            dispatch: self.0.dispatch.clone(),
        };
        let mut seat = self.0.attached.sit(agent.clone(), &from);
        seat.says(addresses, features);
        if !self.0.registry.recognizes(&agent.name, agent.key) {
            // It was removed while it said Hello, or its name has joined with another key.
            seat.cut();
            if self.0.registry.agent(&agent.name).is_none() {
                self.0.dispatch.agent_removed(agent.name.clone()).await;
            }
        }
        let (door, last) = (Door::default(), LastWord::default());
        let mut listening = JoinSet::new();
        let (ear, context, word) = (door.clone(), self.0.clone(), last.clone());
        listening.spawn(async move {
            let end = listen(events, &guard, &ear, &context).await;
            // Said before dispatch hears that the agent is gone, and ends the orders without a word.
            word.say(end);
            drop(guard);
        });
        Ok(Response::new(Orders {
            agent: agent.name,
            orders: Turns::new(attachment.orders),
            seat,
            door,
            last,
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

    /// A stream that lives under this name ends, and is told why.
    fn displace(&self, agent: &AgentName, by: &str) {
        for from in self.0.attached.displace(agent, by) {
            self.0.conduct.taken_over(agent, &from, by, now());
            if let Say::Now(unsaid) = self.0.conduct.say(agent, now()) {
                tracing::warn!(target: "agent", %agent, from, by, unsaid, "a stream was taken over while it lived");
            }
        }
    }

    /// A Hello that leads to nothing would else be seen by nobody but the agent.
    fn refused(&self, agent: &AgentName, from: &str, status: &Status) {
        if let Say::Now(unsaid) = self.0.conduct.say(agent, now()) {
            let (code, why) = (status.code(), status.message());
            tracing::warn!(target: "agent", %agent, from, ?code, why, unsaid, "Hello refused");
        }
    }

    /// Hello, the journal, HelloEnd; and the addresses that the agent binds.
    async fn hello(
        &self,
        events: &mut Streaming<pb::AgentEvent>,
        agent: &AgentName,
    ) -> Result<(Hello, Vec<IpAddr>), Status> {
        use pb::agent_event::Event;
        let malformed =
            |event, error: ConvertError| status::contradiction(&Fault::malformed(event, error.0));
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
        let work_in_hand = first.work_in_hand.into_iter().map(TryInto::try_into);
        let mut hello = Hello {
            agent: agent.clone(),
            version: first.version.chars().take(limits::VERSION).collect(),
            slots: first.slots,
            probes: first.probes,
            boot_id: first.boot_id.chars().take(limits::WORD).collect(),
            machine: Machine::AsBefore,
            trouble: order::trouble(&first.trouble),
            features: Feature::named(first.features.iter().map(String::as_str)),
            work_in_hand: work_in_hand
                .collect::<Result<_, _>>()
                .map_err(|error| malformed("hello.work_in_hand", error))?,
            in_doubt: Vec::new(),
            reports: Vec::new(),
        };
        for _ in 0..MAX_JOURNALED {
            match next(events).await? {
                Some(Event::HelloEnd(_)) => return Ok((hello, addresses)),
                Some(Event::Journaled(it)) => self.journaled(agent, *it, &mut hello)?,
                Some(other) => {
                    let event = door::about(&other).event;
                    return Err(status::invalid(format!(
                        "{event} comes too early: the Hello ends with HelloEnd"
                    )));
                }
                None => return Err(status::invalid("the Hello has no end")),
            }
        }
        Err(status::too_much("the journal in the Hello is too long"))
    }

    /// One entry. What contradicts itself settles nothing, and does not keep the agent from its work.
    fn journaled(
        &self,
        agent: &AgentName,
        entry: pb::Journaled,
        hello: &mut Hello,
    ) -> Result<(), Status> {
        use pb::journaled::Entry;
        let malformed = |field| status::contradiction(&Fault::malformed("journaled", field));
        match entry.entry {
            None => return Err(malformed("entry")),
            Some(Entry::DotSent(dot)) => {
                let dot = dot.try_into();
                hello
                    .in_doubt
                    .push(dot.map_err(|error: ConvertError| malformed(error.0))?);
            }
            Some(Entry::Report(report)) => match door::journaled(report) {
                Ok(Journaled::Report(report)) => hello.reports.push(report),
                Ok(Journaled::InDoubt(dot, fault)) => {
                    self.0.contradicted(agent, &fault);
                    hello.in_doubt.push(dot);
                }
                Ok(Journaled::Nothing(report, fault)) => {
                    self.0.contradicted(agent, &fault);
                    hello.reports.push(report);
                }
                Err(fault) => {
                    self.0.contradicted(agent, &fault);
                    return Err(status::contradiction(&fault));
                }
            },
        }
        Ok(())
    }
}

impl Context {
    /// Counted, shown in `agent list`, and said in the log now and then.
    fn contradicted(&self, agent: &AgentName, fault: &Fault) {
        let what = fault.to_string();
        if let Say::Now(unsaid) = self.conduct.contradicted(agent, &what, now()) {
            tracing::warn!(target: "agent", %agent, what, unsaid, "what an agent says is refused");
        }
    }
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

/// How a stream's events ended, for the orders that go the other way.
#[derive(Debug, Clone, Default)]
struct LastWord(Arc<Mutex<Option<Option<Status>>>>);

impl LastWord {
    fn say(&self, end: Option<Status>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
    }

    /// None: the events go on. Some(None): the agent has ended them in order.
    fn take(&self) -> Option<Option<Status>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Hands events on until the stream ends, or says what is wrong with one.
async fn listen(
    mut events: Streaming<pb::AgentEvent>,
    attached: &Attached,
    door: &Door,
    context: &Context,
) -> Option<Status> {
    loop {
        let mut event = match next(&mut events).await {
            Ok(Some(event)) => event,
            Ok(None) => return None,
            Err(error) => return Some(error),
        };
        if let Err(Contradiction { fault, dot }) = door.judge(&mut event) {
            if let Some(lease) = dot {
                // The message may be at the site, whatever the report says of it.
                let dot = AgentEvent::DotSent(DotSent {
                    lease: *lease,
                    recipients: Vec::new(),
                });
                attached.dispatch.agent_event(attached.id, dot).await;
            }
            context.contradicted(&attached.agent, &fault);
            return Some(status::contradiction(&fault));
        }
        match event {
            pb::agent_event::Event::Checked(checked) => {
                context.attached.answered(&attached.agent, checked);
                continue;
            }
            pb::agent_event::Event::SessionClosed(ref closed) => {
                context.sights.closed(closed, now());
            }
            _ => {}
        }
        let about = door::about(&event);
        match order::event(event) {
            Ok(event) => {
                if let AgentEvent::Proved { site, observed, .. } = &event {
                    context.sights.saw(&attached.agent, site, observed, now());
                }
                attached.dispatch.agent_event(attached.id, event).await;
            }
            Err(error) => {
                let fault = door::not_understood(&about, error.0);
                context.contradicted(&attached.agent, &fault);
                return Some(status::contradiction(&fault));
            }
        }
    }
}

/// The orders of one attachment; dropped, it ends the attachment.
#[derive(Debug)]
pub struct Orders {
    agent: AgentName,
    orders: Turns,
    seat: Seat,
    door: Door,
    last: LastWord,
    listening: JoinSet<()>,
    context: Arc<Context>,
}

impl Orders {
    /// Nothing more comes from dispatch: why the stream ends, if that is not how the agent wanted it.
    fn end(&self) -> Option<Result<pb::Order, Status>> {
        match self.last.take() {
            Some(end) => end.map(Err),
            None => Some(Err(status::ended(
                "the controller has ended this stream: it stops, or the agent did not take its orders in time",
            ))),
        }
    }
}

impl Stream for Orders {
    type Item = Result<pb::Order, Status>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<Option<Self::Item>> {
        match self.seat.poll_order(context) {
            Poll::Ready(Some(order)) => return Poll::Ready(Some(Ok(order))),
            Poll::Ready(None) => return Poll::Ready(Some(Err(self.seat.why(&self.agent)))),
            Poll::Pending => {}
        }
        // Orders before events: what was acknowledged is told even to an agent that has just said its last.
        match self.orders.poll_order(context) {
            Poll::Ready(Some(order)) => {
                self.door.gave(&order);
                return Poll::Ready(Some(Ok(order::order(&self.context, order))));
            }
            Poll::Ready(None) => return Poll::Ready(self.end()),
            Poll::Pending => {}
        }
        match self.listening.poll_join_next(context) {
            Poll::Ready(_) => Poll::Ready(self.end()),
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

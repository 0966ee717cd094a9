//! The loop around the core: wait for events, apply them, hand the effects out.
//!
//! # Invariants
//! - The loop waits for nothing but its inputs: writing, reading and asking are futures whose results are inputs.
//! - Settlements are written together, and so are notes ([`super::batch`]).
//! - An agent that does not take its orders is detached; it never holds the loop.
//!
//! # Not here
//! Any decision: [`super::state`]. How effects are carried out: [`super::perform`].

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use dd_proto::id::DeliveryId;
use dd_proto::name::{AgentName, SiteName};
use dd_proto::site::Site;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::actions::Asked;
use super::ahead::{MailOf, Reads};
use super::backing::{Backing, StoreFailed};
use super::batch::Batch;
use super::cache::Cache;
use super::clock::{Clock, MachineClock};
use super::event::{By, Effect, Event, Now, Settle};
use super::handle::{Ask, Handle, Input};
use super::mail::Mail;
use super::phase::{Phase, Why};
use super::release::{Token, Waiter};
use super::saving::{Confirming, Saving};
use super::settled;
use super::standing::Terms;
use super::state::State;
use super::{
    AgentEvent, Arrived, Attachment, AttachmentId, ClockMemory, Hello, InHand, Order, Released,
};
use crate::dsn::Notifier;
use crate::dsn::smarthost;
use crate::store::{Head, HeadOf};

/// Contents and envelopes kept in memory.
const CACHE: usize = 64 << 20;
/// Orders that an agent may be behind.
const ORDERS: usize = 32 * 1024;
/// Agents' events that wait for the loop.
const EVENTS: usize = 4096;
/// Arrivals and requests that wait for the loop. Whoever brings more waits, and the loop waits for none of them.
const INPUTS: usize = 4096;
/// Events applied before effects are handed out.
const BATCH: usize = 512;
/// So late the loop is only where the whole process was.
const STOOD_STILL: Duration = Duration::from_secs(5);

/// What the loop is told at the start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The controller's start number: the high half of every generation.
    pub start_number: u64,
    /// A wall clock that does not fit it is not believed.
    pub clock: ClockMemory,
    /// Writes to senders and contacts.
    pub notifier: Notifier,
}

/// Makes the loop; it runs as long as the future is polled. Each agent with its terms.
pub fn start<S: Backing>(
    settings: Settings,
    store: S,
    sites: Vec<Arc<Site>>,
    agents: Vec<(AgentName, Terms)>,
) -> (Handle, impl Future<Output = ()> + Send + 'static) {
    let chance = Chance {
        clock: MachineClock::start(),
        rng: StdRng::from_seed(rand::random()),
    };
    start_with(settings, chance, store, sites, agents)
}

/// All that differs from one run to the next though the same happens to both.
#[derive(Debug)]
pub(crate) struct Chance<C> {
    pub(crate) clock: C,
    pub(crate) rng: StdRng,
}

/// [`start`], with the time and the dice given.
pub(crate) fn start_with<S: Backing, C: Clock>(
    settings: Settings,
    Chance { clock, rng }: Chance<C>,
    store: S,
    sites: Vec<Arc<Site>>,
    agents: Vec<(AgentName, Terms)>,
) -> (Handle, impl Future<Output = ()> + Send + 'static) {
    let (inputs_in, inputs) = mpsc::channel(INPUTS);
    let (ended_in, ended) = mpsc::unbounded_channel();
    let (events_in, events) = mpsc::channel(EVENTS);
    let drain_ended = Arc::new(Notify::new());
    let dispatch = Dispatch {
        state: State::new(
            settings.start_number,
            settings.clock,
            sites,
            agents,
            clock.now(),
        ),
        all_known: Some(store.all_known()),
        store,
        notifier: settings.notifier,
        rng,
        clock,
        inputs,
        events,
        ended,
        drain_ended: drain_ended.clone(),
        drained: Vec::new(),
        done: JoinSet::new(),
        streams: HashMap::new(),
        cache: Cache::new(CACHE),
        reads: Reads::default(),
        batch: Batch::default(),
        effects: Vec::new(),
        waiters: HashMap::new(),
        actions: HashMap::new(),
        closings: HashMap::new(),
        last_number: 0,
        store_has_failed: false,
        saving: Saving::default(),
        confirming: Vec::new(),
    };
    let handle = Handle {
        measured: dispatch.state.measured.clone(),
        inputs: inputs_in,
        agents: events_in,
        ended: ended_in,
        drain_ended,
    };
    (handle, dispatch.run())
}

/// What came of an effect.
pub(super) enum Done {
    /// Durable; each with its message, where it can be read, for the log line.
    Settled(Vec<(Settle, Option<Mail>)>, Vec<Arrived>),
    Noted(Vec<DeliveryId>, Vec<Arrived>),
    /// Mail of our own.
    Arrived(Vec<Arrived>),
    Read(Vec<MailOf>),
    /// Each with the number of its read.
    HeadsRead(Vec<(u64, HeadOf)>, Result<Vec<Head>, StoreFailed>),
    Event(Box<Event>),
    Nothing,
    /// The process ends; nothing is acknowledged any more.
    StoreFailed(StoreFailed),
}

/// Somebody waits until it has been done.
pub(super) struct Acting {
    pub(super) answer: oneshot::Sender<Result<u64, InHand>>,
    pub(super) count: u64,
    /// Settlements that are not durable yet.
    pub(super) left: u64,
}

pub(super) struct Dispatch<S, C> {
    pub(super) state: State,
    pub(super) store: S,
    pub(super) notifier: Notifier,
    pub(super) rng: StdRng,
    pub(super) clock: C,
    pub(super) inputs: mpsc::Receiver<Input>,
    /// Streams that have ended: no more than there are.
    pub(super) ended: mpsc::UnboundedReceiver<AttachmentId>,
    pub(super) drain_ended: Arc<Notify>,
    /// Who waits until nothing is being handed over.
    pub(super) drained: Vec<oneshot::Sender<()>>,
    pub(super) events: mpsc::Receiver<(AttachmentId, AgentEvent)>,
    pub(super) all_known: Option<watch::Receiver<bool>>,
    pub(super) done: JoinSet<Done>,
    pub(super) streams: HashMap<AttachmentId, mpsc::Sender<Order>>,
    pub(super) cache: Cache,
    pub(super) reads: Reads,
    pub(super) batch: Batch,
    pub(super) effects: Vec<Effect>,
    pub(super) waiters: HashMap<Token, oneshot::Sender<Released>>,
    pub(super) actions: HashMap<Token, Acting>,
    pub(super) closings: HashMap<Token, oneshot::Sender<u64>>,
    pub(super) last_number: u64,
    pub(super) store_has_failed: bool,
    /// Ends once what was seen last of the wall clock is durable.
    pub(super) saving: Saving,
    /// Whoever confirmed the clock just now.
    pub(super) confirming: Vec<Confirming>,
}

impl<S: Backing, C: Clock> Dispatch<S, C> {
    async fn run(mut self) {
        let (mut inputs, mut events, mut ended) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            let due = self.state.next_deadline();
            let deadline = self.sleep(due);
            // All sources are emptied below, whichever of them woke the loop: the order starves none.
            tokio::select! {
                biased;
                () = knows_all(&mut self.all_known) => {
                    self.all_known = None;
                    let sites = self.store.sites_with_mail();
                    self.apply(Event::AllKnown(sites));
                }
                () = deadline => self.apply(Event::Time),
                taken = self.inputs.recv_many(&mut inputs, BATCH) => if taken == 0 {
                    return;
                },
                _ = self.events.recv_many(&mut events, BATCH) => {}
                Some(id) = self.ended.recv() => ended.push(id),
                Some(done) = self.done.join_next() => self.take(done),
            }
            let now = self.clock.monotonic();
            let late = due.map_or(Duration::ZERO, |due| now.saturating_sub(due));
            if late > STOOD_STILL {
                tracing::warn!(seconds = late.as_secs(), "this process stood still");
                self.state.stood_still(now);
            }
            // What an agent said before its stream ended counts.
            while let Ok(event) = self.events.try_recv() {
                events.push(event);
            }
            for (id, event) in events.drain(..) {
                self.apply(Event::Said { id, event });
            }
            for id in ended.drain(..) {
                self.streams.remove(&id);
                self.apply(Event::Detached(id));
            }
            for input in inputs.drain(..) {
                self.input(input);
            }
            while let Some(done) = self.done.try_join_next() {
                self.take(done);
            }
            if self.store_has_failed {
                // What was asked may never be answered: whoever runs the loop ends the process, and the next start knows.
                return;
            }
            self.perform();
            if !self.drained.is_empty() && self.state.is_drained() {
                for waiting in self.drained.drain(..) {
                    let _ = waiting.send(());
                }
            }
        }
    }

    pub(super) fn now(&self) -> Now {
        self.clock.now()
    }

    /// Until the core wants to be called again, or something has to be written.
    fn sleep(&self, due: Option<Duration>) -> impl Future<Output = ()> + use<S, C> {
        let deadlines = [due, self.batch.due()];
        let wait = deadlines.into_iter().flatten().min();
        let wait = wait.map(|at| at.saturating_sub(self.clock.monotonic()));
        async move {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        }
    }

    pub(super) fn apply(&mut self, event: Event) {
        let now = self.now();
        self.state
            .apply(event, now, &mut self.rng, &mut self.effects);
        for (site, phase) in std::mem::take(&mut self.state.moved) {
            let queue = self.state.sites.get(&site);
            let phase = queue.map_or(phase, |queue| self.state.with_reason(queue, phase));
            let (state, why) = phase.words();
            let smarthost = (site.as_str() == smarthost::NAME)
                .then(|| self.state.site_view(&site, now).unwrap_or_default());
            let trouble = smarthost
                .as_ref()
                .and_then(|view| view.waits_for().zip(Some(view)));
            if let Some((why, view)) = trouble {
                let detail = view.failed_last().map_or("", |last| last.detail.as_str());
                tracing::warn!(target: "site", %site, why, detail, "the smarthost takes no notifications: senders are not told");
            } else if matches!(phase, Phase::Waiting(Why::WrongHost, _)) {
                // Somebody else answers at a member's address, or the member's server shows what it should not.
                tracing::warn!(target: "site", %site, state, why, "the site has changed its state");
            } else {
                tracing::info!(target: "site", %site, state, why, "the site has changed its state");
            }
        }
    }

    fn input(&mut self, input: Input) {
        match input {
            Input::Arrived(arrived) => self.all_arrived(arrived),
            Input::SiteChanged(site) => {
                let waiting = self.store.count(&site.name).messages;
                self.apply(Event::SiteChanged { site, waiting });
            }
            Input::Event(event) => self.apply(event),
            Input::Ask(ask) => self.ask(ask),
        }
    }

    fn all_arrived(&mut self, arrived: Vec<Arrived>) {
        for arrived in arrived {
            self.arrived(arrived);
        }
    }

    fn arrived(&mut self, arrived: Arrived) {
        let Arrived { waiting, mail } = arrived;
        let delivery = waiting.delivery.clone();
        self.apply(Event::Arrived(waiting));
        // What waits for a site that is not being tried is read when its turn comes.
        if self.state.is_being_tried(&delivery.site) {
            self.cache.put(delivery, mail);
        }
    }

    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Nobody waits for an answer that cannot be sent any more.
    fn ask(&mut self, ask: Ask) {
        match ask {
            Ask::Attach(hello, answer) => self.attach(hello, answer),
            Ask::LeaseHeld(delivery, answer) => {
                let _ = answer.send(self.state.lease_held(&delivery));
            }
            Ask::Release(site, wait, answer) => self.release(site, wait, answer),
            Ask::ConfirmClock(answer) => {
                self.confirming.push(answer);
                self.apply(Event::ClockConfirmed);
            }
            Ask::Act(action, deliveries, answer) => {
                let token = Token(self.number());
                let (count, left) = (0, 0);
                let acting = Acting {
                    answer,
                    count,
                    left,
                };
                self.actions.insert(token, acting);
                self.apply(Event::Act(Asked::new(token, action, deliveries)));
            }
            Ask::CloseSite(site, left, answer) => {
                let token = Token(self.number());
                self.closings.insert(token, answer);
                self.apply(Event::CloseSite { site, token, left });
            }
            Ask::Drain(answer) => {
                self.drained.push(answer);
                self.apply(Event::Stop);
            }
            Ask::ClockAlarm(answer) => {
                let _ = answer.send(self.state.clock_alarm());
            }
            Ask::Site(site, answer) => {
                let _ = answer.send(self.state.site_view(&site, self.now()));
            }
            Ask::States(answer) => {
                let _ = answer.send(self.state.site_states(self.now()));
            }
            Ask::Agents(answer) => {
                let _ = answer.send(self.state.agent_views(self.now()));
            }
            Ask::Drained(answer) => {
                let _ = answer.send(self.state.drained_agents());
            }
            Ask::Untold(answer) => {
                let _ = answer.send(self.state.untold_agents());
            }
            Ask::Left(answer) => {
                let _ = answer.send(self.state.agents_that_left());
            }
            Ask::IsOut(mut deliveries, answer) => {
                deliveries.retain(|delivery| self.state.is_out(delivery));
                let _ = answer.send(deliveries);
            }
            Ask::Counters(answer) => {
                let _ = answer.send(self.state.counters());
            }
        }
    }

    fn attach(&mut self, hello: Hello, answer: oneshot::Sender<Attachment>) {
        let id = AttachmentId(self.number());
        let (sender, orders) = mpsc::channel(ORDERS);
        if answer.send(Attachment { id, orders }).is_ok() {
            if let Some(before) = self.state.attachment_of(&hello.agent) {
                self.streams.remove(&before);
            }
            self.streams.insert(id, sender);
            self.apply(Event::Attached { id, hello });
        }
    }

    fn release(
        &mut self,
        site: SiteName,
        wait: Option<Duration>,
        answer: oneshot::Sender<Option<Released>>,
    ) {
        if !self.state.knows_site(&site) {
            let _ = answer.send(None);
            return;
        }
        let waiting = self.store.count(&site).messages;
        let token = Token(self.number());
        let (sender, released) = oneshot::channel();
        self.waiters.insert(token, sender);
        let deadline = self.clock.monotonic() + wait.unwrap_or_default();
        let waiter = Some(Waiter { token, deadline });
        self.apply(Event::Release {
            site,
            waiting,
            waiter,
        });
        self.done.spawn(async move {
            let released = released.await.ok().map(|released| match (wait, released) {
                (None, Released::Pending { waiting, .. }) => Released::Done { waiting },
                (_, released) => released,
            });
            let _ = answer.send(released);
            Done::Nothing
        });
    }

    fn take(&mut self, done: Result<Done, tokio::task::JoinError>) {
        match done {
            Ok(Done::Settled(batch, arrived)) => {
                for (settle, mail) in batch {
                    self.settled(&settle, mail.as_ref());
                }
                self.all_arrived(arrived);
            }
            Ok(Done::Noted(deliveries, arrived)) => {
                for delivery in deliveries {
                    self.apply(Event::Written(delivery));
                }
                self.all_arrived(arrived);
            }
            Ok(Done::Arrived(arrived)) => self.all_arrived(arrived),
            Ok(Done::Read(read)) => self.read(read),
            Ok(Done::HeadsRead(asked, read)) => self.heads_read(asked, read),
            Ok(Done::Event(event)) => self.apply(*event),
            Ok(Done::Nothing) => {}
            Ok(Done::StoreFailed(error)) => {
                tracing::error!(%error, "dispatch cannot go on");
                self.store_has_failed = true;
            }
            Err(ended) => {
                if let Ok(panic) = ended.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }

    fn heads_read(&mut self, asked: Vec<(u64, HeadOf)>, heads: Result<Vec<Head>, StoreFailed>) {
        let heads = heads.unwrap_or_else(|error| {
            tracing::error!(%error, "the heads of queues cannot be read");
            Vec::new()
        });
        let mut heads = heads.into_iter();
        for (read, HeadOf { site, .. }) in asked {
            self.apply(match heads.next() {
                Some(head) => Event::HeadRead { site, read, head },
                None => Event::HeadNotRead { site, read },
            });
        }
    }

    fn settled(&mut self, settle: &Settle, mail: Option<&Mail>) {
        settled::log(settle, mail, &self.notifier);
        if let By::Site { told, .. } = settle.evidence.by {
            let took = self.clock.monotonic().saturating_sub(told);
            self.state.measured.settled.observe_time(took);
        }
        let delivery = &settle.settlement.delivery;
        if let Some(token) = settle.token
            && let Some(acting) = self.actions.get_mut(&token)
        {
            acting.left -= 1;
            self.acted(token);
        }
        self.apply(Event::Written(delivery.clone()));
    }
}

/// Ends once, when the store says so; never, if it ends before.
async fn knows_all(all_known: &mut Option<watch::Receiver<bool>>) {
    if let Some(known) = all_known
        && known.wait_for(|known| *known).await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

//! The loop around the core: wait for events, apply them, hand the effects out.
//!
//! # Invariants
//! - The loop waits for nothing but its inputs: writing, reading and asking are futures whose results are inputs.
//! - All settlements of one turn are one batch, and so are all notes.
//! - An agent that does not take its orders is detached; it never holds the loop.
//!
//! # Not here
//! Any decision: [`super::state`].

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use dd_proto::envelope::Envelope;
use dd_proto::name::AgentName;
use dd_proto::site::Site;
use jiff::Timestamp;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::backing::{Backing, StoreFailed};
use super::cache::{Cache, Cached};
use super::handle::{Ask, Handle, Input};
use super::lease::Freshness;
use super::release::{Token, Waiter};
use super::settled::{self, Letter};
use super::state::{Assign, Effect, Event, NotLoaded, Now, Settle, State};
use super::{AgentEvent, Arrived, Assignment, Attachment, AttachmentId, InHand, Order, Released};
use crate::store::{Loaded, StoredContent};

/// Contents up to this ride in the assignment.
const INLINE: u64 = 64 * 1024;
/// Contents and envelopes kept in memory.
const CACHE: usize = 64 << 20;
/// Orders that an agent may be behind.
const ORDERS: usize = 32 * 1024;
/// Agents' events that wait for the loop.
const EVENTS: usize = 4096;
/// Events applied before effects are handed out.
const BATCH: usize = 512;

/// What the loop is told at the start.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The controller's start number: the high half of every generation.
    pub start_number: u64,
}

/// Makes the loop; it runs as long as the future is polled.
pub fn start<S: Backing>(
    settings: Settings,
    store: S,
    sites: Vec<Arc<Site>>,
    agents: Vec<AgentName>,
) -> (Handle, impl Future<Output = ()> + Send + 'static) {
    let (inputs_in, inputs) = mpsc::unbounded_channel();
    let (events_in, events) = mpsc::channel(EVENTS);
    let began = boottime();
    let now = Now {
        monotonic: Duration::ZERO,
        wall: wall(),
    };
    let dispatch = Dispatch {
        state: State::new(settings.start_number, sites, agents, now),
        all_known: Some(store.all_known()),
        store,
        rng: StdRng::from_seed(rand::random()),
        began,
        inputs,
        events,
        done: JoinSet::new(),
        streams: HashMap::new(),
        cache: Cache::new(CACHE),
        effects: Vec::new(),
        waiters: HashMap::new(),
        retries: HashMap::new(),
        removals: HashMap::new(),
        last_number: 0,
    };
    let handle = Handle {
        inputs: inputs_in,
        agents: events_in,
    };
    (handle, dispatch.run())
}

/// What came of an effect.
enum Done {
    /// Durable; the letters for their log lines.
    Settled(Vec<(Settle, Letter)>),
    Noted(Vec<dd_proto::id::DeliveryId>),
    Loaded(
        Box<Assign>,
        Result<Option<(Envelope, Option<bytes::Bytes>)>, StoreFailed>,
    ),
    Event(Box<Event>),
    Nothing,
    /// The process ends; nothing is acknowledged any more.
    StoreFailed(StoreFailed),
}

struct Removal {
    answer: oneshot::Sender<Result<u64, InHand>>,
    count: u64,
    left: u64,
}

struct Dispatch<S> {
    state: State,
    store: S,
    rng: StdRng,
    began: Duration,
    inputs: mpsc::UnboundedReceiver<Input>,
    events: mpsc::Receiver<(AttachmentId, AgentEvent)>,
    all_known: Option<watch::Receiver<bool>>,
    done: JoinSet<Done>,
    streams: HashMap<AttachmentId, mpsc::Sender<Order>>,
    cache: Cache,
    effects: Vec<Effect>,
    waiters: HashMap<Token, oneshot::Sender<Released>>,
    retries: HashMap<Token, oneshot::Sender<u64>>,
    removals: HashMap<Token, Removal>,
    last_number: u64,
}

impl<S: Backing> Dispatch<S> {
    async fn run(mut self) {
        let (mut inputs, mut events) = (Vec::new(), Vec::new());
        loop {
            let deadline = self.sleep();
            tokio::select! {
                taken = self.inputs.recv_many(&mut inputs, BATCH) => if taken == 0 {
                    return;
                },
                _ = self.events.recv_many(&mut events, BATCH) => {}
                Some(done) = self.done.join_next() => self.take(done),
                () = knows_all(&mut self.all_known) => {
                    self.all_known = None;
                    let sites = self.store.sites_with_mail();
                    self.apply(Event::AllKnown(sites));
                }
                () = deadline => self.apply(Event::Time),
            }
            // What an agent said before its stream ended counts.
            while let Ok(event) = self.events.try_recv() {
                events.push(event);
            }
            for (id, event) in events.drain(..) {
                self.apply(Event::Said { id, event });
            }
            for input in inputs.drain(..) {
                self.input(input);
            }
            while let Some(done) = self.done.try_join_next() {
                self.take(done);
            }
            self.perform();
        }
    }

    fn now(&self) -> Now {
        Now {
            monotonic: boottime().saturating_sub(self.began),
            wall: wall(),
        }
    }

    /// Until the core wants to be called again.
    fn sleep(&self) -> impl Future<Output = ()> + use<S> {
        let wait = self.state.next_deadline();
        let wait = wait.map(|at| at.saturating_sub(self.now().monotonic));
        async move {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        }
    }

    fn apply(&mut self, event: Event) {
        let now = self.now();
        self.state
            .apply(event, now, &mut self.rng, &mut self.effects);
    }

    fn input(&mut self, input: Input) {
        match input {
            Input::Arrived(mail) => {
                for mail in mail {
                    self.arrived(mail);
                }
            }
            Input::Event(event) => {
                if let Event::Detached(id) = &event {
                    self.streams.remove(id);
                }
                self.apply(event);
            }
            Input::Ask(ask) => self.ask(ask),
        }
    }

    fn arrived(&mut self, mail: Arrived) {
        let content = mail.content.filter(|_| mail.waiting.bytes <= INLINE);
        let cached = Cached {
            envelope: mail.envelope,
            content,
        };
        self.cache.put(mail.waiting.delivery.clone(), cached);
        self.apply(Event::Arrived(mail.waiting));
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
            Ask::Retry(deliveries, answer) => {
                let token = Token(self.number());
                self.retries.insert(token, answer);
                self.find(deliveries, move |deliveries| Event::Retry {
                    token,
                    deliveries,
                });
            }
            Ask::Remove(deliveries, answer) => {
                let token = Token(self.number());
                let (count, left) = (0, 0);
                self.removals.insert(
                    token,
                    Removal {
                        answer,
                        count,
                        left,
                    },
                );
                self.find(deliveries, move |deliveries| Event::Remove {
                    token,
                    deliveries,
                });
            }
            Ask::Site(site, answer) => {
                let _ = answer.send(self.state.site_view(&site, self.now()));
            }
            Ask::Sites(answer) => {
                let _ = answer.send(self.state.site_views(self.now()));
            }
            Ask::Agents(answer) => {
                let _ = answer.send(self.state.agent_views(self.now()));
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

    fn attach(&mut self, hello: super::Hello, answer: oneshot::Sender<Attachment>) {
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
        site: dd_proto::name::SiteName,
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
        let deadline = self.now().monotonic + wait.unwrap_or_default();
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

    fn find(
        &mut self,
        deliveries: Vec<dd_proto::id::DeliveryId>,
        event: impl FnOnce(Vec<crate::store::Waiting>) -> Event + Send + 'static,
    ) {
        let store = self.store.clone();
        self.done.spawn(async move {
            let mut found = Vec::new();
            for delivery in deliveries {
                match store.find(delivery.message).await {
                    Ok(open) => found.extend(open.into_iter().filter(|w| w.delivery == delivery)),
                    Err(error) => return Done::StoreFailed(error),
                }
            }
            Done::Event(Box::new(event(found)))
        });
    }

    fn take(&mut self, done: Result<Done, tokio::task::JoinError>) {
        match done {
            Ok(Done::Settled(batch)) => {
                for (settle, letter) in batch {
                    self.settled(&settle, &letter);
                }
            }
            Ok(Done::Noted(deliveries)) => {
                for delivery in deliveries {
                    self.apply(Event::Written(delivery));
                }
            }
            Ok(Done::Loaded(assign, loaded)) => self.loaded(*assign, loaded),
            Ok(Done::Event(event)) => self.apply(*event),
            Ok(Done::Nothing) => {}
            Ok(Done::StoreFailed(error)) => tracing::error!(%error, "dispatch cannot go on"),
            Err(ended) => {
                if let Ok(panic) = ended.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }

    fn settled(&mut self, settle: &Settle, letter: &Letter) {
        settled::log(settle, letter);
        let delivery = &settle.settlement.delivery;
        if let Some(token) = settle.token
            && let Some(removal) = self.removals.get_mut(&token)
        {
            removal.left -= 1;
            self.removed(token);
        }
        self.apply(Event::Written(delivery.clone()));
    }

    fn removed(&mut self, token: Token) {
        if self
            .removals
            .get(&token)
            .is_some_and(|removal| removal.left == 0)
            && let Some(removal) = self.removals.remove(&token)
        {
            let _ = removal.answer.send(Ok(removal.count));
        }
    }

    fn perform(&mut self) {
        let (mut settles, mut notes) = (Vec::new(), Vec::new());
        while !self.effects.is_empty() {
            for effect in std::mem::take(&mut self.effects) {
                match effect {
                    Effect::Settle(settle) => settles.push(settle),
                    Effect::Note(note) => notes.push(note),
                    Effect::Order(to, order) => self.send(to, order),
                    Effect::Assign(assign) => self.complete(assign),
                    other => self.perform_one(other),
                }
            }
        }
        if !settles.is_empty() {
            self.settle(settles);
        }
        if !notes.is_empty() {
            let store = self.store.clone();
            self.done.spawn(async move {
                let deliveries = notes.iter().map(|note| note.delivery.clone()).collect();
                match store.note(notes).await {
                    Ok(()) => Done::Noted(deliveries),
                    Err(error) => Done::StoreFailed(error),
                }
            });
        }
    }

    fn perform_one(&mut self, effect: Effect) {
        let store = self.store.clone();
        match effect {
            Effect::ReadHead {
                site,
                after,
                due,
                limit,
            } => {
                self.done.spawn(async move {
                    let event = match store.head(site.clone(), after, due, limit).await {
                        Ok(head) => Event::HeadRead { site, head },
                        Err(error) => {
                            tracing::error!(%error, %site, "the head of a queue cannot be read");
                            Event::HeadNotRead(site)
                        }
                    };
                    Done::Event(Box::new(event))
                });
            }
            Effect::Find(question) => {
                self.done.spawn(async move {
                    let delivery = question.lease().delivery.clone();
                    match store.find(delivery.message).await {
                        Ok(open) => {
                            let waiting = open.into_iter().find(|w| w.delivery == delivery);
                            Done::Event(Box::new(Event::Found { question, waiting }))
                        }
                        Err(error) => Done::StoreFailed(error),
                    }
                });
            }
            Effect::Timer { site, at } => {
                self.done.spawn(async move {
                    store.remember_timer(site, at).await;
                    Done::Nothing
                });
            }
            Effect::Answer(token, released) => {
                if let Some(waiter) = self.waiters.remove(&token) {
                    let _ = waiter.send(released);
                }
            }
            Effect::Retried(token, count) => {
                if let Some(answer) = self.retries.remove(&token) {
                    let _ = answer.send(count);
                }
            }
            Effect::Removing(token, result) => self.removing(token, result),
            Effect::Settle(_) | Effect::Note(_) | Effect::Order(..) | Effect::Assign(_) => {}
        }
    }

    fn removing(&mut self, token: Token, result: Result<u64, InHand>) {
        match result {
            Ok(count) => {
                if let Some(removal) = self.removals.get_mut(&token) {
                    (removal.count, removal.left) = (count, count);
                }
                self.removed(token);
            }
            Err(error) => {
                if let Some(removal) = self.removals.remove(&token) {
                    let _ = removal.answer.send(Err(error));
                }
            }
        }
    }

    fn settle(&mut self, settles: Vec<Settle>) {
        let letters: Vec<Option<Letter>> = settles
            .iter()
            .map(|settle| {
                let cached = self.cache.look_up(&settle.settlement.delivery)?;
                Some(Letter::new(&cached.envelope, cached.content.as_deref()))
            })
            .collect();
        let store = self.store.clone();
        self.done.spawn(async move {
            let mut batch = Vec::with_capacity(settles.len());
            for (settle, letter) in settles.into_iter().zip(letters) {
                let letter = match letter {
                    Some(letter) => letter,
                    // After the settlement nobody could be asked any more.
                    None => read_letter(&store, &settle).await,
                };
                batch.push((settle, letter));
            }
            let settlements = batch.iter().map(|(settle, _)| settle.settlement.clone());
            match store.settle(settlements.collect()).await {
                Ok(()) => Done::Settled(batch),
                Err(error) => Done::StoreFailed(error),
            }
        });
    }

    /// Sends an assignment if everything it needs is in memory; else reads first.
    fn complete(&mut self, assign: Assign) {
        let cached = self.cache.look_up(&assign.lease.delivery);
        let needs_content = assign.waiting.bytes <= INLINE;
        match cached {
            Some(cached) if cached.content.is_some() || !needs_content => {
                let assignment = assignment(&assign, &cached.envelope, cached.content.clone());
                self.send(assign.to, Order::Assign(assignment));
            }
            _ => {
                let store = self.store.clone();
                self.done.spawn(async move {
                    let loaded = store.load(assign.lease.delivery.clone()).await;
                    let loaded = loaded.map(|loaded| loaded.map(in_memory));
                    Done::Loaded(Box::new(assign), loaded)
                });
            }
        }
    }

    fn loaded(
        &mut self,
        assign: Assign,
        loaded: Result<Option<(Envelope, Option<bytes::Bytes>)>, StoreFailed>,
    ) {
        let lease = assign.lease.clone();
        let why = match loaded {
            Ok(Some((envelope, content))) => {
                let content = content.filter(|_| assign.waiting.bytes <= INLINE);
                let envelope = Arc::new(envelope);
                let order = Order::Assign(assignment(&assign, &envelope, content.clone()));
                self.cache.put(lease.delivery, Cached { envelope, content });
                return self.send(assign.to, order);
            }
            Ok(None) => NotLoaded::Gone,
            Err(error) => {
                tracing::error!(%error, delivery = %lease.delivery, "cannot be read; it is kept and not tried");
                NotLoaded::Unreadable
            }
        };
        self.apply(Event::NotLoaded { lease, why });
    }

    /// An agent that is so far behind is not with us any more.
    fn send(&mut self, to: AttachmentId, order: Order) {
        let Some(stream) = self.streams.get(&to) else {
            return;
        };
        if stream.try_send(order).is_err() {
            self.streams.remove(&to);
            self.apply(Event::Detached(to));
        }
    }
}

/// Ends once, when the store says so; never, if it ends before.
async fn knows_all(all_known: &mut Option<watch::Receiver<bool>>) {
    if let Some(known) = all_known
        && known.wait_for(|known| *known).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

fn in_memory(loaded: Loaded) -> (Envelope, Option<bytes::Bytes>) {
    match loaded.content {
        StoredContent::Inline(content) => (loaded.envelope, Some(content)),
        StoredContent::File(_) => (loaded.envelope, None),
    }
}

/// For the log line of what was not in memory.
async fn read_letter<S: Backing>(store: &S, settle: &Settle) -> Letter {
    match store.load(settle.settlement.delivery.clone()).await {
        Ok(Some(loaded)) => {
            let (envelope, content) = in_memory(loaded);
            Letter::new(&envelope, content.as_deref())
        }
        Ok(None) | Err(_) => Letter::default(),
    }
}

fn assignment(assign: &Assign, envelope: &Envelope, content: Option<bytes::Bytes>) -> Assignment {
    let mut envelope = envelope.clone();
    let open = &assign.waiting.open;
    envelope
        .recipients
        .retain(|recipient| open.contains(&recipient.number));
    Assignment {
        lease: assign.lease.clone(),
        version: assign.version,
        envelope,
        bytes: assign.waiting.bytes,
        content,
        in_doubt: assign.waiting.in_doubt,
        fresh: assign.freshness == Freshness::Fresh,
    }
}

/// Goes on while the machine sleeps, as leases do.
fn boottime() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the loop reads the clock, once for each event"
)]
fn wall() -> Timestamp {
    Timestamp::now()
}

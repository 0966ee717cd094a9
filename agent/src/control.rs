//! The stream to the controller: Hello, journal, then events up and orders down, for as long as the agent lives.
//!
//! # Invariants
//! - A lost stream is attached again within 5 seconds; attempts in hand go on meanwhile, and what they find lies in
//!   the journal.
//! - A report is in the journal before it is told.
//! - No order ends the stream: one that cannot be read costs only itself.
//! - Plans are forgotten when the stream ends: an assignment whose plan was not sent on *this* stream goes back.
//!
//! # Not here
//! The attempts ([`crate::attempt`]), the certificate ([`crate::identity`]) and how it is come by ([`crate::enroll`]).

mod assigned;
mod attached;
mod lanes;
mod read;
mod renewal;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dd_proto::feature;
use dd_proto::id::Lease;
use dd_proto::pb;
use dd_proto::pb::agent_event::Event;
use dd_proto::pb::delivery_client::DeliveryClient;
use dd_proto::pb::order::Order;
use ipnet::IpNet;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Code;

use crate::agent::{Agent, now, wall};
use crate::config::{Config, Targets};
use crate::connect::first_bound;
use crate::deliver::KINDS;
use crate::enroll::Enroll;
use crate::identity::{Identity, IdentityError};
use crate::journal::Sync;
use crate::lease::Boottime;
use crate::plan::OrderError;
use attached::{Attached, Heard, boot_id, half_close, send, waiting};
use dd_proto::targets::TargetRules;
use lanes::Lanes;
use read::{Readable, Unread};
use renewal::Renewal;

const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// The controller's barrier waits for its agents; they shall not be late.
const MAX_BACKOFF: Duration = Duration::from_secs(5);
const WELCOME_TIMEOUT: Duration = Duration::from_secs(30);
/// An acknowledgement owed for longer than this makes the journal sync.
const OWED: Duration = Duration::from_secs(1);
/// So often it is looked whether the outbound addresses can be bound.
const ADDRESSES: Duration = Duration::from_secs(1);
/// What was assigned before the controller read that this agent drains comes within this: a line there and back, and a read
/// of the controller's disk.
const CROSSING: Duration = Duration::from_secs(1);
/// At most this long a drain takes.
pub const DRAIN: Duration = Duration::from_secs(20);

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("the controller ended the stream: {0}")]
    Ended(String),
    #[error("the controller does not take this agent's certificate: {0}")]
    Unrecognized(String),
    #[error("the controller is silent")]
    Silent,
}

/// Whether the agent goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    /// Drained: nothing is in hand any more.
    Drained,
}

/// Everything the loop owns.
#[derive(Debug)]
pub struct Control {
    pub agent: Arc<Agent>,
    pub config: Config,
    pub identity: Arc<Identity>,
    pub enroll: Enroll,
    pub events: mpsc::UnboundedReceiver<Event>,
    /// Turns true once, when the agent shall end.
    pub draining: watch::Receiver<bool>,
    /// Where sites may lie, as configured; changes when the configuration is read again.
    pub targets: watch::Receiver<Targets>,
    /// What the last Welcome forbade.
    forbidden: Vec<IpNet>,
    lanes: Lanes,
    /// Reports and dots told on this stream and not yet acknowledged.
    owed: HashMap<Lease, Instant>,
    unread: Unread,
}

impl Control {
    pub fn new(
        agent: Arc<Agent>,
        config: Config,
        identity: Identity,
        enroll: Enroll,
        events: mpsc::UnboundedReceiver<Event>,
        draining: watch::Receiver<bool>,
        targets: watch::Receiver<Targets>,
    ) -> Self {
        let identity = Arc::new(identity);
        agent.certificates.belong_to(&identity);
        Self {
            lanes: Lanes::new(Arc::clone(&agent)),
            agent,
            config,
            identity,
            enroll,
            events,
            draining,
            targets,
            forbidden: Vec::new(),
            owed: HashMap::new(),
            unread: Unread::default(),
        }
    }

    /// Attaches, again and again, until the agent is drained or the time for that is over.
    pub async fn run(mut self) {
        let mut draining = self.draining.clone();
        let end = async move {
            let _ = draining.wait_for(|draining| *draining).await;
            tokio::time::sleep(DRAIN).await;
        };
        tokio::select! {
            () = Box::pin(self.attach_for_ever()) => tracing::info!("drained"),
            () = end => tracing::warn!("not drained in time; what is in hand is in the journal"),
        }
    }

    async fn attach_for_ever(&mut self) {
        let mut backoff = FIRST_BACKOFF;
        loop {
            self.agent.service.turned();
            let began = now();
            let error = match self.attached().await {
                Ok(Stream::Drained) => return,
                Err(error) => error,
            };
            self.agent.controller.send_replace(None);
            self.lanes.forget_plans();
            self.owed.clear();
            self.set_sync(Sync::EachRecord);
            let cause = chain(&error);
            if *self.draining.borrow() && self.agent.leases.is_empty() {
                return;
            }
            if now().saturating_duration_since(began) > MAX_BACKOFF {
                backoff = FIRST_BACKOFF;
            }
            tracing::warn!(error = cause, again_in = ?backoff, "not attached to the controller");
            self.agent.service.lost(&cause);
            if self.needs_another_certificate(&error) {
                self.regain().await;
            }
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(MAX_BACKOFF);
        }
    }

    /// The controller does not take this one; or it cannot be verified by it, and a token at hand names another authority.
    fn needs_another_certificate(&self, error: &StreamError) -> bool {
        match error {
            StreamError::Unrecognized(_) => true,
            StreamError::Identity(IdentityError::Unreachable { .. }) => {
                self.enroll.has_token_of_another_authority(&self.identity)
            }
            _ => false,
        }
    }

    /// One stream, from connect to its end.
    async fn attached(&mut self) -> Result<Stream, StreamError> {
        let channel = self.identity.connect(&self.config.controller).await?;
        self.agent.controller.send_replace(Some(channel.clone()));
        let (up, events) = mpsc::unbounded_channel();
        let sent = Boottime::now();
        let replayed = self.say_hello(&up);
        let mut client = DeliveryClient::new(channel).max_decoding_message_size(4 << 20);
        let attaching = client.attach(UnboundedReceiverStream::new(events));
        let mut down = tokio::time::timeout(WELCOME_TIMEOUT, attaching)
            .await
            .map_err(|_| StreamError::Silent)?
            .map_err(|status| ended(&status))?
            .into_inner();
        let first = tokio::time::timeout(WELCOME_TIMEOUT, down.message())
            .await
            .map_err(|_| StreamError::Silent)?
            .map_err(|status| ended(&status))?;
        let Some(pb::Order {
            order: Some(Order::Welcome(welcome)),
        }) = first
        else {
            return Err(StreamError::Ended(
                "the first order is no Welcome".to_owned(),
            ));
        };
        let lease = self.welcomed(&welcome, sent);
        tracing::info!(controller = self.config.controller, "attached");
        self.agent.service.attached(&self.config.controller);
        let beat = Duration::from_millis(welcome.beat_ms.clamp(100, 60_000));
        let attached = Attached {
            up,
            down,
            beat: tokio::time::interval(beat),
            lease,
            next_beat: 0,
            beats: HashMap::new(),
            heard: now(),
            replayed,
        };
        self.serve(attached).await
    }

    /// Hello, the journal, HelloEnd. Returns whose reports were among it.
    fn say_hello(&mut self, up: &mpsc::UnboundedSender<pb::AgentEvent>) -> HashSet<Lease> {
        // What was told while nobody listened is in the journal, or void; so are the dots that were not.
        while self.events.try_recv().is_ok() {}
        let _ = self.agent.untold.take();
        let in_hand = self.agent.leases.in_hand();
        let trouble = self.agent.look_for_trouble();
        let sources = self.agent.sources.iter();
        let bindable = sources.filter(|source| first_bound(&[**source]).is_ok());
        let hello = pb::Hello {
            name: self.config.name.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            addresses: bindable.map(ToString::to_string).collect(),
            kinds: KINDS.iter().map(|kind| kind.kind().to_owned()).collect(),
            slots: self.config.slots,
            probes: self.config.probes,
            boot_id: boot_id(self.agent.journal.doubt()),
            work_in_hand: in_hand.iter().cloned().map(Into::into).collect(),
            trouble,
            features: feature::ALL
                .iter()
                .map(|it| it.as_str().to_owned())
                .collect(),
        };
        send(up, Event::Hello(hello));
        let mut replayed = HashSet::new();
        for entry in self.agent.journal.entries() {
            let (lease, is_report) = match &entry {
                pb::journaled::Entry::Report(report) => (report.lease.clone(), true),
                pb::journaled::Entry::DotSent(dot) => (dot.lease.clone(), false),
            };
            if let Some(lease) = lease.and_then(|lease| Lease::try_from(lease).ok()) {
                // The dot of an attempt that still runs: its report is what is acknowledged.
                if is_report || !in_hand.contains(&lease) {
                    self.owed.insert(lease.clone(), now());
                }
                if is_report {
                    replayed.insert(lease);
                }
            }
            send(
                up,
                Event::Journaled(Box::new(pb::Journaled { entry: Some(entry) })),
            );
        }
        send(up, Event::HelloEnd(pb::HelloEnd {}));
        replayed
    }

    fn welcomed(&mut self, welcome: &pb::Welcome, sent: Boottime) -> Duration {
        let (going_on, unread) = read::going_on(&welcome.going_on);
        if unread > 0 {
            self.cannot_read(&OrderError("lease that goes on"));
        }
        self.forbid(&welcome.forbidden_networks);
        let lease = Duration::from_millis(welcome.lease_ms);
        self.agent
            .leases
            .welcome(&going_on, lease, sent, Boottime::now());
        lease
    }

    /// Everything else goes on.
    fn cannot_read(&mut self, error: &OrderError) {
        if let Some(unsaid) = self.unread.is_said(now()) {
            tracing::error!(%error, unsaid, "what the controller sent cannot be read, and is passed over");
        }
    }

    fn forbid(&mut self, networks: &[String]) {
        let before = std::mem::take(&mut self.forbidden);
        self.forbidden = assigned::forbidden(before, networks);
        self.set_rules();
    }

    fn set_rules(&self) {
        let targets = self.targets.borrow().clone();
        let mut forbid = targets.forbid;
        forbid.extend(&self.forbidden);
        let allow = targets.allow;
        self.agent.set_rules(TargetRules { allow, forbid });
    }

    async fn serve(&mut self, mut stream: Attached) -> Result<Stream, StreamError> {
        let mut look = tokio::time::interval(Duration::from_millis(250));
        let mut addresses = tokio::time::interval(ADDRESSES);
        let mut draining = self.draining.clone();
        let mut drains_since: Option<Instant> = None;
        let mut renewal = Renewal::after(self.identity.renew_in(wall()));
        loop {
            tokio::select! {
                order = stream.down.message() => {
                    let order = order.map_err(|status| ended(&status))?;
                    let Some(order) = order else {
                        return Err(StreamError::Ended("closed".to_owned()));
                    };
                    stream.heard = now();
                    self.ordered(order, &mut stream);
                }
                event = self.events.recv() => {
                    if let Some(event) = event {
                        self.pass_on(event, &stream);
                    }
                }
                Ok(()) = self.targets.changed() => self.set_rules(),
                _ = stream.beat.tick() => stream.beat()?,
                _ = look.tick() => {
                    self.agent.service.turned();
                    self.tell_dots(&stream);
                    self.watch_the_debt();
                    if drains_since.is_some_and(nothing_crosses)
                        && self.agent.leases.is_empty()
                        && self.agent.journal.is_empty()
                    {
                        self.say_the_last(stream).await;
                        return Ok(Stream::Drained);
                    }
                }
                _ = addresses.tick() => {
                    self.agent.look_for_trouble();
                }
                _ = draining.wait_for(|draining| *draining), if drains_since.is_none() => {
                    drains_since = Some(now());
                    send(&stream.up, Event::Draining(pb::Draining {}));
                    self.lanes.close_all();
                }
                step = renewal.step() => self.renew(step, &mut renewal),
            }
        }
    }

    fn ordered(&mut self, order: pb::Order, stream: &mut Attached) {
        let Some(order) = order.order else {
            // Of a newer controller: an agent is sent nothing that it has to understand without having said that it does.
            tracing::debug!("an order of a kind that this version does not know");
            return;
        };
        match Readable::of(order) {
            Ok(order) => self.obey(order, stream),
            Err(error) => self.cannot_read(&error),
        }
    }

    fn obey(&mut self, order: Readable, stream: &mut Attached) {
        match order {
            Readable::Welcome(welcome) => _ = self.welcomed(&welcome, Boottime::now()),
            Readable::Plan(plan) => self.planned(*plan),
            Readable::Assignment(lease, assignment) => self.assigned(lease, *assignment),
            Readable::BeatAnswer(number) => {
                if let Some(sent) = stream.beats.remove(&number) {
                    self.agent.leases.renew(sent, Boottime::now());
                }
            }
            Readable::Acknowledged(lease) => {
                self.owed.remove(&lease);
                self.agent.journal.forget(&lease);
            }
            Readable::Check(check) => self.asked_to_check(*check),
            Readable::CloseSite(site) => self.lanes.close(&site),
            Readable::Forbid(networks) => self.forbid(&networks),
            Readable::Recall(site) => self.lanes.recall(&site),
        }
    }

    fn pass_on(&mut self, event: Event, stream: &Attached) {
        if let Event::Report(report) = &event
            && let Some(lease) = report.lease.clone()
            && let Ok(lease) = Lease::try_from(lease)
        {
            if stream.replayed.contains(&lease) {
                return;
            }
            self.agent.journal.write_reports();
            self.owed.insert(lease, now());
        }
        send(&stream.up, event);
    }

    /// Reports that were noted meanwhile come behind their dots.
    fn tell_dots(&self, stream: &Attached) {
        for dot in self.agent.untold.take() {
            send(&stream.up, Event::DotSent(dot));
        }
    }

    /// While the controller owes an acknowledgement for long, its disk may be in trouble: ours has to hold.
    fn watch_the_debt(&self) {
        let late = |since: &Instant| now().saturating_duration_since(*since) >= OWED;
        let sync = match self.owed.values().any(late) {
            true => Sync::EachRecord,
            false => Sync::Written,
        };
        if self.agent.journal.sync() != sync {
            self.set_sync(sync);
        }
    }

    /// What is there comes to the disk beside everything else; what comes after it waits for that by itself.
    fn set_sync(&self, sync: Sync) {
        let to_sync = self.agent.journal.set_sync(sync);
        let agent = Arc::clone(&self.agent);
        self.agent.start(async move {
            if let Err(error) = agent.is_on_disk(to_sync).await {
                tracing::error!(%error, "the journal is not safe against a power cut");
                agent.look_for_trouble();
            }
        });
    }

    /// What was given back while it drained, and the end of the stream behind it; the controller ends its half when it
    /// has read all that.
    async fn say_the_last(&mut self, stream: Attached) {
        for event in waiting(&mut self.events) {
            self.pass_on(event, &stream);
        }
        let Attached { up, mut down, .. } = stream;
        let ending = async { while let Ok(Some(_)) = down.message().await {} };
        if half_close(up, ending).await == Heard::Perhaps {
            tracing::debug!("the controller may not have read the last that was said");
        }
    }

    /// The certificate lets nobody in any more: has it another one, before the next try.
    async fn regain(&mut self) {
        let regaining = self.enroll.regain(Some(&self.identity));
        match tokio::time::timeout(WELCOME_TIMEOUT, regaining).await {
            Ok(Ok(identity)) => self.is_now(identity),
            Ok(Err(error)) => tracing::warn!(error = chain(&error), "no other certificate"),
            Err(_) => tracing::warn!("no other certificate: the controller is silent"),
        }
    }
}

impl Control {
    /// It is known by this one from now on, to the controller and to sites.
    fn is_now(&mut self, identity: Identity) {
        self.identity = Arc::new(identity);
        self.agent.certificates.belong_to(&self.identity);
    }
}

/// What the controller had assigned before it read that this agent drains has come by now, and was given back.
fn nothing_crosses(told: Instant) -> bool {
    now().saturating_duration_since(told) >= CROSSING
}

fn ended(status: &tonic::Status) -> StreamError {
    let message = status.message().to_owned();
    match status.code() {
        Code::Unauthenticated => StreamError::Unrecognized(message),
        _ => StreamError::Ended(message),
    }
}

/// An error and what it stems from, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    dd_proto::reach::plain(dd_log::chain(error))
}

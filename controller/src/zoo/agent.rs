//! The real agent: its lanes, sessions, outcome table and journal, on real sockets. Only its stream to the controller is
//! made here, without gRPC.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use dd_agent::agent::{Agent, Work, now};
use dd_agent::deliver::{Lane, kind_for};
use dd_agent::journal::{Journal, Sync};
use dd_agent::lease::Boottime;
use dd_agent::places::Places;
use dd_agent::plan::{self, Plan};
use dd_agent::resolve::Resolver;
use dd_proto::id::{DeliveryId, Lease, SiteVersion};
use dd_proto::name::{AgentName, SiteName};
use dd_proto::pb;
use dd_proto::pb::agent_event::Event;
use dd_proto::report::{GivenBack, Outcome};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::homes::own_address;
use crate::dispatch::{
    AgentEvent, Assignment, Attachment, AttachmentId, BEAT, Handle, Hello, Machine, Order,
};

/// Leases are counted on the machine's clock, which no simulation moves.
const LEASE: Duration = Duration::from_secs(24 * 3600);
const LOOK: Duration = Duration::from_secs(5);

/// When nobody was reached at a site, or nobody who took mail from us.
type Failed = Arc<Mutex<Vec<(SiteName, Instant)>>>;

/// How often each delivery was handed out marked as in doubt.
pub(super) type Marked = Arc<Mutex<BTreeMap<DeliveryId, usize>>>;

/// An agent that runs, and what outlives its process.
#[derive(Debug)]
pub(super) struct Outbound {
    name: AgentName,
    controller: watch::Receiver<Option<Handle>>,
    pub(super) marked: Marked,
    failed: Failed,
    tasks: JoinSet<()>,
    state: tempfile::TempDir,
}

/// What the agent's side of the stream needs.
struct Stream {
    name: AgentName,
    agent: Arc<Agent>,
    lanes: HashMap<SiteName, Known>,
    events: mpsc::UnboundedReceiver<Event>,
    /// Told with the Hello.
    replayed: HashSet<Lease>,
    marked: Marked,
    failed: Failed,
}

/// A lane, by the plan it was made for.
struct Known {
    plan: Arc<Plan>,
    lane: Arc<dyn Lane>,
    /// None: on an earlier stream.
    told: Option<SiteVersion>,
}

impl Outbound {
    pub(super) fn new(name: &str, controller: watch::Receiver<Option<Handle>>) -> Self {
        let mut outbound = Self {
            name: name.parse().unwrap(),
            controller,
            marked: Marked::default(),
            failed: Failed::default(),
            tasks: JoinSet::new(),
            state: tempfile::tempdir().unwrap(),
        };
        outbound.start();
        outbound
    }

    /// It is killed, and starts again with its journal.
    pub(super) async fn restart(&mut self) {
        self.tasks.shutdown().await;
        self.start();
    }

    fn start(&mut self) {
        let (events, told) = mpsc::unbounded_channel();
        let (work, mut started) = mpsc::unbounded_channel();
        let stream = Stream {
            name: self.name.clone(),
            agent: Arc::new(agent(self.state.path(), events, work)),
            lanes: HashMap::new(),
            events: told,
            replayed: HashSet::new(),
            marked: Arc::clone(&self.marked),
            failed: Arc::clone(&self.failed),
        };
        self.tasks.spawn(async move {
            let mut crew = JoinSet::new();
            while let Some(work) = started.recv().await {
                crew.spawn(work);
                while let Some(ended) = crew.try_join_next() {
                    ended.unwrap();
                }
            }
        });
        self.tasks.spawn(stream.run(self.controller.clone()));
    }

    pub(super) fn failed_between(&self, site: &SiteName, from: Instant, to: Instant) -> bool {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut failed = failed.iter();
        failed.any(|(of, at)| of == site && (from..to).contains(at))
    }
}

const SLOTS: u32 = 32;

fn agent(
    state: &Path,
    events: mpsc::UnboundedSender<Event>,
    work: mpsc::UnboundedSender<Work>,
) -> Agent {
    let journal = Journal::open(state).unwrap();
    let _ = journal.set_sync(Sync::Written);
    let resolver = Resolver::new(&["127.0.0.1:9".parse().unwrap()], Duration::from_secs(60));
    Agent {
        sources: vec![IpAddr::from(own_address())],
        helo: "out1.mail.example.net".to_owned(),
        resolver: resolver.unwrap(),
        visits: Default::default(),
        tls: Default::default(),
        certificates: Default::default(),
        rules: RwLock::default(),
        slots: Places::slots(SLOTS),
        probes: Places::probes(SLOTS),
        leases: Default::default(),
        journal: Arc::new(journal),
        trouble: Default::default(),
        untold: Default::default(),
        controller: watch::Sender::new(None),
        events,
        work,
        sessions: AtomicU64::new(1),
        service: Default::default(),
    }
}

/// A stream that ends, however it does.
struct Ending(Handle, AttachmentId);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.detached(self.1);
    }
}

impl Stream {
    /// Attaches to one controller after the other.
    async fn run(mut self, mut controller: watch::Receiver<Option<Handle>>) {
        loop {
            let present = controller.wait_for(Option::is_some).await;
            let Some(handle) = present.ok().and_then(|it| it.clone()) else {
                return;
            };
            let hello = self.hello();
            let attachment = handle.attach(hello).await;
            let _ending = Ending(handle.clone(), attachment.id);
            self.serve(&handle, attachment).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    fn hello(&mut self) -> Hello {
        while self.events.try_recv().is_ok() {}
        let _ = self.agent.untold.take();
        self.lanes.values_mut().for_each(|known| known.told = None);
        self.replayed.clear();
        let (mut in_doubt, mut reports) = (Vec::new(), Vec::new());
        for entry in self.agent.journal.entries() {
            match entry {
                pb::journaled::Entry::DotSent(dot) => in_doubt.push(dot.try_into().unwrap()),
                pb::journaled::Entry::Report(report) => {
                    let report = dd_proto::report::Report::try_from(report).unwrap();
                    self.replayed.insert(report.lease.clone());
                    reports.push(report);
                }
            }
        }
        Hello {
            agent: self.name.clone(),
            version: String::new(),
            slots: SLOTS,
            probes: SLOTS,
            boot_id: "boot".to_owned(),
            machine: Machine::AsBefore,
            trouble: String::new(),
            features: Default::default(),
            work_in_hand: self.agent.leases.in_hand(),
            in_doubt,
            reports,
        }
    }

    /// Until the controller is gone.
    async fn serve(&mut self, handle: &Handle, mut attachment: Attachment) {
        let mut beat = tokio::time::interval(BEAT);
        let mut look = tokio::time::interval(LOOK);
        let mut number = 0;
        loop {
            tokio::select! {
                biased;
                order = attachment.orders.recv() => match order {
                    Some(order) => self.obey(order),
                    None => return,
                },
                event = self.events.recv() => {
                    if let Some(event) = event.and_then(|event| self.passes(event)) {
                        handle.agent_event(attachment.id, event).await;
                    }
                }
                _ = beat.tick() => {
                    number += 1;
                    handle.agent_event(attachment.id, AgentEvent::Beat { number }).await;
                }
                _ = look.tick() => {
                    for dot in self.agent.untold.take() {
                        let dot = AgentEvent::DotSent(dot.try_into().unwrap());
                        handle.agent_event(attachment.id, dot).await;
                    }
                    self.agent.journal.write_out();
                }
            }
        }
    }

    fn passes(&self, event: Event) -> Option<AgentEvent> {
        let event = crate::api::order::event(event).unwrap();
        if let AgentEvent::Report(report) = &event {
            if self.replayed.contains(&report.lease) {
                return None;
            }
            self.agent.journal.write_reports();
            if matches!(
                report.outcome,
                Outcome::Unreachable | Outcome::WrongHost | Outcome::Refused
            ) {
                let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.push((report.lease.delivery.site.clone(), Instant::now()));
            }
        }
        Some(event)
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Welcome { going_on } => {
                let now = Boottime::now();
                self.agent.leases.welcome(&going_on, LEASE, now, now);
            }
            Order::Plan(site) => self.learn(route(&site)),
            Order::Assign(assignment) => self.assign(*assignment),
            Order::BeatAnswer { .. } => {}
            Order::Acknowledged(lease) => self.agent.journal.forget(&lease),
            Order::CloseSite(site) => {
                if let Some(known) = self.lanes.remove(&site) {
                    known.lane.close();
                }
            }
            Order::Recall(site) => {
                if let Some(known) = self.lanes.get(&site) {
                    known.lane.recall();
                }
            }
        }
    }

    /// A lane by the same plan goes on; one by another is closed.
    fn learn(&mut self, plan: Plan) {
        if let Some(known) = self.lanes.get_mut(&plan.site) {
            if *known.plan == plan {
                known.told = Some(plan.version);
                return;
            }
            known.lane.close();
        }
        let kind = kind_for(&plan).unwrap();
        let plan = Arc::new(plan);
        let known = Known {
            lane: kind.lane(Arc::clone(&self.agent), Arc::clone(&plan)),
            told: Some(plan.version),
            plan: Arc::clone(&plan),
        };
        self.lanes.insert(plan.site.clone(), known);
    }

    fn assign(&self, assignment: Assignment) {
        let lease = assignment.lease.clone();
        self.agent.leases.take(lease.clone(), Boottime::now());
        if assignment.in_doubt {
            let mut marked = self.marked.lock().unwrap_or_else(PoisonError::into_inner);
            *marked.entry(lease.delivery.clone()).or_default() += 1;
        }
        match self.lanes.get(&lease.delivery.site) {
            Some(known) if known.told == Some(assignment.version) => {
                known.lane.assign(taken(assignment));
            }
            _ => self.agent.give_back(&lease, GivenBack::StalePlan),
        }
    }
}

fn route(site: &dd_proto::site::Site) -> Plan {
    let plan = pb::RoutePlan {
        site: site.name.to_string(),
        version: site.version.0,
        kind: "smtp".to_owned(),
        hosts: site.hosts.iter().cloned().map(Into::into).collect(),
        proof: Some(site.proof.clone().into()),
        allow_targets: site.allow_targets.iter().map(ToString::to_string).collect(),
        connections: site.limits.connections.into(),
        hand_over: site.way.hand_over.to_string(),
        ..Default::default()
    };
    plan.try_into().unwrap()
}

fn taken(it: Assignment) -> plan::Assignment {
    let assignment = pb::Assignment {
        lease: Some(it.lease.into()),
        site_version: it.version.0,
        envelope: Some(it.envelope.into()),
        content_bytes: it.bytes,
        content: it.content,
        in_doubt: it.in_doubt,
        fresh: it.fresh,
        ..Default::default()
    };
    plan::Assignment::parse(assignment, now()).unwrap()
}

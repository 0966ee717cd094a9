//! What dispatch knows of each agent: its stream, its room, the plans it has, the leases it holds.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use dd_proto::feature::Feature;
use dd_proto::id::{DeliveryId, SiteVersion};
use dd_proto::name::{AgentName, SiteName};
use dd_proto::site::Site;
use jiff::Timestamp;

use super::lease::{GRACE, LEASE, Occupies};
use super::pace::Pace;
use super::site::Line;
use super::standing::{Leaves, Terms};
use super::{AgentView, AttachmentId, Hello};

/// Deliveries out for each session of a site; and for each slot of an agent.
pub(super) const WINDOW: u32 = 16;
/// So many out for each session of a site where all places of its agent are taken. Homes that leave a dot unanswered need
/// no slot, and keep their places for ten minutes: they must not keep those of the others. One is being handed over, the
/// envelope of the next travels with its dot, and two are on their way.
pub(super) const AT_LEAST: u32 = 4;

/// One probe in so many is kept for sites that answered and for new ones: thousands of dead ones may hang in all the
/// others for as long as a connect may take.
const RESERVED: u32 = 8;

#[derive(Debug, Default)]
pub(super) struct Agent {
    pub(super) attached: Option<Attached>,
    pub(super) boot_id: String,
    pub(super) leases: BTreeSet<DeliveryId>,
    /// When some lease of it will have expired for good; may be early.
    pub(super) check: Option<Duration>,
    pub(super) registered: Registered,
    pub(super) terms: Terms,
    left: Left,
    version: String,
    last_seen: Option<Timestamp>,
    /// Of its last stream, which is over.
    untold: Untold,
}

/// Whether the registry knows the agent still. One that is gone is kept while a lease of it is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Registered {
    #[default]
    Yes,
    Removed,
}

/// Whether it has ended as one that holds nothing and has told all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Left {
    #[default]
    No,
    /// Once all that it has told is written.
    WhenWritten,
    InOrder,
}

/// Whether it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    Lately,
    /// Not for the length of a lease: its sites have gone elsewhere.
    Silent,
}

/// Whether an agent may have more in hand than it is known to hold: a lease that it has lost, or that did not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Untold {
    #[default]
    Nothing,
    /// Until it says Hello again.
    Something,
}

/// An agent's stream.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) id: AttachmentId,
    pub(super) work: TakesWork,
    /// It has said that it is about to end.
    pub(super) leaves: Leaves,
    pub(super) untold: Untold,
    /// What keeps it from working, in its own words; empty: nothing.
    pub(super) trouble: String,
    features: BTreeSet<Feature>,
    /// When it was last answered; monotonic.
    pub(super) answered: Duration,
    pub(super) heard: Heard,
    /// Sent on this stream.
    pub(super) plans: BTreeMap<SiteName, SiteVersion>,
    /// Flowing sites with mail, in turn.
    pub(super) turns: VecDeque<SiteName>,
    pub(super) pace: Pace,
    slots: u32,
    probes: u32,
    probing: u32,
    places: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TakesWork {
    Yes,
    /// Its time has not come; monotonic.
    From(Duration),
    Draining,
    /// Something of its own is in the way.
    Unhealthy,
}

impl Attached {
    pub(super) fn new(id: AttachmentId, hello: &Hello, now: Duration) -> Self {
        Self {
            id,
            // Weighed before anything is assigned.
            work: TakesWork::Yes,
            leaves: Leaves::No,
            untold: Untold::Nothing,
            trouble: hello.trouble.clone(),
            features: hello.features.clone(),
            answered: now,
            heard: Heard::Lately,
            plans: BTreeMap::new(),
            turns: VecDeque::new(),
            pace: Pace::default(),
            slots: hello.slots,
            probes: hello.probes,
            probing: 0,
            places: 0,
        }
    }

    /// What it would have to understand to serve the site, and does not.
    pub(super) fn lacks(&self, site: &Site) -> Option<Feature> {
        site.way.lacked_by(&self.features)
    }

    /// All its places are taken by messages to proved sites.
    pub(super) fn is_full(&self) -> bool {
        self.places >= self.all_places()
    }

    /// For a site that is not proved.
    pub(super) fn has_probe_for(&self, line: Line, now: Duration) -> bool {
        self.probe_from(line, now).is_some_and(|from| from <= now)
    }

    /// From when on it has one; None: when another one comes back.
    pub(super) fn probe_from(&self, line: Line, now: Duration) -> Option<Duration> {
        let (most, from) = match line {
            Line::First => (self.probes, now),
            Line::Untried | Line::Silent => {
                (self.probes - self.probes / RESERVED, self.pace.next())
            }
        };
        (self.may_lease(now) && self.probing < most).then_some(from)
    }

    /// How many more sites may be probed.
    pub(super) fn free_probes(&self) -> u32 {
        match self.work {
            TakesWork::Yes => self.probes.saturating_sub(self.probing),
            TakesWork::From(_) | TakesWork::Draining | TakesWork::Unhealthy => 0,
        }
    }

    pub(super) fn may_lease(&self, now: Duration) -> bool {
        self.work == TakesWork::Yes && self.lease_until() > now + GRACE
    }

    pub(super) fn take(&mut self, what: Occupies) {
        match what {
            Occupies::Probe => self.probing += 1,
            Occupies::Place => self.places += 1,
        }
    }

    pub(super) fn free(&mut self, what: Occupies) {
        let count = match what {
            Occupies::Probe => &mut self.probing,
            Occupies::Place => &mut self.places,
        };
        *count = count.saturating_sub(1);
    }

    fn all_places(&self) -> u32 {
        self.slots.saturating_mul(WINDOW)
    }

    /// How full it is, handoffs before probes; each as a part of what it can do.
    pub(super) fn load(&self) -> (u64, u64) {
        let part = |used: u32, of: u32| u64::from(used) * 1_000_000 / u64::from(of.max(1));
        let places = self.all_places();
        (part(self.places, places), part(self.probing, self.probes))
    }

    /// Whether it has spoken lately enough to hold a lease.
    pub(super) fn is_heard(&self, now: Duration) -> bool {
        self.lease_until() > now
    }

    /// Until when a lease given now lasts: it counts from the last answered beat, as the agent's own count does.
    pub(super) fn lease_until(&self) -> Duration {
        self.answered + LEASE
    }
}

impl Agent {
    pub(super) fn on(terms: Terms) -> Self {
        Self {
            terms,
            ..Self::default()
        }
    }

    /// Of one that is not attached, none.
    pub(super) fn load(&self) -> (u64, u64) {
        self.attached.as_ref().map_or((0, 0), Attached::load)
    }

    /// When it is to be looked at again whether its time has come.
    pub(super) fn starts_work(&self) -> Option<Duration> {
        match self.attached.as_ref()?.work {
            TakesWork::From(at) => Some(at),
            TakesWork::Yes | TakesWork::Draining | TakesWork::Unhealthy => None,
        }
    }

    /// When it will have been silent for too long; None where that is so already.
    pub(super) fn falls_silent(&self) -> Option<Duration> {
        let attached = self.attached.as_ref()?;
        (attached.heard == Heard::Lately).then(|| attached.lease_until())
    }

    /// Whether all is known that it has in hand or in its journal; of one that is not attached nobody knows.
    pub(super) fn has_told_all(&self) -> bool {
        let attached = self.attached.as_ref();
        attached.is_some_and(|it| it.untold == Untold::Nothing)
    }

    /// Whether all is known that it had in its journal when it was last attached.
    pub(super) fn left_nothing_untold(&self) -> bool {
        self.untold == Untold::Nothing && (self.attached.is_none() || self.has_told_all())
    }

    /// It says Hello, with all that its journal holds.
    pub(super) fn attach(&mut self, attached: Attached) {
        self.untold = Untold::Nothing;
        self.attached = Some(attached);
    }

    /// Its stream is over.
    pub(super) fn detach(&mut self) {
        if let Some(attached) = self.attached.take() {
            self.untold = attached.untold;
        }
    }

    /// Its stream ends. If it had said so, and holds nothing, it has left once what it told is written.
    pub(super) fn leaves(&mut self) {
        let attached = self.attached.as_ref();
        let said = attached.is_some_and(|it| it.leaves == Leaves::Yes);
        if said && self.leases.is_empty() && self.has_told_all() {
            self.left = Left::WhenWritten;
        }
    }

    pub(super) fn has_to_be_written(&self) -> bool {
        self.attached.is_none() && self.left == Left::WhenWritten
    }

    /// Nothing of it can come to light any more.
    pub(super) fn is_written(&mut self) {
        self.left = Left::InOrder;
    }

    pub(super) fn has_left(&self) -> bool {
        self.attached.is_none() && self.left == Left::InOrder
    }

    /// It has lost a lease, and may not know it yet.
    pub(super) fn loses_a_lease(&mut self) {
        if let Some(attached) = &mut self.attached {
            attached.untold = Untold::Something;
        }
    }

    pub(super) fn seen(&mut self, wall: Timestamp) {
        self.last_seen = Some(wall);
    }

    pub(super) fn introduced(&mut self, hello: &Hello, wall: Timestamp) {
        self.version.clone_from(&hello.version);
        self.boot_id.clone_from(&hello.boot_id);
        self.left = Left::No;
        self.last_seen = Some(wall);
    }

    pub(super) fn holds(&mut self, delivery: DeliveryId, until: Duration) {
        self.leases.insert(delivery);
        let ends = until + GRACE;
        self.check = Some(self.check.map_or(ends, |check| check.min(ends)));
    }

    pub(super) fn view(&self, name: &AgentName) -> AgentView {
        let state = match &self.attached {
            None => "disconnected",
            Some(attached) => match attached.work {
                TakesWork::Draining => "draining",
                TakesWork::Unhealthy => "unhealthy",
                TakesWork::Yes | TakesWork::From(_) => "connected",
            },
        };
        let trouble = self.attached.as_ref().map(|it| it.trouble.clone());
        AgentView {
            name: name.clone(),
            state,
            slots: self.attached.as_ref().map_or(0, |attached| attached.slots),
            in_flight: u32::try_from(self.leases.len()).unwrap_or(u32::MAX),
            last_seen: self.last_seen,
            version: self.version.clone(),
            trouble: trouble.unwrap_or_default(),
        }
    }
}

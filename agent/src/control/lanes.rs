//! The lanes to the sites, by the plans this stream has sent.

use std::collections::HashMap;
use std::sync::Arc;

use dd_proto::id::SiteVersion;
use dd_proto::name::SiteName;
use dd_proto::report::GivenBack;

use crate::agent::Agent;
use crate::deliver::{Lane, kind_for};
use crate::plan::{Assignment, Plan};

#[derive(Debug)]
pub(super) struct Lanes {
    agent: Arc<Agent>,
    lanes: HashMap<SiteName, Known>,
}

#[derive(Debug)]
struct Known {
    plan: Arc<Plan>,
    lane: Arc<dyn Lane>,
    told: Told,
}

/// Whether the plan was sent on the stream that is attached now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    OnThisStream,
    /// Forgotten as a plan; the lane's work in hand goes on.
    Before,
}

impl Lanes {
    pub(super) fn new(agent: Arc<Agent>) -> Self {
        Self {
            agent,
            lanes: HashMap::new(),
        }
    }

    /// Takes a plan. A lane by the same plan goes on; one by another is closed.
    pub(super) fn learn(&mut self, plan: Plan) {
        if let Some(known) = self.lanes.get_mut(&plan.site) {
            if *known.plan == plan {
                known.told = Told::OnThisStream;
                return;
            }
            known.lane.close();
        }
        let Some(kind) = kind_for(&plan) else {
            tracing::error!(site = %plan.site, kind = plan.kind, "no such kind of delivery here");
            self.lanes.remove(&plan.site);
            return;
        };
        let plan = Arc::new(plan);
        let known = Known {
            lane: kind.lane(Arc::clone(&self.agent), Arc::clone(&plan)),
            plan: Arc::clone(&plan),
            told: Told::OnThisStream,
        };
        self.lanes.insert(plan.site.clone(), known);
    }

    pub(super) fn assign(&self, assignment: Assignment) {
        match self.lanes.get(&assignment.lease.delivery.site) {
            Some(known) if known.fits(assignment.version) => known.lane.assign(assignment),
            _ => self
                .agent
                .give_back(&assignment.lease, GivenBack::StalePlan),
        }
    }

    pub(super) fn close(&mut self, site: &SiteName) {
        if let Some(known) = self.lanes.remove(site) {
            known.lane.close();
        }
    }

    pub(super) fn recall(&self, site: &SiteName) {
        if let Some(known) = self.lanes.get(site) {
            known.lane.recall();
        }
    }

    pub(super) fn close_all(&mut self) {
        for (_, known) in self.lanes.drain() {
            known.lane.close();
        }
    }

    pub(super) fn forget_plans(&mut self) {
        for known in self.lanes.values_mut() {
            known.told = Told::Before;
        }
    }
}

impl Known {
    fn fits(&self, version: SiteVersion) -> bool {
        self.told == Told::OnThisStream && self.plan.version == version
    }
}

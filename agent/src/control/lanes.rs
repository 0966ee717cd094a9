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
    /// Sites whose plan this agent cannot follow.
    strange: HashMap<SiteName, Strange>,
}

#[derive(Debug)]
struct Strange {
    version: SiteVersion,
    why: String,
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
            strange: HashMap::new(),
        }
    }

    /// Takes a plan. A lane by the same plan goes on; one by another is closed.
    pub(super) fn learn(&mut self, plan: Plan) {
        self.strange.remove(&plan.site);
        if let Some(known) = self.lanes.get_mut(&plan.site) {
            if *known.plan == plan {
                known.told = Told::OnThisStream;
                return;
            }
            known.lane.close();
        }
        let Some(kind) = kind_for(&plan) else {
            let why = format!("this agent knows no delivery of the kind `{}`", plan.kind);
            return self.cannot_follow(plan.site, plan.version, why);
        };
        let plan = Arc::new(plan);
        let known = Known {
            lane: kind.lane(Arc::clone(&self.agent), Arc::clone(&plan)),
            plan: Arc::clone(&plan),
            told: Told::OnThisStream,
        };
        self.lanes.insert(plan.site.clone(), known);
    }

    /// The other sites' plans are as good as before.
    pub(super) fn cannot_follow(&mut self, site: SiteName, version: SiteVersion, why: String) {
        tracing::error!(%site, why, "the site's plan cannot be followed");
        if let Some(known) = self.lanes.remove(&site) {
            known.lane.close();
        }
        self.strange.insert(site, Strange { version, why });
    }

    /// Why nothing can be done with it here, though its plan has come.
    pub(super) fn is_in_the_way(&self, assignment: &Assignment) -> Option<String> {
        let strange = self.strange.get(&assignment.lease.delivery.site)?;
        (strange.version == assignment.version).then(|| strange.why.clone())
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
        self.strange.remove(site);
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
        self.strange.clear();
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

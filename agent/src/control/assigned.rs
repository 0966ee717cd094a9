//! An assignment has come.

use std::sync::Arc;

use dd_proto::id::{Lease, SessionId, SiteVersion};
use dd_proto::name::SiteName;
use dd_proto::pb;
use dd_proto::pb::agent_event::Event;
use dd_proto::report::{Delays, GivenBack, Observed, Outcome, Report, Stage};

use ipnet::IpNet;

use super::Control;
use crate::agent::{now, wall};
use crate::lease::Boottime;
use crate::plan::{Assignment, OrderError, Plan};
use crate::session::AskTls;

/// That of a report about a message whose assignment could not be read.
const NO_SESSION: SessionId = SessionId(0);

/// A plan as far as this agent understands it.
#[derive(Debug, PartialEq)]
enum ReadPlan {
    Plan(Plan),
    Strange(SiteName, SiteVersion, OrderError),
    Nobodys(OrderError),
}

impl ReadPlan {
    fn of(plan: pb::RoutePlan) -> Self {
        let (site, version) = (plan.site.parse(), SiteVersion(plan.version));
        match (Plan::try_from(plan), site) {
            (Ok(plan), _) => Self::Plan(plan),
            (Err(error), Ok(site)) => Self::Strange(site, version, error),
            (Err(error), Err(_)) => Self::Nobodys(error),
        }
    }
}

/// What is forbidden from now on. What cannot be read forbids nothing, so what was forbidden before stays so too: rather too
/// much than too little.
pub(super) fn forbidden(before: Vec<IpNet>, networks: &[String]) -> Vec<IpNet> {
    let parsed = networks.iter().map(|network| network.parse::<IpNet>());
    let (read, unread): (Vec<_>, Vec<_>) = parsed.partition(Result::is_ok);
    let mut forbidden: Vec<IpNet> = read.into_iter().flatten().collect();
    if !unread.is_empty() {
        tracing::error!(
            ?networks,
            "of the networks that the controller forbids some cannot be read"
        );
        forbidden.extend(before);
        forbidden.sort();
        forbidden.dedup();
    }
    forbidden
}

impl Control {
    /// What cannot be read costs its message a try. If it ended the stream it would cost everybody's mail, for it would be the
    /// first on the next one.
    pub(super) fn assigned(&self, lease: Lease, assignment: pb::Assignment) {
        self.agent.leases.take(lease.clone(), Boottime::now());
        if *self.draining.borrow() || self.agent.journal.is_failing() {
            return self.agent.give_back(&lease, GivenBack::Closing);
        }
        match Assignment::parse(assignment, now()) {
            Ok(assignment) => match self.lanes.is_in_the_way(&assignment) {
                // A session of its own says that this is not about the message: the controller blames nobody else's mail.
                Some(why) => self.not_tried(untried(lease, self.agent.next_session(), why)),
                None => self.lanes.assign(assignment),
            },
            Err(error) => self.not_tried(untried(lease, NO_SESSION, error.to_string())),
        }
    }

    fn not_tried(&self, report: Report) {
        tracing::error!(delivery = %report.lease.delivery, error = report.detail, "not tried");
        let agent = Arc::clone(&self.agent);
        self.agent.start(async move { agent.report(report).await });
    }

    /// A plan has come. One that cannot be read, such as one with a kind of proof that is newer than this agent, is the end of
    /// that site's mail here and of no other's.
    pub(super) fn planned(&mut self, plan: pb::RoutePlan) {
        match ReadPlan::of(plan) {
            ReadPlan::Plan(plan) => self.lanes.learn(plan),
            ReadPlan::Strange(site, version, error) => {
                self.lanes.cannot_follow(site, version, error.to_string());
            }
            ReadPlan::Nobodys(error) => {
                tracing::error!(%error, "a plan for no site is passed over");
            }
        }
    }

    /// Looks at a site, beside everything else.
    pub(super) fn asked_to_check(&self, check: pb::Check) {
        let number = check.number;
        let plan = check.plan.ok_or(OrderError("plan"));
        let plan = match plan.and_then(Plan::try_from) {
            Ok(plan) => plan,
            Err(error) => {
                tracing::error!(%error, "a site cannot be looked at");
                let hosts = vec![pb::HostCheck {
                    sentence: format!("this agent cannot look at it: {error}"),
                    ..pb::HostCheck::default()
                }];
                return self
                    .agent
                    .tell(Event::Checked(pb::Checked { number, hosts }));
            }
        };
        let tls = AskTls::of_order(check.tls_expected);
        let agent = Arc::clone(&self.agent);
        self.agent.start(async move {
            let hosts = crate::check::all_hosts(&agent, &plan, tls).await;
            agent.tell(Event::Checked(pb::Checked { number, hosts }));
        });
    }
}

/// The agent's own trouble, before anything was done.
fn untried(lease: Lease, session: SessionId, detail: String) -> Report {
    Report {
        lease,
        session,
        outcome: Outcome::AgentTrouble,
        detail,
        observed: Observed::default(),
        recipients: Vec::new(),
        dot_sent: false,
        reply: None,
        delays: Delays::default(),
        at: wall(),
        stage: Stage::Session,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(site: &str, proof: Option<pb::Proof>) -> pb::RoutePlan {
        pb::RoutePlan {
            site: site.to_owned(),
            version: 7,
            kind: "smtp".to_owned(),
            hosts: vec![pb::Host {
                host: "192.0.2.1".to_owned(),
                port: 25,
            }],
            proof,
            ..pb::RoutePlan::default()
        }
    }

    #[test]
    fn a_plan_with_a_proof_to_come_is_its_sites_only() {
        let to_come = Some(pb::Proof::default());
        let read = ReadPlan::of(plan("home", to_come.clone()));
        let home = "home".parse().unwrap();
        let strange = ReadPlan::Strange(home, SiteVersion(7), OrderError("proof"));
        assert_eq!(read, strange);
        let read = ReadPlan::of(plan("", to_come));
        assert_eq!(read, ReadPlan::Nobodys(OrderError("site")));
    }

    #[test]
    fn of_networks_that_cannot_be_read_the_older_ones_stay_forbidden() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let before = vec![net("10.0.0.0/8")];
        let both = ["192.0.2.0/24".to_owned(), "a network to come".to_owned()];
        let now = forbidden(before, &both);
        assert_eq!(now, [net("10.0.0.0/8"), net("192.0.2.0/24")]);
        assert_eq!(forbidden(now, &both[..1]), [net("192.0.2.0/24")]);
    }
}

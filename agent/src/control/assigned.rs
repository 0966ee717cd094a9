//! An assignment has come.

use std::sync::Arc;

use dd_proto::id::{Lease, SessionId};
use dd_proto::pb;
use dd_proto::report::{Delays, GivenBack, Observed, Outcome, Report, Stage};

use super::Control;
use crate::agent::{now, wall};
use crate::lease::Boottime;
use crate::plan::{Assignment, OrderError};

impl Control {
    /// What cannot be read costs its message a try. If it ended the stream it would cost everybody's mail, for it would be the
    /// first on the next one.
    pub(super) fn assigned(&self, assignment: pb::Assignment) -> Result<(), OrderError> {
        let lease = assignment.lease.clone().map(Lease::try_from);
        let Some(Ok(lease)) = lease else {
            return Err(OrderError("lease"));
        };
        self.agent.leases.take(lease.clone(), Boottime::now());
        if *self.draining.borrow() || self.agent.journal.is_failing() {
            self.agent.give_back(&lease, GivenBack::Closing);
            return Ok(());
        }
        match Assignment::parse(assignment, now()) {
            Ok(assignment) => self.lanes.assign(assignment),
            Err(error) => {
                tracing::error!(delivery = %lease.delivery, %error, "not tried");
                let report = untried(lease, error.to_string());
                let agent = Arc::clone(&self.agent);
                self.agent.start(async move { agent.report(report).await });
            }
        }
        Ok(())
    }
}

/// The agent's own trouble, before anything was done.
fn untried(lease: Lease, detail: String) -> Report {
    Report {
        lease,
        session: SessionId(0),
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

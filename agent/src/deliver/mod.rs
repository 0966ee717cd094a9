//! Kinds of delivery: one file each, one line each in [`KINDS`].
//!
//! A kind takes a site's assignments and sees to it that every one of them is reported or given back.

pub mod smtp;

use std::sync::Arc;

use crate::agent::Agent;
use crate::plan::{Assignment, Plan};

/// Every kind this agent serves.
pub static KINDS: &[&dyn Deliver] = &[&smtp::Smtp];

/// One kind of delivery.
pub trait Deliver: Sync + std::fmt::Debug {
    /// The word in route plans and in Hello.
    fn kind(&self) -> &'static str;

    /// A lane to one site, by one version of its plan.
    fn lane(&self, agent: Arc<Agent>, plan: Arc<Plan>) -> Arc<dyn Lane>;
}

/// The way to one site.
pub trait Lane: Send + Sync + std::fmt::Debug {
    /// Takes an assignment that belongs to the lane's plan.
    fn assign(&self, assignment: Assignment);

    /// The site was released: what comes next begins a new session, and those that are open take nothing more.
    fn recall(&self);

    /// Ends the sessions after the transaction in hand, and gives the rest back.
    fn close(&self);
}

/// The kind that a plan names.
pub fn kind_for(plan: &Plan) -> Option<&'static dyn Deliver> {
    KINDS.iter().find(|kind| kind.kind() == plan.kind).copied()
}

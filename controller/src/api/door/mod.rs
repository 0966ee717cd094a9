//! What an agent says, looked at before it is believed.
//!
//! The controller cannot know whether an agent tells the truth. It can know that what is said contradicts itself, or what
//! the agent was given: that is what programs with a mistake in them say. It settles nothing.
//!
//! # Invariants
//! - A report that is refused settles, defers and fails nobody. Where its dot may have gone out, the delivery is in doubt.
//! - Nothing beyond what this stream was given is held against an agent: what it has in hand from before is judged by
//!   itself alone.
//! - No text of an agent's goes on that is longer than [`limits`] says.
//!
//! # Not here
//! What a report means: [`crate::dispatch`].

mod given;
pub(super) mod limits;
mod report;
mod seen;

use std::sync::{Arc, Mutex, PoisonError};

use dd_proto::excerpt;
use dd_proto::id::Lease;
use dd_proto::pb;
use dd_proto::pb::agent_event::Event;
use dd_proto::report::{Delays, DotSent, Observed, Outcome, Report, Stage};
use jiff::Timestamp;

use crate::dispatch::Order;
use given::Given;

/// What is wrong with an event: which one, whose, and where in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// Such as `report`.
    event: &'static str,
    /// Such as `01a2…/home`; empty where it cannot be said.
    whose: String,
    flaw: Flaw,
}

/// Where in a message, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Flaw {
    recipient: Option<u32>,
    field: &'static str,
    /// Follows the field: `is missing`.
    says: String,
}

impl Flaw {
    fn new(field: &'static str, says: impl Into<String>) -> Self {
        Self {
            recipient: None,
            field,
            says: says.into(),
        }
    }

    fn of(self, recipient: u32) -> Self {
        let recipient = Some(recipient);
        Self { recipient, ..self }
    }
}

impl Fault {
    fn new(event: &'static str, whose: String, flaw: Flaw) -> Self {
        Self { event, whose, flaw }
    }

    /// Something that is missing from, or malformed in, an event that is about no single delivery.
    pub(super) fn malformed(event: &'static str, field: &'static str) -> Self {
        Self::new(
            event,
            String::new(),
            Flaw::new(field, "is missing or malformed"),
        )
    }

    /// The path of the field, for programs.
    pub(super) fn field(&self) -> String {
        match self.flaw.recipient {
            Some(number) => format!("{}.recipients[{number}].{}", self.event, self.flaw.field),
            None => format!("{}.{}", self.event, self.flaw.field),
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Flaw {
            recipient,
            field,
            says,
        } = &self.flaw;
        f.write_str(self.event)?;
        if !self.whose.is_empty() {
            write!(f, " of {}", self.whose)?;
        }
        if let Some(number) = recipient {
            write!(f, ", recipient {number}")?;
        }
        write!(f, ": {field} {says}")
    }
}

/// A report that settles nothing, and what is safe to take from it.
#[derive(Debug)]
pub(super) struct Contradiction {
    pub(super) fault: Fault,
    /// The lease whose dot may have gone out.
    pub(super) dot: Option<Box<Lease>>,
}

impl From<Fault> for Contradiction {
    fn from(fault: Fault) -> Self {
        Self { fault, dot: None }
    }
}

/// What one stream was given, for both of its directions.
#[derive(Debug, Clone, Default)]
pub(super) struct Door(Arc<Mutex<Given>>);

impl Door {
    /// An order goes down.
    pub(super) fn gave(&self, order: &Order) {
        let mut given = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        given.gave(order);
    }

    /// Looks at what came up, and cuts what is too long.
    ///
    /// # Errors
    /// It contradicts itself or what was given.
    pub(super) fn judge(&self, event: &mut Event) -> Result<(), Contradiction> {
        limits::cut(event);
        match event {
            Event::Report(report) => self.report(report),
            Event::Proved(proved) => {
                let given = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                given.proved(proved).map_err(|flaw| {
                    let whose = session(proved.session, &proved.site);
                    Fault::new("proved", whose, flaw).into()
                })
            }
            Event::DotSent(dot) => {
                let mut given = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                given.dot(dot);
                Ok(())
            }
            Event::GivenBack(back) => {
                let mut given = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                given.ended(back.lease.as_ref());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn report(&self, report: &pb::Report) -> Result<(), Contradiction> {
        let mut given = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let out = given.ended(report.lease.as_ref());
        let looked = report::judge(report, out.as_ref());
        let looked = looked.and_then(|()| match &out {
            Some(out) => given.behind_proof(report, out),
            None => Ok(()),
        });
        looked.map_err(|flaw| {
            let told = out.is_some_and(|out| out.dot_told);
            contradiction(report, told, flaw)
        })
    }
}

fn contradiction(report: &pb::Report, told: bool, flaw: Flaw) -> Contradiction {
    let lease: Option<Lease> = report.lease.clone().and_then(|it| it.try_into().ok());
    Contradiction {
        fault: Fault::new("report", whose(report.lease.as_ref()), flaw),
        dot: lease
            .filter(|_| told || report::may_have_sent_a_dot(report))
            .map(Box::new),
    }
}

/// What stands in an agent's journal, and was not told on a stream that it ended. What contradicts itself is taken out, for
/// an agent that came with it again and again could never work: where its dot may have gone out, it is a dot; else it is an
/// attempt that came to nothing.
///
/// # Errors
/// Nobody can say what it is about.
pub(super) fn journaled(mut report: pb::Report) -> Result<Journaled, Fault> {
    limits::cut_report(&mut report);
    let fault = match report::judge(&report, None) {
        Ok(()) => match Report::try_from(report.clone()) {
            Ok(report) => return Ok(Journaled::Report(report)),
            Err(error) => contradiction(&report, false, Flaw::new(error.0, "is malformed")),
        },
        Err(flaw) => contradiction(&report, false, flaw),
    };
    let lease: Option<Lease> = report.lease.and_then(|it| it.try_into().ok());
    match (lease, fault.dot) {
        (None, _) => Err(fault.fault),
        (Some(_), Some(lease)) => {
            let dot = DotSent {
                lease: *lease,
                recipients: Vec::new(),
            };
            Ok(Journaled::InDoubt(dot, fault.fault))
        }
        (Some(lease), None) => Ok(Journaled::Nothing(came_to_nothing(lease), fault.fault)),
    }
}

/// What an entry of a journal comes to.
#[derive(Debug)]
pub(super) enum Journaled {
    Report(Report),
    InDoubt(DotSent, Fault),
    Nothing(Report, Fault),
}

/// It counts against nobody, and the journal may forget it.
fn came_to_nothing(lease: Lease) -> Report {
    Report {
        lease,
        session: dd_proto::id::SessionId(0),
        outcome: Outcome::AgentTrouble,
        detail: "the agent's report contradicts itself".to_owned(),
        observed: Observed::default(),
        recipients: Vec::new(),
        dot_sent: false,
        reply: None,
        delays: Delays::default(),
        at: Timestamp::UNIX_EPOCH,
        stage: Stage::Unknown,
    }
}

/// Which event it is and whose, noted before it is taken apart. It is put into words only where something is wrong.
#[derive(Debug)]
pub(super) struct About {
    /// Such as `report`.
    pub(super) event: &'static str,
    of: Of,
}

#[derive(Debug)]
enum Of {
    TheAgent,
    Delivery(Option<pb::Lease>),
    Session(u64, String),
    Check(u64),
}

pub(super) fn about(event: &Event) -> About {
    let (event, of) = match event {
        Event::Hello(_) => ("hello", Of::TheAgent),
        Event::Journaled(_) => ("journaled", Of::TheAgent),
        Event::HelloEnd(_) => ("hello_end", Of::TheAgent),
        Event::Beat(_) => ("beat", Of::TheAgent),
        Event::Proved(it) => ("proved", Of::Session(it.session, it.site.clone())),
        Event::DotSent(it) => ("dot_sent", Of::Delivery(it.lease.clone())),
        Event::Report(it) => ("report", Of::Delivery(it.lease.clone())),
        Event::GivenBack(it) => ("given_back", Of::Delivery(it.lease.clone())),
        Event::SessionClosed(it) => ("session_closed", Of::Session(it.session, it.site.clone())),
        Event::Draining(_) => ("draining", Of::TheAgent),
        Event::Health(_) => ("health", Of::TheAgent),
        Event::Checked(it) => ("checked", Of::Check(it.number)),
    };
    About { event, of }
}

/// An event that could not be understood.
pub(super) fn not_understood(about: &About, field: &'static str) -> Fault {
    let says = match field {
        "hello" | "journaled" | "hello_end" => "comes too late: it belongs before HelloEnd",
        _ => "is missing or malformed",
    };
    let whose = match &about.of {
        Of::TheAgent => String::new(),
        Of::Delivery(lease) => whose(lease.as_ref()),
        Of::Session(number, site) => session(*number, site),
        Of::Check(number) => format!("check {number}"),
    };
    Fault::new(about.event, whose, Flaw::new(field, says))
}

fn session(number: u64, site: &str) -> String {
    format!("session {number} at {}", excerpt::of(site))
}

fn whose(lease: Option<&pb::Lease>) -> String {
    let Some(lease) = lease else {
        return String::new();
    };
    let site = excerpt::of(&lease.site);
    match dd_proto::id::MessageId::try_from(&lease.message_id[..]) {
        Ok(message) => format!("{message}/{site}"),
        Err(_) => format!("?/{site}"),
    }
}

#[cfg(test)]
mod tests;

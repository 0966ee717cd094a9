//! What one stream was given: the plans, and what is out under them.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use dd_proto::id::{Generation, MessageId, SiteVersion};
use dd_proto::name::SiteName;
use dd_proto::pb;
use dd_proto::site::Site;

use super::Flaw;
use super::seen;
use crate::dispatch::Order;

/// Plans of a site under which sessions may still be open.
const PLANS: usize = 4;
/// Assignments beyond which the oldest are forgotten: far more than an agent may have in hand.
const MOST: usize = 65_536;

#[derive(Debug, Default)]
pub(super) struct Given {
    /// The newest last.
    plans: HashMap<SiteName, VecDeque<Arc<Site>>>,
    out: BTreeMap<Generation, Out>,
}

/// One assignment.
#[derive(Debug)]
pub(super) struct Out {
    message: MessageId,
    site: SiteName,
    version: SiteVersion,
    pub(super) recipients: BTreeSet<u32>,
    /// It was told that its dot goes out.
    pub(super) dot_told: bool,
}

impl Given {
    pub(super) fn gave(&mut self, order: &Order) {
        match order {
            Order::Plan(site) => {
                let plans = self.plans.entry(site.name.clone()).or_default();
                plans.retain(|plan| plan.version != site.version);
                plans.push_back(site.clone());
                if plans.len() > PLANS {
                    plans.pop_front();
                }
            }
            Order::Assign(it) => {
                let recipients = it.envelope.recipients.iter();
                let out = Out {
                    message: it.lease.delivery.message,
                    site: it.lease.delivery.site.clone(),
                    version: it.version,
                    recipients: recipients.map(|it| it.number.0.into()).collect(),
                    dot_told: false,
                };
                self.out.insert(it.lease.generation, out);
                if self.out.len() > MOST {
                    self.out.pop_first();
                }
            }
            _ => {}
        }
    }

    pub(super) fn dot(&mut self, dot: &pb::DotSent) {
        if let Some(out) = self.find(dot.lease.as_ref()) {
            out.dot_told = true;
        }
    }

    /// An assignment has ended; None where it was not given on this stream.
    pub(super) fn ended(&mut self, lease: Option<&pb::Lease>) -> Option<Out> {
        self.find(lease)?;
        self.out.remove(&generation(lease?)?)
    }

    fn find(&mut self, lease: Option<&pb::Lease>) -> Option<&mut Out> {
        let lease = lease?;
        let out = self.out.get_mut(&generation(lease)?)?;
        let is_it =
            out.message.as_bytes() == &lease.message_id[..] && out.site.as_str() == lease.site;
        is_it.then_some(out)
    }

    /// A proof, beside the plans of the site; which of them it was given under it does not say.
    pub(super) fn proved(&self, proved: &pb::Proved) -> Result<(), Flaw> {
        let site: Option<SiteName> = proved.site.parse().ok();
        let plans = site.and_then(|site| self.plans.get(&site));
        let none = pb::Observed::default();
        let observed = proved.observed.as_ref().unwrap_or(&none);
        let mut newest = Ok(());
        for plan in plans.into_iter().flatten().rev() {
            let looked = seen::proves(observed, plan);
            match (&looked, &newest) {
                (Ok(()), _) => return Ok(()),
                (Err(_), Ok(())) => newest = looked,
                (Err(_), Err(_)) => {}
            }
        }
        newest
    }

    /// Whether what was answered was answered behind the proof that the plan asks for.
    pub(super) fn behind_proof(&self, report: &pb::Report, out: &Out) -> Result<(), Flaw> {
        let plans = self.plans.get(&out.site).into_iter().flatten();
        let mut plans = plans.filter(|plan| plan.version == out.version);
        match plans.next() {
            Some(plan) => seen::behind_proof(report, plan),
            None => Ok(()),
        }
    }
}

fn generation(lease: &pb::Lease) -> Option<Generation> {
    let generation = lease.generation.as_ref()?;
    Some(Generation {
        start: generation.start,
        counter: generation.counter,
    })
}

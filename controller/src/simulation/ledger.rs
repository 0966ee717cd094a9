//! What everybody was told, and what is therefore owed.
//!
//! Kept outside of the controller: it survives every crash.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dd_proto::id::{DeliveryId, MessageId, RecipientNumber};
use dd_proto::report::{Disposition, Report};

use super::senders::Senders;
use crate::dispatch::Assignment;
use crate::dispatch::simulation::received::Received;
use crate::store::{Settled, Settlement};

/// Shared by the world and by what watches the store.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger(Arc<Mutex<Entries>>);

pub(super) type To = (DeliveryId, RecipientNumber);

#[derive(Debug, Default)]
pub(super) struct Entries {
    /// Messages whose feeder waits for its 250.
    pub(super) coming: u32,
    /// The feeder was told 250.
    pub(super) acknowledged: BTreeSet<To>,
    /// The store was asked in an earlier life, and the answer was lost with it.
    pub(super) perhaps_settled: BTreeSet<To>,
    settling: BTreeSet<To>,
    /// The store said that it is durable.
    pub(super) settled: BTreeMap<To, Settled>,
    /// The sites have it.
    pub(super) received: Received,
    /// The site answered 5yz.
    pub(super) refused: BTreeSet<To>,
    /// An operator wanted it gone.
    pub(super) given_up: BTreeSet<DeliveryId>,
    /// A record about it lies where the disk cannot read.
    pub(super) unread: BTreeSet<MessageId>,
    /// Which message has the number.
    numbers: BTreeMap<u64, MessageId>,
    /// A number that two have. Whoever sees it is no part of the world's turn, which fails.
    twice: Option<String>,
    pub(super) senders: Senders,
    pub(super) trace: Vec<String>,
}

impl Ledger {
    pub(super) fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    pub(super) fn note(&mut self, line: String) {
        self.trace.push(line);
    }

    /// The feeder was told 250, or the store answered Ok to a report of ours.
    pub(super) fn acknowledged(&mut self, to: To) {
        self.note(format!("acknowledged {} {:?}", to.0, to.1));
        self.acknowledged.insert(to);
    }

    /// The store says where a message stands.
    pub(super) fn numbered(&mut self, number: u64, message: MessageId) {
        let before = self.numbers.insert(number, message);
        if let Some(before) = before.filter(|before| *before != message) {
            let twice = format!("{message} has the number {number}, as {before} has");
            self.note(twice.clone());
            self.twice.get_or_insert(twice);
        }
    }

    /// No number of a record is given out twice.
    pub(super) fn numbers_are_given_once(&self) {
        if let Some(twice) = &self.twice {
            let marks = ["start", "end", "unread", "acknowledged"];
            let is_mark = |line: &&String| marks.iter().any(|mark| line.starts_with(mark));
            let lines: Vec<_> = self.trace.iter().filter(is_mark).cloned().collect();
            panic!("{twice}:\n{}", lines.join("\n"));
        }
    }

    /// What became of it may be lost, but for the mark that nobody knows.
    pub(super) fn is_unread(&self, delivery: &DeliveryId) -> bool {
        self.unread.contains(&delivery.message)
    }

    /// Whether the feeder was told 250 for any of its recipients.
    pub(super) fn is_promised(&self, delivery: &DeliveryId) -> bool {
        self.acknowledged.iter().any(|(of, _)| of == delivery)
    }

    /// The store is asked.
    pub(super) fn settling(&mut self, settlement: &Settlement) {
        let numbers = settlement.recipients.iter();
        let asked = numbers.map(|(number, _)| (settlement.delivery.clone(), *number));
        self.settling.extend(asked);
    }

    /// A life is over, and with it who waited for answers.
    pub(super) fn life_ended(&mut self) {
        let asked = std::mem::take(&mut self.settling);
        self.perhaps_settled.extend(asked);
    }

    /// The store has answered Ok.
    pub(super) fn settled(&mut self, settlement: &Settlement) {
        for (number, what) in &settlement.recipients {
            let to = (settlement.delivery.clone(), *number);
            self.note(format!("settled {} {number:?} {what:?}", to.0));
            match what {
                Settled::Relayed => assert!(
                    self.received.has(&to),
                    "{} is settled, and the site never had it",
                    to.0
                ),
                Settled::Failed => assert!(
                    self.refused.contains(&to) || self.given_up.contains(&to.0),
                    "{} is failed, and the site never refused it",
                    to.0
                ),
                Settled::Removed => assert!(self.given_up.contains(&to.0), "{} removed", to.0),
                Settled::Expired => panic!(
                    "{} is expired, within its lifetime:\n{}",
                    to.0,
                    self.life_of(&to.0)
                ),
            }
            self.settling.remove(&to);
            self.settled.entry(to).or_insert(*what);
        }
    }

    /// Dispatch has handed a delivery to an agent.
    pub(super) fn assigned(&mut self, assignment: &Assignment) {
        let delivery = &assignment.lease.delivery;
        self.note(format!(
            "assigned {delivery} {:?}, in doubt {}",
            assignment.lease.generation, assignment.in_doubt
        ));
        for recipient in &assignment.envelope.recipients {
            let to = (delivery.clone(), recipient.number);
            let forgotten = assignment.in_doubt && self.is_unread(delivery);
            assert!(
                forgotten || !self.settled.contains_key(&to),
                "{delivery} goes out again, and was settled durably:\n{}",
                self.life_of(delivery)
            );
        }
    }

    /// Copies are only made in doubt.
    pub(super) fn copies_are_marked(&self) {
        if let Some(delivery) = &self.received.unmarked {
            panic!(
                "{delivery} is there twice, and was not in doubt:\n{}",
                self.life_of(delivery)
            );
        }
    }

    /// What a site has answered, told or not.
    pub(super) fn answered(&mut self, report: &Report) {
        let failed = report.recipients.iter();
        let failed = failed.filter(|result| result.disposition == Disposition::Failed);
        let to = failed.map(|result| (report.lease.delivery.clone(), result.number));
        self.refused.extend(to);
    }

    /// An agent forgets: what its site accepted must be durable.
    pub(super) fn told(&mut self, report: &Report) {
        let delivery = &report.lease.delivery;
        self.note(format!("told {delivery}"));
        for result in &report.recipients {
            let to = (delivery.clone(), result.number);
            let relayed = result.disposition == Disposition::Relayed;
            let settled = self.settled.contains_key(&to) || self.perhaps_settled.contains(&to);
            // A controller that cannot read a message takes it for settled.
            let settled = settled || self.is_unread(delivery);
            assert!(
                !relayed || settled || !self.acknowledged.contains(&to),
                "{delivery} is acknowledged, and was not settled:\n{}",
                self.life_of(delivery)
            );
        }
    }

    /// What the trace says of a delivery.
    pub(super) fn life_of(&self, delivery: &DeliveryId) -> String {
        let unread = format!("unread {} ", delivery.message);
        let (of_it, others) = (delivery.to_string(), ["start", "end", "wall", &unread]);
        let lines = self.trace.iter().filter(|line| {
            line.contains(&of_it) || others.iter().any(|other| line.starts_with(other))
        });
        lines.cloned().collect::<Vec<_>>().join("\n")
    }

    /// When all has recovered nothing waits, and everything acknowledged has become something.
    pub(super) fn all_is_well(&self) {
        self.everybody_was_told();
        for to in &self.acknowledged {
            // A settlement may be durable though nobody lived to be told.
            let for_a_reason = self.refused.contains(to) || self.given_up.contains(&to.0);
            assert!(
                self.received.has(to) || for_a_reason || self.is_unread(&to.0),
                "{} {:?} was acknowledged, and is lost:\n{}",
                to.0,
                to.1,
                self.life_of(&to.0)
            );
        }
    }
}

//! The streams of agents that are attached now, for what goes past dispatch: checks, and the end of an agent that was
//! removed.
//!
//! # Invariants
//! A stream has a seat for exactly as long as it lives. An answer is taken only from the agent that was asked.
//!
//! # Not here
//! Work, and who gets it: [`crate::dispatch`].

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use dd_proto::feature::Feature;
use dd_proto::name::AgentName;
use dd_proto::pb;
use dd_proto::site::Site;
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use super::caller::AgentId;
use super::status;
use crate::authority::client::AgentKey;

/// Orders beside dispatch's that may wait for a slow agent.
const AHEAD: usize = 64;

/// Who is attached.
#[derive(Debug, Clone, Default)]
pub struct Attached(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    seats: HashMap<u64, Sitting>,
    /// Where from another process has attached, for streams that it has ended and that have not said so yet.
    displaced: HashMap<u64, String>,
    asked: HashMap<u64, (AgentName, oneshot::Sender<Vec<pb::HostCheck>>)>,
}

impl Inner {
    /// The stream that came last under this name.
    fn newest(&self, name: &AgentName) -> Option<&Sitting> {
        let seats = self.seats.iter().filter(|(_, it)| it.agent.name == *name);
        let (_, newest) = seats.max_by_key(|(id, _)| **id)?;
        Some(newest)
    }
}

/// A stream as the others see it.
#[derive(Debug)]
struct Sitting {
    agent: AgentId,
    /// The address it comes from.
    from: String,
    /// What it binds, as it said last.
    bound: Vec<IpAddr>,
    /// What it understands beyond what every agent does.
    features: BTreeSet<Feature>,
    orders: mpsc::Sender<pb::Order>,
}

/// One stream's.
#[derive(Debug)]
pub(super) struct Seat {
    id: u64,
    orders: mpsc::Receiver<pb::Order>,
    attached: Attached,
}

/// What an agent that was asked will have seen; nothing where it goes away before it answers.
#[derive(Debug)]
pub(super) struct Asked {
    number: u64,
    answer: oneshot::Receiver<Vec<pb::HostCheck>>,
    attached: Attached,
}

impl Attached {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no holder of this lock panics")
    }

    pub(super) fn sit(&self, agent: AgentId, from: &str) -> Seat {
        let (sender, orders) = mpsc::channel(AHEAD);
        let mut inner = self.lock();
        inner.next += 1;
        let id = inner.next;
        let sitting = Sitting {
            agent,
            from: from.to_owned(),
            bound: Vec::new(),
            features: BTreeSet::new(),
            orders: sender,
        };
        inner.seats.insert(id, sitting);
        Seat {
            id,
            orders,
            attached: self.clone(),
        }
    }

    /// Ends every stream under this name.
    pub(super) fn cut(&self, name: &AgentName) {
        self.lock().seats.retain(|_, it| it.agent.name != *name);
    }

    /// Ends the streams that bear this name, for the process at `by` has attached under it. Returns where they came from.
    pub(super) fn displace(&self, name: &AgentName, by: &str) -> Vec<String> {
        let mut inner = self.lock();
        let Inner {
            seats, displaced, ..
        } = &mut *inner;
        let before = seats.extract_if(|_, it| it.agent.name == *name);
        let before = before.map(|(id, sitting)| {
            displaced.insert(id, by.to_owned());
            sitting.from
        });
        before.collect()
    }

    /// Tells every agent. One that does not take its orders is left out: it hears of it with its next Welcome.
    pub(super) fn tell_all(&self, order: &pb::order::Order) {
        for sitting in self.lock().seats.values() {
            let order = Some(order.clone());
            let _ = sitting.orders.try_send(pb::Order { order });
        }
    }

    /// Ends every stream under this name with another key.
    pub(super) fn cut_others(&self, name: &AgentName, key: AgentKey) {
        let mut inner = self.lock();
        inner
            .seats
            .retain(|_, it| it.agent.name != *name || it.agent.key == key);
    }

    /// The addresses that an attached agent binds, as it said last; None where it is not attached.
    pub(super) fn addresses(&self, name: &AgentName) -> Option<Vec<IpAddr>> {
        let inner = self.lock();
        inner.newest(name).map(|it| it.bound.clone())
    }

    /// What an attached agent would have to understand to look at the site, and does not.
    pub(super) fn lacks(&self, name: &AgentName, site: &Site) -> Option<Feature> {
        let inner = self.lock();
        let newest = inner.newest(name)?;
        site.way.lacked_by(&newest.features)
    }

    pub(super) fn agents(&self) -> Vec<AgentName> {
        let inner = self.lock();
        let mut agents: Vec<_> = inner
            .seats
            .values()
            .map(|it| it.agent.name.clone())
            .collect();
        agents.sort_unstable();
        agents.dedup();
        agents
    }

    /// Asks an agent to look at a site; the number is given here. None where it is not attached, or does not take its
    /// orders.
    pub(super) fn ask(&self, agent: &AgentName, check: pb::Check) -> Option<Asked> {
        let mut inner = self.lock();
        inner.next += 1;
        let number = inner.next;
        // The newest stream is the one that lives, where an old one is not known to be gone yet.
        let mut seats: Vec<_> = inner
            .seats
            .iter()
            .filter(|(_, it)| it.agent.name == *agent)
            .collect();
        seats.sort_by_key(|(id, _)| **id);
        let (_, Sitting { orders, .. }) = seats.last()?;
        let check = pb::Check { number, ..check };
        let order = pb::order::Order::Check(Box::new(check));
        orders.try_send(pb::Order { order: Some(order) }).ok()?;
        let (sender, answer) = oneshot::channel();
        inner.asked.insert(number, (agent.clone(), sender));
        Some(Asked {
            number,
            answer,
            attached: self.clone(),
        })
    }

    pub(super) fn answered(&self, agent: &AgentName, answer: pb::Checked) {
        let mut inner = self.lock();
        match inner.asked.remove(&answer.number) {
            // Whoever asked may have gone.
            Some((asked, sender)) if asked == *agent => drop(sender.send(answer.hosts)),
            Some(other) => {
                inner.asked.insert(answer.number, other);
            }
            None => {}
        }
    }
}

impl Seat {
    /// The agent has said which addresses it binds, and what it understands.
    pub(super) fn says(&self, addresses: Vec<IpAddr>, features: BTreeSet<Feature>) {
        if let Some(sitting) = self.attached.lock().seats.get_mut(&self.id) {
            sitting.bound = addresses;
            sitting.features = features;
        }
    }

    /// Ends this stream.
    pub(super) fn cut(&mut self) {
        self.attached.lock().seats.remove(&self.id);
    }

    /// Why it was cut off.
    pub(super) fn why(&self, name: &AgentName) -> Status {
        match self.attached.lock().displaced.get(&self.id) {
            Some(by) => status::displaced(name, by),
            None => status::unrecognized(
                "the agent has been removed, or has joined anew elsewhere: run `ddadm agent add` (or `ddadm agent token`, where it is still listed) to have it back",
            ),
        }
    }

    /// The next order that is not dispatch's; None where the agent was cut off.
    pub(super) fn poll_order(&mut self, context: &mut Context<'_>) -> Poll<Option<pb::Order>> {
        self.orders.poll_recv(context)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.cut();
        self.attached.lock().displaced.remove(&self.id);
    }
}

impl Asked {
    pub(super) async fn answer(mut self) -> Option<Vec<pb::HostCheck>> {
        (&mut self.answer).await.ok()
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.attached.lock().asked.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_key(name: &AgentName, key: u8) -> AgentId {
        AgentId {
            name: name.clone(),
            key: AgentKey([key; 32]),
        }
    }

    fn hosts(sentence: &str) -> Vec<pb::HostCheck> {
        vec![pb::HostCheck {
            sentence: sentence.to_owned(),
            ..pb::HostCheck::default()
        }]
    }

    #[tokio::test]
    async fn an_answer_counts_only_from_the_agent_that_was_asked() {
        let attached = Attached::default();
        let (one, two): (AgentName, AgentName) = ("one".parse().unwrap(), "two".parse().unwrap());
        let mut seat = attached.sit(with_key(&one, 1), "192.0.2.1:5000");
        let _other = attached.sit(with_key(&two, 2), "192.0.2.1:5000");
        let asked = attached.ask(&one, pb::Check::default()).unwrap();
        let order = std::future::poll_fn(|context| seat.poll_order(context)).await;
        let Some(pb::order::Order::Check(check)) = order.unwrap().order else {
            panic!("another order");
        };
        let number = check.number;
        let answer = |sentence| pb::Checked {
            number,
            hosts: hosts(sentence),
        };
        attached.answered(&two, answer("forged"));
        attached.answered(&one, answer("seen"));
        assert_eq!(asked.answer().await, Some(hosts("seen")));
        assert!(attached.lock().asked.is_empty());
    }

    #[tokio::test]
    async fn who_bore_the_name_before_is_cut_off_and_who_bears_it_now_is_not() {
        let attached = Attached::default();
        let one: AgentName = "one".parse().unwrap();
        let mut old = attached.sit(with_key(&one, 1), "192.0.2.1:5000");
        let _new = attached.sit(with_key(&one, 2), "192.0.2.1:5000");
        let two: AgentName = "two".parse().unwrap();
        let _other = attached.sit(with_key(&two, 1), "192.0.2.1:5000");
        attached.cut_others(&one, AgentKey([2; 32]));
        let order = std::future::poll_fn(|context| old.poll_order(context)).await;
        assert_eq!(order, None);
        assert_eq!(attached.agents(), [one, two]);
    }

    #[tokio::test]
    async fn a_stream_that_another_process_takes_over_is_told_so() {
        let attached = Attached::default();
        let (one, two): (AgentName, AgentName) = ("one".parse().unwrap(), "two".parse().unwrap());
        let mut old = attached.sit(with_key(&one, 1), "192.0.2.1:5000");
        let _other = attached.sit(with_key(&two, 2), "192.0.2.3:5000");
        let before = attached.displace(&one, "192.0.2.2:5000");
        assert_eq!(before, ["192.0.2.1:5000"]);
        let order = std::future::poll_fn(|context| old.poll_order(context)).await;
        assert_eq!(order, None);
        let why = old.why(&one);
        assert_eq!(why.code(), tonic::Code::Aborted);
        assert!(why.message().contains("as one from 192.0.2.2"), "{why}");
        assert_eq!(attached.agents(), [two]);
        drop(old);
        assert!(attached.lock().displaced.is_empty());
    }

    #[tokio::test]
    async fn an_agent_that_is_cut_off_or_gone_answers_nothing() {
        let attached = Attached::default();
        let one: AgentName = "one".parse().unwrap();
        assert!(attached.ask(&one, pb::Check::default()).is_none());
        let mut seat = attached.sit(with_key(&one, 1), "192.0.2.1:5000");
        assert_eq!(attached.agents(), std::slice::from_ref(&one));
        attached.cut(&one);
        let order = std::future::poll_fn(|context| seat.poll_order(context)).await;
        assert_eq!(order, None);
        assert!(attached.ask(&one, pb::Check::default()).is_none());
        let again = attached.sit(with_key(&one, 1), "192.0.2.1:5000");
        drop(seat);
        assert_eq!(attached.agents(), [one]);
        drop(again);
        assert!(attached.agents().is_empty());
    }
}

//! The streams of agents that are attached now, for what goes past dispatch: checks, and the end of an agent that was
//! removed.
//!
//! # Invariants
//! A stream has a seat for exactly as long as it lives. An answer is taken only from the agent that was asked.
//!
//! # Not here
//! Work, and who gets it: [`crate::dispatch`].

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use dd_proto::name::AgentName;
use dd_proto::pb;
use tokio::sync::{mpsc, oneshot};

use super::caller::AgentId;
use crate::authority::client::AgentKey;

/// Orders beside dispatch's that may wait for a slow agent.
const AHEAD: usize = 64;

/// Who is attached.
#[derive(Debug, Clone, Default)]
pub struct Attached(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    seats: HashMap<u64, (AgentId, mpsc::Sender<pb::Order>)>,
    /// What each binds, by seat.
    bound: HashMap<u64, Vec<IpAddr>>,
    asked: HashMap<u64, (AgentName, oneshot::Sender<Vec<pb::HostCheck>>)>,
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

    pub(super) fn sit(&self, agent: AgentId) -> Seat {
        let (sender, orders) = mpsc::channel(AHEAD);
        let mut inner = self.lock();
        inner.next += 1;
        let id = inner.next;
        inner.seats.insert(id, (agent, sender));
        Seat {
            id,
            orders,
            attached: self.clone(),
        }
    }

    /// Ends every stream under this name.
    pub(super) fn cut(&self, name: &AgentName) {
        self.lock()
            .seats
            .retain(|_, (agent, _)| agent.name != *name);
    }

    /// Ends every stream under this name with another key.
    pub(super) fn cut_others(&self, name: &AgentName, key: AgentKey) {
        let mut inner = self.lock();
        inner
            .seats
            .retain(|_, (agent, _)| agent.name != *name || agent.key == key);
    }

    /// The addresses that an attached agent binds, as it said last; None where it is not attached.
    pub(super) fn addresses(&self, name: &AgentName) -> Option<Vec<IpAddr>> {
        let inner = self.lock();
        let seats = inner.seats.iter().filter(|(_, (it, _))| it.name == *name);
        let newest = seats.map(|(id, _)| *id).max()?;
        Some(inner.bound.get(&newest).cloned().unwrap_or_default())
    }

    pub(super) fn agents(&self) -> Vec<AgentName> {
        let inner = self.lock();
        let mut agents: Vec<_> = inner
            .seats
            .values()
            .map(|(it, _)| it.name.clone())
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
            .filter(|(_, (it, _))| it.name == *agent)
            .collect();
        seats.sort_by_key(|(id, _)| **id);
        let (_, (_, orders)) = seats.last()?;
        let check = pb::Check { number, ..check };
        let order = pb::order::Order::Check(check);
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
    /// The agent has said which addresses it binds.
    pub(super) fn binds(&self, addresses: Vec<IpAddr>) {
        self.attached.lock().bound.insert(self.id, addresses);
    }

    /// Ends this stream.
    pub(super) fn cut(&mut self) {
        self.attached.lock().seats.remove(&self.id);
    }

    /// The next order that is not dispatch's; None where the agent was cut off.
    pub(super) fn poll_order(&mut self, context: &mut Context<'_>) -> Poll<Option<pb::Order>> {
        self.orders.poll_recv(context)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.cut();
        self.attached.lock().bound.remove(&self.id);
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
        let mut seat = attached.sit(with_key(&one, 1));
        let _other = attached.sit(with_key(&two, 2));
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
        let mut old = attached.sit(with_key(&one, 1));
        let _new = attached.sit(with_key(&one, 2));
        let two: AgentName = "two".parse().unwrap();
        let _other = attached.sit(with_key(&two, 1));
        attached.cut_others(&one, AgentKey([2; 32]));
        let order = std::future::poll_fn(|context| old.poll_order(context)).await;
        assert_eq!(order, None);
        assert_eq!(attached.agents(), [one, two]);
    }

    #[tokio::test]
    async fn an_agent_that_is_cut_off_or_gone_answers_nothing() {
        let attached = Attached::default();
        let one: AgentName = "one".parse().unwrap();
        assert!(attached.ask(&one, pb::Check::default()).is_none());
        let mut seat = attached.sit(with_key(&one, 1));
        assert_eq!(attached.agents(), std::slice::from_ref(&one));
        attached.cut(&one);
        let order = std::future::poll_fn(|context| seat.poll_order(context)).await;
        assert_eq!(order, None);
        assert!(attached.ask(&one, pb::Check::default()).is_none());
        let again = attached.sit(with_key(&one, 1));
        drop(seat);
        assert_eq!(attached.agents(), [one]);
        drop(again);
        assert!(attached.agents().is_empty());
    }
}

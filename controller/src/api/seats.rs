//! How many connections the control plane keeps, and which one ends when there are too many.
//!
//! Whoever has shown no certificate is a stranger, counted by address; whoever has is counted by name. Where a count is
//! full, the *oldest* connection under the same count ends, never the new one. An honest agent needs a few milliseconds
//! to show its certificate, and is then out of reach of strangers; so a flood, even from the agent's own address, pushes
//! out mostly itself, and nobody pushes out those that are counted under another name.
//!
//! # Invariants
//! A seat is counted for as long as it lives, under one count at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use ipnet::IpNet;
use tokio::sync::oneshot;

/// Connections of strangers, half-open handshakes among them: from one address (IPv6: /64), and together.
const OF_AN_ADDRESS: usize = 128;
const STRANGERS: usize = 512;
/// Connections of those who have shown a certificate, or came over the socket: under one name, and together.
const OF_A_NAME: usize = 64;
const KNOWN: usize = 4096;

/// Under what a connection is counted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Who {
    Stranger(IpNet),
    Known(String),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Seats(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    last: u64,
    taken: BTreeMap<u64, Taken>,
    /// The oldest seat has the smallest number.
    counts: BTreeMap<Who, BTreeSet<u64>>,
    strangers: usize,
}

#[derive(Debug)]
struct Taken {
    who: Who,
    /// Dropped, it ends the connection.
    _ends: oneshot::Sender<()>,
}

/// One connection's.
#[derive(Debug)]
pub(super) struct Seat {
    number: u64,
    over: oneshot::Receiver<()>,
    seats: Seats,
}

impl Who {
    pub(super) fn at(address: IpAddr) -> Self {
        let bits = match address.to_canonical() {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 64,
        };
        let network = IpNet::new(address.to_canonical(), bits);
        Self::Stranger(network.expect("the length fits the family").trunc())
    }

    fn is_stranger(&self) -> bool {
        matches!(self, Self::Stranger(_))
    }
}

impl Seats {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().expect("no holder of this lock panics")
    }

    pub(super) fn take(&self, who: Who) -> Seat {
        let (ends, over) = oneshot::channel();
        let mut table = self.lock();
        table.last += 1;
        let number = table.last;
        let taken = Taken { who, _ends: ends };
        table.put(number, taken);
        Seat {
            number,
            over,
            seats: self.clone(),
        }
    }
}

impl Table {
    fn put(&mut self, number: u64, taken: Taken) {
        let who = taken.who.clone();
        self.strangers += usize::from(who.is_stranger());
        self.taken.insert(number, taken);
        self.counts.entry(who.clone()).or_default().insert(number);
        let (each, all) = match who {
            Who::Stranger(_) => (OF_AN_ADDRESS, STRANGERS),
            Who::Known(_) => (OF_A_NAME, KNOWN),
        };
        if self.counts[&who].len() > each {
            self.end_oldest(&who);
        }
        let together = match who.is_stranger() {
            true => self.strangers,
            false => self.taken.len() - self.strangers,
        };
        if together > all {
            self.end_oldest_of_most(&who);
        }
    }

    /// Of the same kind as `who`: whoever has most has caused it.
    fn end_oldest_of_most(&mut self, who: &Who) {
        let same = self.counts.iter();
        let same = same.filter(|(other, _)| other.is_stranger() == who.is_stranger());
        let most = same.max_by_key(|(_, seats)| seats.len());
        if let Some(most) = most.map(|(most, _)| most.clone()) {
            self.end_oldest(&most);
        }
    }

    fn end_oldest(&mut self, who: &Who) {
        let oldest = self.counts.get(who).and_then(|seats| seats.first());
        if let Some(oldest) = oldest.copied() {
            self.remove(oldest);
        }
    }

    fn remove(&mut self, number: u64) -> Option<Taken> {
        let taken = self.taken.remove(&number)?;
        self.strangers -= usize::from(taken.who.is_stranger());
        if let Some(seats) = self.counts.get_mut(&taken.who) {
            seats.remove(&number);
            if seats.is_empty() {
                self.counts.remove(&taken.who);
            }
        }
        Some(taken)
    }
}

impl Seat {
    /// It has shown who it is.
    pub(super) fn belongs_to(&self, name: &str) {
        let mut table = self.seats.lock();
        if let Some(mut taken) = table.remove(self.number) {
            taken.who = Who::Known(name.to_owned());
            table.put(self.number, taken);
        }
    }

    /// Until it has to make room.
    pub(super) async fn over(&mut self) {
        let _ = (&mut self.over).await;
    }

    pub(super) fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<()> {
        Future::poll(std::pin::Pin::new(&mut self.over), context).map(drop)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.lock().remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> Who {
        Who::at(address.parse().unwrap())
    }

    fn is_over(seat: &mut Seat) -> bool {
        seat.over.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    #[test]
    fn a_flood_ends_its_own_oldest_and_nobody_elses() {
        let seats = Seats::default();
        let mut agent = seats.take(at("192.0.2.1"));
        agent.belongs_to("out1");
        let mut other = seats.take(at("192.0.2.2"));
        let mut flood: Vec<Seat> = (0..5_000).map(|_| seats.take(at("192.0.2.1"))).collect();
        assert!(!is_over(&mut agent), "it has shown its certificate");
        assert!(!is_over(&mut other), "it is counted by itself");
        assert!(is_over(&mut flood[0]));
        let open = flood
            .iter_mut()
            .filter_map(|seat| (!is_over(seat)).then_some(()));
        assert_eq!(open.count(), OF_AN_ADDRESS);
        drop((flood, agent, other));
        let table = seats.lock();
        assert!(table.taken.is_empty() && table.counts.is_empty() && table.strangers == 0);
    }

    #[test]
    fn many_addresses_together_have_a_limit_too_and_whoever_has_most_makes_room() {
        let seats = Seats::default();
        let mut lone = seats.take(at("198.51.100.1"));
        let mut flood = Vec::new();
        for n in 0..3_000_u32 {
            // Sixteen networks of a /60.
            let address = format!("2001:db8:0:{:x}::{:x}", n % 16, n);
            flood.push(seats.take(at(&address)));
        }
        assert!(!is_over(&mut lone));
        assert_eq!(seats.lock().strangers, STRANGERS);
        assert_eq!(seats.lock().counts.len(), 17);
    }

    #[test]
    fn a_name_has_a_limit_of_its_own() {
        let seats = Seats::default();
        let mut all: Vec<Seat> = (0..=OF_A_NAME)
            .map(|_| seats.take(at("192.0.2.1")))
            .collect();
        for seat in &all {
            seat.belongs_to("out1");
        }
        assert!(is_over(&mut all[0]));
        assert!(!is_over(&mut all[1]));
        assert_eq!(seats.lock().strangers, 0);
    }
}

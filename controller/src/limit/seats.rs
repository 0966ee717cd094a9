//! The table of a door, shared by its connections: each has a seat, and is told when it has to make room.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::table::{Rooms, Table, TurnedAway, Who};

/// All seats of one door.
#[derive(Debug, Clone)]
pub(crate) struct Seats(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    table: Table,
    /// Dropped, one ends its connection.
    ends: HashMap<u64, oneshot::Sender<()>>,
}

/// One connection's; given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    place: Place,
    over: oneshot::Receiver<()>,
}

/// Where a connection sits, for whoever learns who it is.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    number: u64,
    seats: Seats,
}

impl Seats {
    pub(crate) fn new(rooms: Rooms) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            table: Table::new(rooms),
            ends: HashMap::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no holder of this lock panics")
    }

    /// # Errors
    /// Only in a room where the newest is turned away.
    pub(crate) fn take(&self, who: Who) -> Result<Seat, TurnedAway> {
        let mut inner = self.lock();
        let entered = inner.table.enter(who)?;
        inner.end(entered.ends);
        let (ends, over) = oneshot::channel();
        inner.ends.insert(entered.number, ends);
        let place = Place {
            number: entered.number,
            seats: self.clone(),
        };
        Ok(Seat { place, over })
    }
}

impl Inner {
    fn end(&mut self, number: Option<u64>) {
        if let Some(number) = number {
            self.ends.remove(&number);
        }
    }
}

impl Place {
    /// It has shown who it is.
    pub(crate) fn belongs_to(&self, who: Who) {
        let mut inner = self.seats.lock();
        let ends = inner.table.belongs_to(self.number, who);
        inner.end(ends);
    }
}

impl Seat {
    pub(crate) fn place(&self) -> Place {
        self.place.clone()
    }

    /// It has shown who it is.
    pub(crate) fn belongs_to(&self, who: Who) {
        self.place.belongs_to(who);
    }

    /// Until it has to make room.
    pub(crate) async fn over(&mut self) {
        let _ = (&mut self.over).await;
    }

    pub(crate) fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<()> {
        Future::poll(Pin::new(&mut self.over), context).map(drop)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut inner = self.place.seats.lock();
        inner.table.leave(self.place.number);
        inner.end(Some(self.place.number));
    }
}

/// Too many like it: newer ones have taken its place.
pub(crate) fn made_room() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        "it had to make room for newer connections",
    )
}

#[cfg(test)]
mod tests {
    use super::super::{Full, Room};
    use super::*;

    fn is_over(seat: &mut Seat) -> bool {
        seat.over.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    #[test]
    fn whoever_makes_room_is_told_and_a_dropped_seat_is_free() {
        let room = Room {
            host: 2,
            network: 2,
            all: 2,
            full: Full::OldestEnds,
        };
        let seats = Seats::new(Rooms {
            strangers: room,
            trusted: room,
            known: room,
        });
        let stranger = || seats.take(Who::Stranger([192, 0, 2, 1].into())).unwrap();
        let (mut known, mut first, mut second) = (stranger(), stranger(), stranger());
        assert!(is_over(&mut known), "too late to say who it is");
        known.belongs_to(Who::Known("out1".into()));
        first.belongs_to(Who::Known("out1".into()));
        let mut third = stranger();
        assert!(
            ![&mut first, &mut second, &mut third]
                .map(is_over)
                .contains(&true)
        );
        drop(second);
        let mut fourth = stranger();
        assert!(![&mut third, &mut fourth].map(is_over).contains(&true));
        drop((known, first, third, fourth));
        assert!(seats.lock().ends.is_empty());
    }
}

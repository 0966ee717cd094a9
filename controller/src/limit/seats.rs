//! The table of a door, shared by its connections: each has a seat, and is told when it has to make room.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::oneshot;

use super::line::Sparing;
use super::table::{Rooms, Table, TurnedAway, Who};

/// A flood pauses for less.
const LATELY: SignedDuration = SignedDuration::from_secs(60);

/// All seats of one door.
#[derive(Debug, Clone)]
pub(crate) struct Seats(Arc<Shared>);

/// The seats of all doors that strangers may come to, for whoever asks how crowded they are.
#[derive(Debug, Clone)]
pub(crate) struct DoorSeats {
    pub(crate) intake: Seats,
    pub(crate) web: Seats,
    pub(crate) control: Seats,
}

#[derive(Debug)]
struct Shared {
    door: &'static str,
    /// That strangers hold all seats is said once a minute.
    lines: Sparing,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    table: Table,
    /// Strangers that made room or got none.
    turned_away: u64,
    /// When last one of them did so because all seats were taken.
    all_taken_at: Option<Timestamp>,
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
    pub(crate) fn new(door: &'static str, rooms: Rooms) -> Self {
        Self(Arc::new(Shared {
            door,
            lines: Sparing::new(1, Duration::from_secs(60)),
            inner: Mutex::new(Inner {
                table: Table::new(rooms),
                turned_away: 0,
                all_taken_at: None,
                ends: HashMap::new(),
            }),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        let locked = self.0.inner.lock();
        locked.expect("no holder of this lock panics")
    }

    /// Of which door, and how many strangers made room at it or got none since the start.
    pub(crate) fn turned_away(&self) -> (&'static str, u64) {
        (self.0.door, self.lock().turned_away)
    }

    /// What to tell the operator while strangers hold all seats that there are for them, and in the minute after.
    pub(crate) fn alarm(&self, now: Timestamp) -> Option<String> {
        let inner = self.lock();
        let lately = |at: Timestamp| now.duration_since(at) < LATELY;
        inner.all_taken_at.filter(|at| lately(*at))?;
        let (door, away) = (self.0.door, inner.turned_away);
        Some(format!(
            "strangers hold all seats for them at the door of {door}, and {away} have made room or got none since the start: who is known has seats of its own; keep others off with a firewall"
        ))
    }

    /// Says that one more stranger had to go where all seats are taken.
    fn say(&self, now: Timestamp) {
        let door = self.0.door;
        if let Some(unsaid) = self.0.lines.due(now) {
            tracing::warn!(
                door,
                unsaid,
                "strangers hold all seats: one had to make room"
            );
        }
    }

    /// A stranger had to go, or not.
    fn counted(&self, mut inner: MutexGuard<'_, Inner>, one_goes: bool) {
        if !one_goes {
            return;
        }
        inner.turned_away += 1;
        if inner.table.strangers_hold_all() {
            let now = now();
            inner.all_taken_at = Some(now);
            drop(inner);
            self.say(now);
        }
    }

    /// # Errors
    /// Only in a room where the newest is turned away.
    pub(crate) fn take(&self, who: Who) -> Result<Seat, TurnedAway> {
        let is_stranger = who.is_stranger();
        let mut inner = self.lock();
        let entered = match inner.table.enter(who) {
            Ok(entered) => entered,
            Err(turned_away) => {
                self.counted(inner, is_stranger);
                return Err(turned_away);
            }
        };
        inner.end(entered.ends);
        let (ends, over) = oneshot::channel();
        inner.ends.insert(entered.number, ends);
        self.counted(inner, is_stranger && entered.ends.is_some());
        let place = Place {
            number: entered.number,
            seats: self.clone(),
        };
        Ok(Seat { place, over })
    }
}

impl DoorSeats {
    pub(crate) fn all(&self) -> [&Seats; 3] {
        [&self.intake, &self.web, &self.control]
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
        let is_stranger = who.is_stranger();
        let mut inner = self.seats.lock();
        let ends = inner.table.belongs_to(self.number, who);
        inner.end(ends);
        self.seats.counted(inner, is_stranger && ends.is_some());
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

#[expect(
    clippy::disallowed_methods,
    reason = "read only where a stranger has to go; the alarm takes the time as an argument"
)]
fn now() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

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
        let seats = Seats::new(
            "intake",
            Rooms {
                strangers: room,
                trusted: room,
                known: room,
            },
        );
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

    #[test]
    fn that_strangers_hold_all_seats_is_counted_and_an_alarm_while_it_lasts() {
        let room = |host, all| Room {
            host,
            network: all,
            all,
            full: Full::OldestEnds,
        };
        let seats = Seats::new(
            "intake",
            Rooms {
                strangers: room(1, 2),
                trusted: room(1, 1),
                known: room(1, 1),
            },
        );
        let from = |who: fn(IpAddr) -> Who, last: u8| seats.take(who([192, 0, 2, last].into()));
        let _feeders = [from(Who::Trusted, 1), from(Who::Trusted, 1)];
        let _one = from(Who::Stranger, 1);
        let soon = || now() + SignedDuration::from_secs(1);
        assert_eq!(seats.turned_away(), ("intake", 0));
        let _again = from(Who::Stranger, 1);
        assert_eq!(seats.turned_away(), ("intake", 1));
        assert_eq!(seats.alarm(soon()), None, "one address has too many");
        let _others = [from(Who::Stranger, 2), from(Who::Stranger, 3)];
        let alarm = seats.alarm(soon()).unwrap();
        assert!(
            alarm.contains("all seats for them at the door of intake, and 2 have"),
            "{alarm}"
        );
        assert_eq!(seats.alarm(soon() + LATELY), None, "it is over");
    }
}

//! Who sits where, as a value: somebody comes, shows who he is, leaves; out comes whose connection ends for it.
//!
//! # Invariants
//! - A seat is counted for as long as it lives, in one hall, network and host at a time.
//! - Halls do not know each other: nobody makes room for somebody of another one.
//! - Whoever makes room is the oldest of the largest host of the largest network.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::origin;

/// As what a connection is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Who {
    /// Has proved nothing so far: counted by /64 and /48, or IPv4 address and /24.
    Stranger(IpAddr),
    /// Comes from a network that the configuration trusts: counted by its address.
    Trusted(IpAddr),
    /// Has proved a name.
    Known(Arc<str>),
}

impl Who {
    pub(super) fn is_stranger(&self) -> bool {
        matches!(self, Self::Stranger(_))
    }
}

/// How many there may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    pub(crate) host: usize,
    pub(crate) network: usize,
    pub(crate) all: usize,
    pub(crate) full: Full,
}

/// What happens where there is no more room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// The oldest of the largest group makes room.
    OldestEnds,
    /// For those who are told to come back, and do.
    NewestIsTurnedAway,
}

/// The rooms of one door.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rooms {
    pub(crate) strangers: Room,
    pub(crate) trusted: Room,
    pub(crate) known: Room,
}

/// There is no room for the newcomer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TurnedAway;

/// Somebody who came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entered {
    pub(super) number: u64,
    /// Who makes room for it.
    pub(super) ends: Option<u64>,
}

/// All seats of one door. Older ones have smaller numbers.
#[derive(Debug)]
pub(super) struct Table {
    rooms: Rooms,
    last: u64,
    seats: HashMap<u64, Spot>,
    halls: [Hall; 3],
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Address(IpAddr),
    Name(Arc<str>),
}

/// Where a seat is, and since when. Whoever has just shown who he is is the newest of his group, however old his connection.
#[derive(Debug, Clone)]
struct Spot {
    since: u64,
    hall: usize,
    network: Group,
    host: Group,
}

#[derive(Debug, Default)]
struct Hall {
    networks: BTreeMap<Group, Network>,
    all: usize,
}

/// Its seats, the oldest first.
type Host = BTreeMap<u64, u64>;

#[derive(Debug, Default)]
struct Network {
    hosts: BTreeMap<Group, Host>,
    all: usize,
}

impl Spot {
    fn of(who: Who, since: u64) -> Self {
        let (hall, network, host) = match who {
            Who::Stranger(it) => (
                0,
                Group::Address(origin::network(it)),
                Group::Address(origin::host(it)),
            ),
            Who::Trusted(it) => {
                let address = Group::Address(it.to_canonical());
                (1, address.clone(), address)
            }
            Who::Known(name) => (2, Group::Name(name.clone()), Group::Name(name)),
        };
        Self {
            since,
            hall,
            network,
            host,
        }
    }
}

impl Table {
    pub(super) fn new(rooms: Rooms) -> Self {
        Self {
            rooms,
            last: 0,
            seats: HashMap::new(),
            halls: Default::default(),
        }
    }

    /// # Errors
    /// Only in a room where the newest is turned away.
    pub(super) fn enter(&mut self, who: Who) -> Result<Entered, TurnedAway> {
        let number = self.last + 1;
        let spot = Spot::of(who, number);
        let room = self.room(spot.hall);
        if room.full == Full::NewestIsTurnedAway && !self.halls[spot.hall].has_room(&spot, room) {
            return Err(TurnedAway);
        }
        self.last = number;
        let ends = self.sit(number, spot);
        Ok(Entered { number, ends })
    }

    /// It has shown who it is. Says who makes room for it now.
    pub(super) fn belongs_to(&mut self, number: u64, who: Who) -> Option<u64> {
        self.leave(number)?;
        self.last += 1;
        self.sit(number, Spot::of(who, self.last))
    }

    /// None: it had left already.
    pub(super) fn leave(&mut self, number: u64) -> Option<()> {
        let spot = self.seats.remove(&number)?;
        self.halls[spot.hall].remove(&spot);
        Some(())
    }

    /// Whether strangers have all the seats that there are for them.
    pub(super) fn strangers_hold_all(&self) -> bool {
        self.halls[0].all >= self.rooms.strangers.all
    }

    fn sit(&mut self, number: u64, spot: Spot) -> Option<u64> {
        let room = self.room(spot.hall);
        let hall = &mut self.halls[spot.hall];
        hall.add(number, &spot);
        let ends = hall.too_many(&spot, room);
        self.seats.insert(number, spot);
        if let Some(ends) = ends {
            self.leave(ends);
        }
        ends
    }

    fn room(&self, hall: usize) -> Room {
        [self.rooms.strangers, self.rooms.trusted, self.rooms.known][hall]
    }
}

impl Hall {
    fn add(&mut self, number: u64, spot: &Spot) {
        self.all += 1;
        let network = self.networks.entry(spot.network.clone()).or_default();
        network.all += 1;
        let host = network.hosts.entry(spot.host.clone()).or_default();
        host.insert(spot.since, number);
    }

    fn remove(&mut self, spot: &Spot) {
        self.all -= 1;
        let Some(network) = self.networks.get_mut(&spot.network) else {
            return;
        };
        network.all -= 1;
        if let Some(host) = network.hosts.get_mut(&spot.host) {
            host.remove(&spot.since);
            if host.is_empty() {
                network.hosts.remove(&spot.host);
            }
        }
        if network.all == 0 {
            self.networks.remove(&spot.network);
        }
    }

    fn has_room(&self, spot: &Spot, room: Room) -> bool {
        let network = self.networks.get(&spot.network);
        let in_network = network.map_or(0, |it| it.all);
        let of_host = network.and_then(|it| it.hosts.get(&spot.host));
        let of_host = of_host.map_or(0, Host::len);
        of_host < room.host && in_network < room.network && self.all < room.all
    }

    /// Who makes room for the one that has just come to this spot.
    fn too_many(&self, spot: &Spot, room: Room) -> Option<u64> {
        let network = self.networks.get(&spot.network)?;
        let host = network.hosts.get(&spot.host)?;
        if host.len() > room.host {
            return host.values().next().copied();
        }
        if network.all > room.network {
            return network.oldest_of_most();
        }
        let largest = || {
            let size = |it: &&Network| (it.all, Reverse(it.oldest()));
            self.networks.values().max_by_key(size)
        };
        match self.all > room.all {
            true => largest()?.oldest_of_most(),
            false => None,
        }
    }
}

impl Network {
    fn oldest(&self) -> Option<u64> {
        let oldest = |host: &Host| host.keys().next().copied();
        self.hosts.values().filter_map(oldest).min()
    }

    fn oldest_of_most(&self) -> Option<u64> {
        let size = |it: &&Host| (it.len(), Reverse(it.keys().next().copied()));
        let most = self.hosts.values().max_by_key(size)?;
        most.values().next().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    const fn room(host: usize, network: usize, all: usize, full: Full) -> Room {
        Room {
            host,
            network,
            all,
            full,
        }
    }

    const ROOMS: Rooms = Rooms {
        strangers: room(4, 8, 16, Full::OldestEnds),
        trusted: room(3, 3, 5, Full::NewestIsTurnedAway),
        known: room(2, 2, 6, Full::OldestEnds),
    };

    fn stranger(address: &str) -> Who {
        Who::Stranger(address.parse().unwrap())
    }

    fn known(name: &str) -> Who {
        Who::Known(name.into())
    }

    /// Who is still there, after these came one after the other; a number is a place in the list.
    fn left(comers: &[&str]) -> Vec<usize> {
        let mut table = Table::new(ROOMS);
        let mut there: Vec<usize> = Vec::new();
        for (place, address) in comers.iter().enumerate() {
            let entered = table.enter(stranger(address)).unwrap();
            assert_eq!(entered.number, place as u64 + 1);
            there.push(place);
            there.retain(|it| Some(*it as u64 + 1) != entered.ends);
        }
        there
    }

    #[test]
    fn the_oldest_of_the_largest_group_makes_room() {
        let host = ["192.0.2.1"; 6];
        assert_eq!(left(&host), [2, 3, 4, 5], "of a host its own oldest");
        let same = ["2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::4"];
        let sixty_four = [&same[..], &["2001:db8:0:0:5::1"]].concat();
        assert_eq!(left(&sixty_four), [1, 2, 3, 4], "a /64 is one host");
        let network = [&["192.0.2.1"; 4][..], &["192.0.2.2"; 2], &["192.0.2.3"; 3]].concat();
        assert_eq!(
            left(&network),
            [1, 2, 3, 4, 5, 6, 7, 8],
            "in a /24 the oldest of the largest host"
        );
        let lone = ["198.51.100.1"];
        let forty_eight: Vec<String> = (0..40).map(|n| format!("2001:db8:1:{n}::1")).collect();
        let forty_eight: Vec<&str> = forty_eight.iter().map(String::as_str).collect();
        let all = [&lone[..], &forty_eight].concat();
        let there = left(&all);
        assert_eq!((there[0], there.len()), (0, 9), "a /48 ends its own");
        let everywhere: Vec<String> = (0..40).map(|n| format!("10.0.{n}.1")).collect();
        let everywhere: Vec<&str> = everywhere.iter().map(String::as_str).collect();
        assert_eq!(left(&everywhere), (24..40).collect::<Vec<_>>());
    }

    #[test]
    fn whoever_is_told_to_come_back_is_turned_away() {
        let mut table = Table::new(ROOMS);
        let feeder = |n: u8| Who::Trusted([192, 0, 2, n].into());
        for _ in 0..3 {
            assert!(table.enter(feeder(1)).is_ok());
        }
        assert_eq!(table.enter(feeder(1)), Err(TurnedAway));
        assert!(table.enter(feeder(2)).is_ok() && table.enter(feeder(3)).is_ok());
        assert_eq!(table.enter(feeder(4)), Err(TurnedAway));
        table.leave(1);
        assert!(table.enter(feeder(4)).is_ok());
    }

    #[test]
    fn a_name_has_a_limit_of_its_own_and_strangers_end_nobody_who_has_one() {
        let mut table = Table::new(ROOMS);
        let agent = table.enter(stranger("192.0.2.1")).unwrap().number;
        assert_eq!(table.belongs_to(agent, known("out1")), None);
        for _ in 0..1000 {
            let entered = table.enter(stranger("192.0.2.1")).unwrap();
            assert_ne!(entered.ends, Some(agent));
        }
        for expected in [None, Some(agent)] {
            let entered = table.enter(stranger("192.0.2.9")).unwrap().number;
            assert_eq!(table.belongs_to(entered, known("out1")), expected);
        }
        assert_eq!(table.belongs_to(agent, known("out1")), None, "it has left");
    }

    #[derive(Debug, Clone)]
    enum Act {
        Comes(Who),
        Shows(usize, u8),
        Leaves(usize),
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let address = (0..3_u8, 0..3_u8, 0..2_u8, any::<bool>()).prop_map(|(a, b, c, v6)| {
            let wide = u16::from;
            match v6 {
                true => IpAddr::from([0x2001, 0xdb8, wide(a), wide(b), 0, 0, 0, wide(c)]),
                false => IpAddr::from([10, 0, a, b]),
            }
        });
        let who = (address, any::<bool>()).prop_map(|(address, trusted)| match trusted {
            true => Who::Trusted(address),
            false => Who::Stranger(address),
        });
        let act = prop_oneof![
            4 => who.prop_map(Act::Comes),
            1 => (any::<usize>(), 0..4_u8).prop_map(|(seat, name)| Act::Shows(seat, name)),
            1 => any::<usize>().prop_map(Act::Leaves),
        ];
        prop::collection::vec(act, 1..200)
    }

    fn is_sound(table: &Table, there: &BTreeSet<u64>) {
        let seated: BTreeSet<u64> = table.seats.keys().copied().collect();
        assert_eq!(&seated, there);
        let mut counted = BTreeSet::new();
        for (place, hall) in table.halls.iter().enumerate() {
            let room = table.room(place);
            assert!(hall.all <= room.all);
            let in_networks: usize = hall.networks.values().map(|it| it.all).sum();
            assert_eq!(in_networks, hall.all);
            for network in hall.networks.values() {
                assert!(network.all <= room.network && network.all > 0);
                let of_hosts: usize = network.hosts.values().map(Host::len).sum();
                assert_eq!(of_hosts, network.all);
                for host in network.hosts.values() {
                    assert!(host.len() <= room.host && !host.is_empty());
                    counted.extend(host.values().copied());
                }
            }
        }
        assert_eq!(&counted, there);
    }

    proptest! {
        #[test]
        fn no_count_is_ever_exceeded_and_only_ones_own_kind_makes_room(acts in acts()) {
            let mut table = Table::new(ROOMS);
            let mut there: BTreeSet<u64> = BTreeSet::new();
            for act in acts {
                let some = |seat: usize| there.iter().nth(seat % there.len().max(1)).copied();
                let before: HashMap<u64, usize> =
                    table.seats.iter().map(|(number, it)| (*number, it.hall)).collect();
                let (came, ends) = match act {
                    Act::Comes(who) => match table.enter(who) {
                        Ok(entered) => (Some(entered.number), entered.ends),
                        Err(TurnedAway) => (None, None),
                    },
                    Act::Shows(seat, name) => match some(seat) {
                        Some(seat) => (Some(seat), table.belongs_to(seat, known(&name.to_string()))),
                        None => (None, None),
                    },
                    Act::Leaves(seat) => {
                        if let Some(seat) = some(seat) {
                            prop_assert!(table.leave(seat).is_some());
                            there.remove(&seat);
                        }
                        (None, None)
                    }
                };
                there.extend(came);
                if let Some(ends) = ends {
                    prop_assert_ne!(Some(ends), came, "the newcomer is in");
                    prop_assert_eq!(before[&ends], table.seats[&came.unwrap()].hall);
                    there.remove(&ends);
                }
                is_sound(&table, &there);
            }
        }
    }
}

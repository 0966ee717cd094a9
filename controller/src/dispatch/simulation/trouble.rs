//! What goes wrong, and how it gets well again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dd_proto::id::SiteVersion;
use dd_proto::site::{Hold, Site};
use jiff::Timestamp;
use rand::RngExt as _;

use super::agent::{Behaviour, FakeAgent};
use super::world::{Happening, Mood, World, wall};
use crate::dispatch::actions::{Action, Asked};
use crate::dispatch::event::Event;
use crate::dispatch::release::Token;
use crate::dispatch::state::State;
use crate::dispatch::{ClockMemory, Terms, Told};
use crate::store::{NextTry, WithMail};

impl World {
    /// Twenty minutes of everything that goes wrong.
    pub(super) fn trouble(&mut self) {
        let end = 1_200_000;
        for _ in 0..300 {
            self.soon(end, Happening::Arrive);
        }
        for _ in 0..60 {
            let site = self.rng.random_range(0..5);
            self.soon(end, Happening::Change(site));
        }
        for _ in 0..20 {
            let site = self.rng.random_range(0..5);
            self.soon(end, Happening::Release(site));
            self.soon(end, Happening::Hold(site));
        }
        for _ in 0..12 {
            let agent = self.rng.random_range(0..2);
            self.soon(end, Happening::Disconnect(agent));
        }
        for _ in 0..6 {
            let agent = self.rng.random_range(0..2);
            self.soon(end, Happening::Kill(agent));
        }
        for _ in 0..6 {
            let agent = self.rng.random_range(0..2);
            let at = Duration::from_millis(self.rng.random_range(0..end));
            self.at(at, Happening::Leave(agent));
            // Often enough while it is away.
            let after = Duration::from_millis(self.rng.random_range(0..60_000));
            self.at(at + after, Happening::Restart);
        }
        for _ in 0..4 {
            self.soon(end, Happening::Restart);
        }
        for action in [Action::Retry, Action::Retry, Action::Fail, Action::Remove] {
            self.soon(end, Happening::Act(action));
        }
        if self.rng.random_bool(0.3) {
            let year = 365 * 86400;
            self.soon(end, Happening::Jump(year));
            // Back in time, and looked at by somebody.
            self.at(Duration::from_millis(end), Happening::Jump(0));
        }
        self.run_until(Duration::from_millis(end));
    }

    /// Everybody answers from now on.
    pub(super) fn recover(&mut self) {
        self.mood = Mood::Recovered;
        self.wall_off = 0;
        self.apply(Event::Time);
        self.apply(Event::ClockConfirmed);
        for n in 0..5 {
            self.sites[n].1 = Behaviour::Up;
            self.set_hold(n, None);
        }
        // What it has not noted is told again.
        for n in 0..2 {
            self.agents[n].away_until = self.now;
            self.disconnect(n);
        }
        self.run_until(self.now + Duration::from_secs(3 * 3600));
    }

    pub(super) fn restart(&mut self) {
        // What was not written is lost with the process; what was, the store knows.
        self.queue.retain(|_, happening| {
            !matches!(
                happening,
                Happening::Core(_)
                    | Happening::Settle(_)
                    | Happening::Note(_)
                    | Happening::Warn(_)
                    | Happening::Find(_)
                    | Happening::Read { .. }
                    | Happening::Walk { .. }
                    | Happening::ReadLeft(..)
                    | Happening::Look(_)
                    | Happening::Remember
                    | Happening::Up(..)
                    | Happening::Down(..)
            )
        });
        self.start += 1;
        self.started = self.now;
        self.proved.clear();
        self.canaries.clear();
        self.failing.clear();
        self.once.restarts();
        for waiting in self.stored.mail.values_mut() {
            waiting.earlier_start = true;
        }
        let terms = |agent: &FakeAgent| Terms {
            told: match self.left.contains(&agent.name) {
                true => Told::All,
                false => Told::NotAll,
            },
            ..Terms::default()
        };
        let names = self.agents.iter();
        let names = names
            .map(|agent| (agent.name.clone(), terms(agent)))
            .collect();
        let records = self
            .sites
            .iter()
            .map(|(site, _)| Arc::clone(site))
            .collect();
        let memory = ClockMemory {
            newest: Some(self.newest),
            ..self.clock_memory
        };
        self.state = State::new(self.start, memory, records, names, self.clock());
        for n in 0..2 {
            self.agents[n].attachment = None;
            self.attaches_soon(n);
        }
        let mut newest = BTreeMap::new();
        for waiting in self.stored.mail.values() {
            let newest = newest.entry(waiting.delivery.site.clone());
            let newest = newest.or_insert(waiting.arrived);
            *newest = waiting.arrived.max(*newest);
        }
        let sites = newest.into_iter().map(|(site, newest)| WithMail {
            site,
            next: NextTry::Unknown,
            newest,
        });
        let sites = sites.collect();
        self.soon(10_000, Happening::Core(Box::new(Event::AllKnown(sites))));
    }

    pub(super) fn change(&mut self, n: usize) {
        if self.mood == Mood::Trouble {
            self.sites[n].1 = match self.rng.random_range(0..10) {
                0..3 => Behaviour::Up,
                3..6 => Behaviour::Shaky,
                6 => Behaviour::Impostor,
                9 => Behaviour::NotSetUp,
                7 => Behaviour::Busy,
                8 => Behaviour::Refuses,
                _ => Behaviour::Down,
            };
        }
    }

    /// An operator does something to a few deliveries.
    pub(super) fn act(&mut self, action: Action) {
        let skip = self.rng.random_range(0..20);
        let deliveries: Vec<_> = self
            .stored
            .mail
            .keys()
            .skip(skip)
            .take(3)
            .cloned()
            .collect();
        self.number += 1;
        let token = Token(self.number);
        self.apply(Event::Act(Asked::new(token, action, deliveries)));
    }

    pub(super) fn set_hold(&mut self, n: usize, until: Option<Timestamp>) {
        self.number += 1;
        let mut site = Site::clone(&self.sites[n].0);
        site.version = SiteVersion(self.number);
        site.hold = until.map(|until| Hold {
            by: "x".into(),
            until: Some(until),
            since: wall(self.now),
        });
        let site = Arc::new(site);
        self.sites[n].0 = Arc::clone(&site);
        let name = &site.name;
        self.proved.retain(|(_, proved, _)| proved != name);
        self.apply(Event::SiteChanged { site, waiting: 0 });
    }
}

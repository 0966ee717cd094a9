//! What happens to a world, from one seed: mail comes, homes go and come back, are set up badly for a while, release
//! their mail, and the controller is killed.

use std::time::Duration;

use dd_tests::zoo::Mood;
use dd_tests::zoo::fault::{Does, Fault};
use dd_tests::zoo::habits::{Habits, Mailboxes, PLACES, Place};
use dd_tests::zoo::kinds;
use rand::RngExt as _;
use rand::rngs::StdRng;

use super::homes::Line;
use super::world::World;

/// How long there is trouble.
const TROUBLE: u64 = 7_200;
/// All has to be settled by then.
const END: Duration = Duration::from_secs(10 * 3600);
/// Between two good messages once there is no trouble any more.
const QUIET: Duration = Duration::from_secs(600);

/// What a home says while it is set up badly, or while a list of blocked addresses has us on it.
const MOODS: [Mood; 7] = [
    Mood {
        at: Place::Rcpt,
        says: "554 5.7.1 Relay access denied",
    },
    Mood {
        at: Place::Rcpt,
        says: "554 5.7.1 Service unavailable; client host blocked using zen.dnsbl.example",
    },
    Mood {
        at: Place::Rcpt,
        says: "451 4.3.0 temporary lookup failure",
    },
    Mood {
        at: Place::Greeting,
        says: "554 5.7.1 no mail from there; blocked using zen.dnsbl.example",
    },
    Mood {
        at: Place::Dot,
        says: "552 message could not be queued (#4.3.0)",
    },
    Mood {
        at: Place::Mail,
        says: "451 4.3.2 system not accepting network messages",
    },
    Mood {
        at: Place::Mail,
        says: "530 5.7.0 Authentication required",
    },
];

/// Something that happens.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Event {
    Arrives {
        home: usize,
        from: String,
        to: Vec<String>,
    },
    /// One message for both homes.
    ArrivesAtBoth([Vec<String>; 2]),
    Line(usize, Line),
    Mood(usize, Option<Mood>),
    Release(usize),
    /// Somebody asks for its mail who has not proved to be the home.
    Knock(usize),
    /// It has another address, and its record says so.
    Moves(usize),
    /// It does something odd at the next commands.
    Fault(usize, Fault),
    Restart,
    AgentRestarts,
}

/// A whole history.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) homes: Vec<(Habits, u8)>,
    /// In the order of time.
    pub(super) events: Vec<(Duration, Event)>,
}

impl Story {
    pub(super) fn new(rng: &mut StdRng) -> Self {
        let homes = (0..2).map(|_| {
            let kind = kinds::ALL[rng.random_range(0..kinds::ALL.len())];
            (kind(), rng.random_range(1..3))
        });
        let mut story = Self {
            homes: homes.collect(),
            events: Vec::new(),
        };
        for home in 0..story.homes.len() {
            story.mail_comes(home, rng);
            story.troubles(home, rng);
        }
        for _ in 0..rng.random_range(0..3) {
            let at = within(rng);
            story.events.push((at, Event::Restart));
        }
        // Sorted stably: what was said first happens first.
        story.events.sort_by_key(|(at, _)| *at);
        story
    }

    /// What homes, members and agents do besides.
    pub(super) fn widen(&mut self, rng: &mut StdRng) {
        for home in 0..self.homes.len() {
            for _ in 0..rng.random_range(0..3) {
                let at = within(rng);
                for _ in 0..rng.random_range(1..4) {
                    let later = Duration::from_millis(rng.random_range(0..20_000));
                    self.events.push((at + later, Event::Knock(home)));
                }
            }
            if rng.random_bool(0.3) {
                self.events.push((within(rng), Event::Moves(home)));
            }
            // A client that asks for its mail again and again.
            if rng.random_bool(0.2) {
                let at = within(rng);
                let asks = (0..20).map(|n| at + Duration::from_millis(700 * n));
                self.events
                    .extend(asks.map(|at| (at, Event::Release(home))));
            }
        }
        for _ in 0..rng.random_range(0..3) {
            self.events.push((within(rng), Event::AgentRestarts));
        }
        for _ in 0..rng.random_range(0..6) {
            let to = [0, 1].map(|home| match rng.random_bool(0.6) {
                true => vec![self.known(home, rng)],
                false => vec![self.known(home, rng), unknown(rng)],
            });
            self.events.push((within(rng), Event::ArrivesAtBoth(to)));
        }
        self.events.sort_by_key(|(at, _)| *at);
    }

    /// Homes hang up, fall silent, or say what fits no command, now and then.
    pub(super) fn is_odd(&mut self, rng: &mut StdRng) {
        for home in 0..self.homes.len() {
            for _ in 0..rng.random_range(1..12) {
                let at = PLACES[rng.random_range(0..PLACES.len())];
                let fault = Fault {
                    at,
                    does: odd(at, rng),
                    times: rng.random_range(1..4),
                    sender: "",
                };
                self.events.push((within(rng), Event::Fault(home, fault)));
            }
        }
        self.events.sort_by_key(|(at, _)| *at);
    }

    fn mail_comes(&mut self, home: usize, rng: &mut StdRng) {
        for _ in 0..rng.random_range(3..8) {
            let at = within(rng);
            let spread = [0, 0, 1_000, 60_000][rng.random_range(0..4)];
            for _ in 0..rng.random_range(1..10) {
                let letter = self.letter(home, rng);
                self.comes(at, spread, letter, rng);
            }
        }
        if rng.random_bool(0.3) {
            let at = within(rng);
            for _ in 0..40 {
                let letter = self.addressed(home, "example", &[unknown(rng)]);
                self.comes(at, 1_000, letter, rng);
            }
            for _ in 0..3 {
                let known = self.known(home, rng);
                let letter = self.addressed(home, "example", &[known]);
                self.comes(at, 1_500, letter, rng);
            }
        }
    }

    fn comes(&mut self, at: Duration, spread_ms: u64, letter: Event, rng: &mut StdRng) {
        let later = Duration::from_millis(rng.random_range(0..=spread_ms));
        self.events.push((at + later, letter));
    }

    fn letter(&self, home: usize, rng: &mut StdRng) -> Event {
        match rng.random_range(0..20) {
            0..11 => self.addressed(home, "example", &[self.known(home, rng)]),
            11..16 => self.addressed(home, "example", &[unknown(rng)]),
            16..18 => self.addressed(home, "nowhere.invalid", &[self.known(home, rng)]),
            _ => {
                let mut to: Vec<String> = Vec::new();
                for _ in 0..rng.random_range(2..6) {
                    let one = match rng.random_bool(0.6) {
                        true => self.known(home, rng),
                        false => unknown(rng),
                    };
                    if !to.contains(&one) {
                        to.push(one);
                    }
                }
                self.addressed(home, "example", &to)
            }
        }
    }

    /// Each message has a sender of its own, by whom it is known.
    fn addressed(&self, home: usize, domain: &str, to: &[String]) -> Event {
        Event::Arrives {
            home,
            from: domain.to_owned(),
            to: to.to_vec(),
        }
    }

    fn known(&self, home: usize, rng: &mut StdRng) -> String {
        let user = match self.homes[home].0.mailboxes {
            Mailboxes::One => 0,
            Mailboxes::Users | Mailboxes::All => rng.random_range(0..4),
        };
        format!("user{user}@home.example")
    }

    fn troubles(&mut self, home: usize, rng: &mut StdRng) {
        let mut at = 0;
        // One after the other, so that each has an end of its own. Some homes begin badly.
        if self.homes[home].0.name != "qpsmtpd" && rng.random_bool(0.6) {
            at = rng.random_range(60..1_200);
        }
        for _ in 0..rng.random_range(0..4) {
            let lasts = [20, 100, 1_500, 3_000][rng.random_range(0..4)];
            let end = at + rng.random_range(lasts / 2..lasts);
            let (from, to) = (Duration::from_secs(at), Duration::from_secs(end));
            match rng.random_range(0..10) {
                0..4 => {
                    self.events.push((from, Event::Line(home, Line::Down)));
                    self.events.push((to, Event::Line(home, Line::Up)));
                }
                4 => {
                    let line = [Line::Mute, Line::Resets][rng.random_range(0..2)];
                    self.events.push((from, Event::Line(home, line)));
                    self.events.push((to, Event::Line(home, Line::Up)));
                }
                _ => {
                    let mood = match (at, self.homes[home].0.name) {
                        (0, "qpsmtpd") => MOODS[4],
                        _ => MOODS[rng.random_range(0..MOODS.len())],
                    };
                    self.events.push((from, Event::Mood(home, Some(mood))));
                    self.events.push((to, Event::Mood(home, None)));
                }
            }
            if rng.random_bool(0.4) {
                let later = Duration::from_millis(rng.random_range(0..3_000));
                self.events.push((to + later, Event::Release(home)));
            }
            at = end + rng.random_range(200..1_500);
        }
        if rng.random_bool(0.3) {
            let at = within(rng);
            self.events.push((at, Event::Release(home)));
        }
    }

    /// Plays it, and waits until all is settled or the end has come. Returns how many letters were its own.
    pub(super) async fn play(&self, world: &mut World) -> usize {
        for (at, event) in &self.events {
            world.until(*at).await;
            happens(world, event).await;
        }
        let letters = world.letters.len();
        let mut next = Duration::from_secs(TROUBLE.max(world.now().as_secs()));
        world.until(next).await;
        while next < END && is_left(world, letters) && !world.is_called_too_often() {
            next += QUIET;
            world.until(next).await;
            for home in 0..self.homes.len() {
                let good = self.addressed(home, "example", &["user0@home.example".to_owned()]);
                happens(world, &good).await;
            }
            world.until(next + QUIET / 2).await;
        }
        letters
    }

    /// When a home takes mail: from when until when.
    pub(super) fn takes(&self, home: usize) -> Vec<(Duration, Duration)> {
        let (mut line, mut mood) = (Line::Up, None);
        let (mut windows, mut since) = (Vec::new(), Some(Duration::ZERO));
        for (at, event) in &self.events {
            match event {
                Event::Line(of, now) if *of == home => line = *now,
                Event::Mood(of, now) if *of == home => mood = *now,
                _ => continue,
            }
            match (since, line == Line::Up && mood.is_none()) {
                (None, true) => since = Some(*at),
                (Some(from), false) => {
                    windows.push((from, *at));
                    since = None;
                }
                _ => {}
            }
        }
        windows.extend(since.map(|from| (from, Duration::MAX)));
        windows
    }
}

/// Whether some of the first letters wait.
fn is_left(world: &World, letters: usize) -> bool {
    let left = world.queue.left();
    let mut letters = world.letters[..letters].iter();
    letters.any(|letter| left.iter().any(|it| it.delivery == letter.delivery))
}

async fn happens(world: &mut World, event: &Event) {
    match event {
        Event::Arrives { home, from, to } => {
            let from = format!("s{}@{from}", world.letters.len());
            world.submit(*home, &from, to).await;
        }
        Event::ArrivesAtBoth([one, other]) => {
            let from = format!("s{}@example", world.letters.len());
            let homes = [(0, one.clone()), (1, other.clone())];
            world.submit_to(&from, &homes).await;
        }
        Event::Line(home, line) => world.homes[*home].set_line(*line),
        Event::Mood(home, mood) => world.homes[*home].home().mood = *mood,
        Event::Release(home) => {
            world.release(*home).await;
        }
        Event::Knock(home) => world.knock(*home).await,
        Event::Fault(home, fault) => world.homes[*home].home().faults.push(fault.clone()),
        Event::Moves(home) => world.moves(*home).await,
        Event::Restart => world.restart().await,
        Event::AgentRestarts => world.restart_agent().await,
    }
}

/// Nothing that would be final for the message.
fn odd(at: Place, rng: &mut StdRng) -> Does {
    let says = |reply: &str| Does::Says(reply.to_owned());
    match rng.random_range(0..16) {
        0..4 => Does::Closes,
        4..7 => Does::Resets,
        7..10 => Does::TakesAndCloses,
        10 => Does::IsMute,
        11..13 => says("421 4.3.2 closing for a moment"),
        13 => says("451 4.3.0 not now"),
        14 if at == Place::Mail => says("503 5.5.1 out of place"),
        14 => says("452 4.5.3 too many"),
        // It would be taken for what nobody has said, for a sender or a recipient that is not wanted.
        _ if matches!(at, Place::Mail | Place::Rcpt) => says("450 4.3.0 not now"),
        _ => says("252 so it may be"),
    }
}

fn within(rng: &mut StdRng) -> Duration {
    Duration::from_millis(rng.random_range(0..TROUBLE * 1_000))
}

fn unknown(rng: &mut StdRng) -> String {
    format!("ghost{}@home.example", rng.random_range(0..30))
}

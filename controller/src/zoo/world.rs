//! The real dispatch and the real agent, homes of the zoo, and a queue in memory, under one clock that only they move.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dd_proto::envelope::{Body, Encoding, Envelope, Recipient};
use dd_proto::id::{DeliveryId, MessageId, RecipientNumber};
use dd_proto::site::{Host, HostName, Site};
use dd_tests::zoo::habits::Habits;
use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::agent::Outbound;
use super::homes::Standing;
use super::queue::Queue;
use crate::dispatch::simulation::site;
use crate::dispatch::{
    self, Chance, Clock, ClockMemory, Handle, Mail, Now, Released, Settings, Terms,
};
use crate::intake::accept::{Content, Submission};

pub(super) const INTERVAL: Duration = Duration::from_secs(60);
const MOST_CONNECTIONS: u32 = 3_000;
const AGENT: &str = "out1";

/// A message that was taken in.
#[derive(Debug, Clone)]
pub(super) struct Letter {
    pub(super) delivery: DeliveryId,
    pub(super) home: usize,
    pub(super) from: String,
    /// Of the home.
    pub(super) to: Vec<String>,
    /// The number of the first of them in the message.
    pub(super) first: usize,
    pub(super) at: Duration,
}

pub(super) struct World {
    pub(super) rng: StdRng,
    pub(super) began: Instant,
    pub(super) queue: Queue,
    pub(super) homes: Vec<Standing>,
    pub(super) letters: Vec<Letter>,
    /// When controllers began.
    pub(super) starts: Vec<Duration>,
    pub(super) agent_starts: Vec<Duration>,
    /// When a home was at another address, and which.
    pub(super) moves: Vec<(usize, Duration)>,
    messages: u64,
    pub(super) outbound: Outbound,
    sites: Vec<Arc<Site>>,
    controller: watch::Sender<Option<Handle>>,
    running: JoinHandle<()>,
}

/// The clocks of one controller.
#[derive(Debug)]
struct Clocks {
    world: Instant,
    began: Instant,
}

impl Clock for Clocks {
    fn now(&self) -> Now {
        Now {
            monotonic: self.began.elapsed(),
            wall: wall(self.world.elapsed()),
        }
    }
}

fn wall(at: Duration) -> Timestamp {
    let start = SignedDuration::from_hours(24 * 365 * 50);
    Timestamp::UNIX_EPOCH + start + SignedDuration::try_from(at).unwrap()
}

/// Runs a history under a clock of its own.
pub(super) fn simulated<T>(history: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(history)
}

impl World {
    pub(super) async fn new(seed: u64, homes: &[(Habits, u8)]) -> Self {
        let began = Instant::now();
        let (mut standing, mut sites) = (Vec::new(), Vec::new());
        for (n, (habits, connections)) in (0..).zip(homes) {
            let home = Standing::new(*habits, began).await;
            sites.push(Arc::new(record(n, &home, *connections)));
            standing.push(home);
        }
        let controller = watch::Sender::new(None);
        let outbound = Outbound::new(AGENT, controller.subscribe());
        let mut world = Self {
            rng: StdRng::seed_from_u64(seed),
            began,
            queue: Queue::new(began),
            homes: standing,
            letters: Vec::new(),
            starts: Vec::new(),
            agent_starts: Vec::new(),
            moves: Vec::new(),
            messages: 0,
            outbound,
            sites,
            controller,
            running: tokio::spawn(async {}),
        };
        world.start();
        world
    }

    fn start(&mut self) {
        self.queue.starts();
        self.starts.push(self.now());
        let clock = Clocks {
            world: self.began,
            began: Instant::now(),
        };
        let settings = Settings {
            start_number: self.starts.len() as u64,
            clock: ClockMemory::default(),
            notifier: crate::dsn::samples::notifier(),
        };
        let rng = StdRng::seed_from_u64(self.rng.random());
        let chance = Chance { clock, rng };
        let agents = vec![(AGENT.parse().unwrap(), Terms::default())];
        let (queue, sites) = (self.queue.clone(), self.sites.clone());
        let (handle, run) = dispatch::start_with(settings, chance, queue, sites, agents);
        self.running = tokio::spawn(run);
        self.controller.send_replace(Some(handle));
    }

    /// The controller is killed, and starts again.
    pub(super) async fn restart(&mut self) {
        self.controller.send_replace(None);
        self.running.abort();
        let _ = (&mut self.running).await;
        self.start();
    }

    pub(super) async fn restart_agent(&mut self) {
        self.agent_starts.push(self.now());
        self.outbound.restart().await;
    }

    /// A home moves, and its record says so.
    pub(super) async fn moves(&mut self, home: usize) {
        self.moves.push((home, self.now()));
        self.homes[home].moves().await;
        let mut record = Site::clone(&self.sites[home]);
        record.version.0 += 1;
        record.hosts = vec![host(&self.homes[home])];
        let record = Arc::new(record);
        self.sites[home] = Arc::clone(&record);
        self.handle().site_changed(record).await;
    }

    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    pub(super) async fn until(&self, at: Duration) {
        tokio::time::sleep_until(self.began + at).await;
        assert!(
            !self.running.is_finished(),
            "the controller has ended by itself"
        );
    }

    fn handle(&self) -> Handle {
        self.controller.borrow().clone().unwrap()
    }

    /// A message for one home arrives.
    pub(super) async fn submit(&mut self, home: usize, from: &str, to: &[String]) {
        self.submit_to(from, &[(home, to.to_vec())]).await;
    }

    /// A message for several.
    pub(super) async fn submit_to(&mut self, from: &str, homes: &[(usize, Vec<String>)]) {
        self.messages += 1;
        let recipient = |(number, path): (u16, &String)| Recipient {
            number: RecipientNumber(number),
            path: path.parse().unwrap(),
            notify: None,
            orcpt: None,
        };
        let to = homes.iter().flat_map(|(_, to)| to);
        let envelope = Envelope {
            reverse_path: from.parse().unwrap(),
            body: Body::SevenBit,
            encoding: Encoding::Ascii,
            ret: None,
            envid: None,
            recipients: (0..).zip(to).map(recipient).collect(),
            client: None,
        };
        let (id, mut deliveries, mut first) = (MessageId::new(self.messages, [0; 10]), vec![], 0);
        for (home, to) in homes {
            let name = self.sites[*home].name.clone();
            let of_home = &envelope.recipients[first..first + to.len()];
            let numbers = of_home.iter().map(|it| it.number).collect();
            deliveries.push((name.clone(), numbers));
            self.letters.push(Letter {
                delivery: DeliveryId {
                    message: id,
                    site: name,
                },
                home: *home,
                from: from.to_owned(),
                to: to.clone(),
                first,
                at: self.now(),
            });
            first += to.len();
        }
        let submission = Submission {
            id,
            envelope,
            message_id: "".into(),
            deliveries,
            content: Content::Inline(Bytes::from_static(b"Subject: zoo\r\n\r\nhello\r\n")),
            arrived: wall(self.now()),
        };
        let mail = Mail::of(&submission);
        let waiting = self.queue.take(submission);
        self.handle().arrived(mail.arrived(waiting)).await;
    }

    /// Somebody asks who has not proved to be the home.
    pub(super) async fn knock(&self, home: usize) {
        self.handle().knock(self.sites[home].name.clone()).await;
    }

    /// A release that has proved itself.
    pub(super) async fn release(&self, home: usize) -> Option<Released> {
        self.handle()
            .release(self.sites[home].name.clone(), None)
            .await
    }

    /// No history needs as many connections.
    pub(super) fn is_called_too_often(&self) -> bool {
        let mut homes = self.homes.iter();
        homes.any(|it| it.home().connections > MOST_CONNECTIONS)
    }

    /// The state of a site, in a word or two.
    pub(super) async fn state_of(&self, home: usize) -> String {
        let name = self.sites[home].name.clone();
        let view = self.handle().site_view(name).await.unwrap();
        match view.why {
            Some(why) => format!("{} {why}", view.state),
            None => view.state.to_owned(),
        }
    }
}

fn host(home: &Standing) -> Host {
    Host {
        name: HostName::Address(home.address.ip()),
        port: NonZeroU16::new(home.address.port()).unwrap(),
    }
}

fn record(n: u64, home: &Standing, connections: u8) -> Site {
    let mut record = site(n + 1);
    record.hosts = vec![host(home)];
    record.allow_targets = vec!["127.0.0.0/8".parse().unwrap()];
    record.limits.connections = connections;
    record.schedule.retry_interval = INTERVAL;
    record.schedule.lifetime = Duration::from_secs(5 * 86_400);
    record
}

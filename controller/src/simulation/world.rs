//! What happens around the controller: mail comes, agents and sites come and go, the power fails.
//!
//! One turn after the other; in between the loop does all it can do. The dice say what happens in a turn.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dd_proto::envelope::{Body, Encoding, Envelope, Recipient};
use dd_proto::id::{MessageId, RecipientNumber, SiteVersion};
use dd_proto::name::SiteName;
use dd_proto::path::ReversePath;
use dd_proto::site::{Hold, HostName, Site};
use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::Instant;

use super::Sectors;
use super::agents::Agent;
use super::controller::{Controller, Machine, Wall};
use super::ledger::Ledger;
use super::senders::Smarthost;
use crate::dispatch::simulation::agent::{Behaviour, FakeAgent};
use crate::dispatch::simulation::site;
use crate::dispatch::{Drain, Mail, Terms};
use crate::dsn;
use crate::intake::accept::{Content, Submission};
use crate::store::local::disk::memory::{Fault, MemoryDisk};
use crate::store::local::index::in_memory::InMemory;
use crate::store::local::lies_in::messages_in;
use crate::store::local::spares::Making;
use crate::store::local::wall::WallClock as _;
use crate::store::local::{Blocking, On};
use crate::store::{LoadedOf, MinFree, RebuildIndex, Settings, StoreError, Waiting};

const SITES: u64 = 3;
/// What cannot be read at once.
const BLOCK: u64 = 4 << 10;
const AGENTS: [&str; 2] = ["out1", "out2"];
/// Messages in one history.
const MESSAGES: u64 = 60;
/// Files take no more than that together while the disk is full.
const SOME_ROOM: u64 = 12 << 10;
/// Turns of one life, at most.
const TURNS: u32 = 250;
/// Turns in which all has to recover.
const RECOVERY: u32 = 20_000;

/// How a life ended.
#[derive(Debug, Clone, Copy)]
enum End {
    Killed,
    PowerCut,
    Stopped,
}

/// Whether the newest segment is being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Still,
    Through,
}

/// Whether bad things happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Trouble,
    Recovered,
}

pub(super) struct World {
    pub(super) rng: StdRng,
    pub(super) began: Instant,
    wall: Wall,
    disk: MemoryDisk,
    shelves: InMemory,
    /// Those of members, then the smarthost where there is one.
    pub(super) sites: Vec<(Arc<Site>, Behaviour)>,
    smarthost: Smarthost,
    sectors: Sectors,
    pub(super) agents: Vec<Agent>,
    pub(super) ledger: Ledger,
    submitted: u64,
    version: u64,
    mood: Mood,
}

impl World {
    pub(super) fn new(disk: MemoryDisk, seed: u64, smarthost: Smarthost, sectors: Sectors) -> Self {
        let agent = |name: &&str| Agent {
            fake: FakeAgent::new(name),
            stream: None,
            terms: Terms::default(),
        };
        let mut sites: Vec<_> = (0..SITES)
            .map(|n| (Arc::new(site(n)), Behaviour::Up))
            .collect();
        if smarthost == Smarthost::There {
            sites.push((Arc::new(built_in()), Behaviour::Up));
        }
        let ledger = Ledger::default();
        ledger.entries().senders.smarthost = smarthost;
        Self {
            rng: StdRng::seed_from_u64(seed),
            began: Instant::now(),
            wall: Wall::new(),
            disk,
            shelves: InMemory::default(),
            sites,
            smarthost,
            sectors,
            agents: AGENTS.iter().map(agent).collect(),
            ledger,
            submitted: 0,
            version: SITES,
            mood: Mood::Trouble,
        }
    }

    /// Some lives in trouble, and one in which all recovers.
    pub(super) async fn run(mut self) -> Vec<String> {
        for _ in 0..self.rng.random_range(2..6) {
            self.live_and_die().await;
        }
        self.recover().await;
        let mut entries = self.ledger.entries();
        entries.all_is_well();
        std::mem::take(&mut entries.trace)
    }

    async fn start(&mut self) -> Option<Controller> {
        let machine = Machine {
            on: On {
                disk: Arc::new(self.disk.clone()),
                making: Making::WhenTaken,
                shelves: Arc::new(self.shelves.clone()),
                ballast_bytes: 0,
                wall: Arc::new(self.wall.clone()),
                blocking: Blocking::Caller,
            },
            settings: Settings {
                dir: PathBuf::from("/state"),
                segment_bytes: match self.sectors {
                    Sectors::Good => 4 << 10,
                    // Of several blocks, for a block is what cannot be read.
                    Sectors::Bad => 16 << 10,
                },
                min_free: MinFree::Bytes(0),
                rebuild_index: match self.rng.random_bool(0.1) {
                    true => RebuildIndex::Yes,
                    false => RebuildIndex::No,
                },
            },
            wall: self.wall.clone(),
            sites: self
                .sites
                .iter()
                .map(|(site, _)| Arc::clone(site))
                .collect(),
            agents: self
                .agents
                .iter()
                .map(|it| (it.fake.name.clone(), it.terms))
                .collect(),
        };
        let rng = StdRng::seed_from_u64(self.rng.random());
        Controller::start(machine, &self.ledger, rng).await
    }

    async fn live_and_die(&mut self) {
        let end = match self.rng.random_range(0..4) {
            0 => End::Killed,
            1 => End::Stopped,
            _ => End::PowerCut,
        };
        if matches!(end, End::PowerCut) {
            let at = self.disk.operations() + self.rng.random_range(1..600);
            self.disk.at(at, Fault::Cut);
        }
        if let Some(mut controller) = self.start().await {
            for _ in 0..self.rng.random_range(10..TURNS) {
                if controller.has_failed() {
                    break;
                }
                self.turn(&mut controller).await;
            }
            match end {
                End::Stopped if !controller.has_failed() => controller.stop().await,
                _ => controller.crash().await,
            }
        }
        self.after(end);
    }

    fn after(&mut self, end: End) {
        let mut entries = self.ledger.entries();
        entries.note(format!("end {end:?}"));
        entries.life_ended();
        drop(entries);
        self.disk = match end {
            End::PowerCut => self.disk.power_cut(&mut self.rng),
            End::Killed | End::Stopped => self.disk.killed(),
        };
        for agent in &mut self.agents {
            agent.stream = None;
        }
        if self.sectors == Sectors::Bad {
            for _ in 0..self.rng.random_range(0..3) {
                self.sector_is_lost(Written::Through);
            }
        }
        if self.smarthost == Smarthost::There && self.rng.random_bool(0.3) {
            match self.rng.random() {
                true => self.shelves.lose(),
                false => self.shelves.forget_last(),
            }
        }
    }

    /// A block of the log cannot be read any more. Nothing is written there again: what is being written lies elsewhere.
    fn sector_is_lost(&mut self, written: Written) {
        let mut segments = self.disk.files();
        segments.retain(|path| {
            path.starts_with("/state/queue") && path.extension().is_some_and(|it| it == "seg")
        });
        if written == Written::Still {
            segments.pop();
        }
        if segments.is_empty() {
            return;
        }
        let path = segments.swap_remove(self.rng.random_range(0..segments.len()));
        let len = self.disk.len_of(&path);
        let at = self.rng.random_range(0..len.max(1)) / BLOCK * BLOCK;
        let block = at..at + BLOCK;
        let lost = messages_in(&self.disk, &path, &block);
        let mut entries = self.ledger.entries();
        for message in &lost {
            entries.note(format!("unread {message} in {} {block:?}", path.display()));
        }
        entries.unread.extend(lost);
        drop(entries);
        self.disk.unreadable(&path, block);
    }

    async fn recover(&mut self) {
        self.mood = Mood::Recovered;
        self.wall.set(0);
        self.disk.set_capacity(u64::MAX);
        for agent in &mut self.agents {
            agent.terms = Terms::default();
        }
        let mut controller = self.start().await.expect("the disk is whole");
        let _ = controller.handle.clock_confirmed().await;
        for n in 0..self.sites.len() {
            self.sites[n].1 = Behaviour::Up;
            self.hold(n, None, &controller).await;
        }
        let mut turns = 0;
        while !self.is_drained(&controller).await {
            turns += 1;
            if turns >= RECOVERY {
                panic!("mail still waits:\n{}", self.left(&controller).await);
            }
            self.turn(&mut controller).await;
        }
        controller.stop().await;
    }

    async fn is_drained(&self, controller: &Controller) -> bool {
        let known = *controller.store.all_known().borrow();
        let all_in = self.submitted >= MESSAGES && self.ledger.entries().coming == 0;
        known && all_in && (self.waiting(controller) == 0 || self.is_all_unread(controller).await)
    }

    /// What still waits, each with its life.
    async fn left(&self, controller: &Controller) -> String {
        let (left, _) = controller.store.list(None, None, 1000).await.unwrap();
        let entries = self.ledger.entries();
        let lives = left
            .iter()
            .map(|it| format!("{it:?}:\n{}", entries.life_of(&it.delivery)));
        let lives = lives.collect::<Vec<_>>().join("\n\n");
        let (known, coming) = (*controller.store.all_known().borrow(), entries.coming);
        let (of_members, submitted) = (self.waiting(controller), self.submitted);
        format!(
            "all known: {known}, coming: {coming}, submitted: {submitted}, of members: {of_members}\n{lives}"
        )
    }

    /// What is left is held, for it is damaged.
    async fn is_all_unread(&self, controller: &Controller) -> bool {
        let (left, _) = controller.store.list(None, None, 1000).await.unwrap();
        let is_member = |it: &Waiting| self.sites.iter().any(|of| of.0.name == it.delivery.site);
        let others: Vec<_> = left
            .into_iter()
            .filter(is_member)
            .map(|it| it.delivery)
            .filter(|it| !self.ledger.entries().is_unread(it))
            .collect();
        // Where a hole hides whether a commit was whole, its records count as taken, torn ones too: held as damaged, they
        // wait for the operator, though nobody was promised anything.
        let is_promised = |it| self.ledger.entries().is_promised(it);
        !others.iter().any(is_promised) && {
            let loaded = controller.store.load_all(others).await.unwrap();
            let is_damaged = |it: &LoadedOf| matches!(it.1, Err(StoreError::Damaged(_)));
            loaded.iter().all(is_damaged)
        }
    }

    /// Notifications are not among them where there is no smarthost.
    fn waiting(&self, controller: &Controller) -> u64 {
        let sites = self.sites.iter();
        let counts = sites.map(|(site, _)| controller.store.count(&site.name).messages);
        counts.sum()
    }

    /// Since the world began; the clock of agents.
    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    async fn turn(&mut self, controller: &mut Controller) {
        let pause = match self.rng.random_range(0..20) {
            0 => Duration::from_millis(self.rng.random_range(500..9_000)),
            _ => Duration::from_millis(self.rng.random_range(1..60)),
        };
        tokio::time::sleep(pause).await;
        self.ledger.entries().numbers_are_given_once();
        for n in 0..self.agents.len() {
            self.agent_turn(n, controller).await;
        }
        if self.rng.random_bool(0.8) {
            for n in 0..self.agents.len() {
                self.sent_to(n);
            }
            controller.commit();
        }
        if self.rng.random_bool(0.1) {
            controller.index();
        }
        self.happening(controller).await;
        if self.sectors == Sectors::Bad && self.mood == Mood::Trouble && self.rng.random_bool(0.005)
        {
            self.sector_is_lost(Written::Still);
        }
        if self.smarthost == Smarthost::There && self.mood == Mood::Trouble {
            self.more_trouble(controller).await;
        }
    }

    /// An operator drains an agent or lets it work again; the disk is full for a while.
    async fn more_trouble(&mut self, controller: &Controller) {
        match self.rng.random_range(0..100) {
            0..2 => {
                let n = self.rng.random_range(0..self.agents.len());
                let drain = [Drain::Works, Drain::Drains][self.rng.random_range(0..2)];
                let agent = &mut self.agents[n];
                agent.terms.drain = drain;
                let (name, terms) = (agent.fake.name.clone(), agent.terms);
                self.ledger.entries().note(format!("{name} {drain:?}"));
                controller.handle.agent_registered(name, terms).await;
            }
            2..4 => {
                let room = self.rng.random_range(0..SOME_ROOM);
                self.disk.set_capacity(self.disk.used() + room);
            }
            4..12 => self.disk.set_capacity(u64::MAX),
            _ => {}
        }
    }

    async fn happening(&mut self, controller: &Controller) {
        let n = self.rng.random_range(0..self.sites.len());
        match self.rng.random_range(0..100) {
            0..25 => self.submit(controller),
            25..28 => release(controller, &self.sites[n].0.name),
            _ if self.mood == Mood::Recovered => {}
            28..34 => self.sites[n].1 = self.behaviour(),
            34..36 => {
                let until =
                    self.wall.wall() + SignedDuration::from_secs(self.rng.random_range(1..120));
                self.hold(n, Some(until), controller).await;
            }
            36..38 => self.hold(n, None, controller).await,
            38..40 => self.operate(controller),
            40..41 => {
                const YEAR: i64 = 365 * 86_400;
                let by = [-YEAR, 0, 0, YEAR][self.rng.random_range(0..4)];
                self.ledger.entries().note(format!("wall clock {by}"));
                self.wall.set(by);
            }
            41..43 => self.kill_agent(controller),
            43..45 => {
                let n = self.rng.random_range(0..self.agents.len());
                self.detach(n, controller);
            }
            _ => {}
        }
    }

    fn behaviour(&mut self) -> Behaviour {
        match self.rng.random_range(0..10) {
            0..3 => Behaviour::Up,
            3..7 => Behaviour::Shaky,
            7 => Behaviour::Impostor,
            8 => Behaviour::Busy,
            _ => Behaviour::Down,
        }
    }

    /// What the feeder does: it waits for the 250, and hands on what became ours.
    fn submit(&mut self, controller: &Controller) {
        if self.submitted >= MESSAGES {
            return;
        }
        self.submitted += 1;
        let submission = self.submission();
        let mail = Mail::of(&submission);
        let mut entries = self.ledger.entries();
        entries
            .senders
            .sent(submission.id, submission.envelope.clone());
        drop(entries);
        let (store, handle) = (controller.store.clone(), controller.handle.clone());
        let ledger = self.ledger.clone();
        ledger.entries().coming += 1;
        tokio::spawn(async move {
            let accepted = store.accept(submission).await;
            ledger.entries().coming -= 1;
            let Ok(accepted) = accepted else {
                return;
            };
            for waiting in &accepted {
                let mut entries = ledger.entries();
                let number = waiting.position.number();
                entries.numbered(number, waiting.delivery.message);
                for number in &waiting.open {
                    entries.acknowledged((waiting.delivery.clone(), *number));
                }
            }
            handle.arrived(mail.arrived(accepted)).await;
        });
    }

    fn submission<S>(&mut self) -> Submission<S> {
        let mut recipients: Vec<_> = (0..self.rng.random_range(1..4)).map(recipient).collect();
        let mut deliveries: BTreeMap<SiteName, Vec<RecipientNumber>> = BTreeMap::new();
        for recipient in &recipients {
            let n = self.rng.random_range(0..usize::try_from(SITES).unwrap());
            let name = self.sites[n].0.name.clone();
            deliveries.entry(name).or_default().push(recipient.number);
        }
        let content = vec![b'x'; self.rng.random_range(1..600)];
        let mut reverse_path = "a@elsewhere.example".parse().unwrap();
        if self.smarthost == Smarthost::There {
            reverse_path = self.sender();
            for recipient in &mut recipients {
                let notify = [
                    None,
                    None,
                    None,
                    Some("NEVER"),
                    Some("FAILURE"),
                    Some("SUCCESS,DELAY"),
                ];
                let notify = notify[self.rng.random_range(0..notify.len())];
                recipient.notify = notify.map(str::to_owned);
            }
        }
        Submission {
            id: MessageId::new(self.submitted, [0; 10]),
            message_id: "".into(),
            envelope: Envelope {
                reverse_path,
                body: Body::SevenBit,
                encoding: Encoding::Ascii,
                ret: None,
                envid: None,
                recipients,
                client: None,
            },
            deliveries: deliveries.into_iter().collect(),
            content: Content::Inline(Bytes::from(content)),
            arrived: self.wall.wall(),
        }
    }

    /// Now and then nobody; and few, so that they meet their cap.
    fn sender(&mut self) -> ReversePath {
        let sender = [
            "",
            "a@elsewhere.example",
            "b@elsewhere.example",
            "c@elsewhere.example",
        ];
        sender[self.rng.random_range(0..sender.len())]
            .parse()
            .unwrap()
    }

    async fn hold(&mut self, n: usize, until: Option<Timestamp>, controller: &Controller) {
        self.version += 1;
        let mut site = Site::clone(&self.sites[n].0);
        site.version = SiteVersion(self.version);
        site.hold = until.map(|until| Hold {
            by: "x".into(),
            until: Some(until),
            since: self.wall.wall(),
        });
        let site = Arc::new(site);
        self.sites[n].0 = Arc::clone(&site);
        controller.handle.site_changed(site).await;
    }

    /// An operator retries, fails or removes a delivery.
    fn operate(&mut self, controller: &Controller) {
        let entries = self.ledger.entries();
        let n = self.rng.random_range(0..entries.acknowledged.len().max(1));
        let Some((delivery, _)) = entries.acknowledged.iter().nth(n).cloned() else {
            return;
        };
        drop(entries);
        let (handle, ledger) = (controller.handle.clone(), self.ledger.clone());
        let what = self.rng.random_range(0..3);
        tokio::spawn(async move {
            if what > 0 {
                ledger.entries().given_up.insert(delivery.clone());
            }
            let done = match what {
                0 => handle.retry(vec![delivery.clone()]).await,
                1 => handle.fail(vec![delivery.clone()]).await,
                _ => handle.remove(vec![delivery.clone()]).await,
            };
            ledger
                .entries()
                .note(format!("operator {what} {delivery}: {done:?}"));
        });
    }
}

fn release(controller: &Controller, site: &SiteName) {
    let (handle, site) = (controller.handle.clone(), site.clone());
    tokio::spawn(async move { handle.release(site, None).await });
}

/// The site through which reports leave.
fn built_in() -> Site {
    let smarthost = crate::config::Smarthost {
        host: HostName::Address([127, 0, 0, 1].into()),
        port: NonZeroU16::new(25).unwrap(),
    };
    let now = Timestamp::UNIX_EPOCH;
    dsn::smarthost::site(Some(&smarthost), SiteVersion(SITES), now)
}

fn recipient(number: u16) -> Recipient {
    Recipient {
        number: RecipientNumber(number),
        path: format!("r{number}@example.org").parse().unwrap(),
        notify: None,
        orcpt: None,
    }
}

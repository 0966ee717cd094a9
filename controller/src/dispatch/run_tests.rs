//! The loop over the real store, with an agent made of the test's own hands.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dd_proto::envelope::{Body, Encoding, Envelope, Recipient};
use dd_proto::id::{Lease, MessageId, RecipientNumber, SessionId, SiteVersion};
use dd_proto::report::{
    Delays, Disposition, Observed, Outcome, RecipientResult, Reply, Report, SaidBy, Stage, Told,
};
use dd_proto::site::HostName;
use jiff::Timestamp;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::simulation::site;
use super::{
    AgentEvent, Arrived, Assignment, Attachment, Chance, Clock, ClockMemory, Handle, Hello,
    Machine, Mail, Now, Order, Released, Settings,
};
use crate::config::Smarthost;
use crate::dsn::smarthost;
use crate::intake::accept::{Content, Submission};
use crate::store::{self, MinFree, RebuildIndex, Spooled, Store};
use crate::zoo::queue::Queue;

struct World {
    store: Store,
    handle: Handle,
    _dir: tempfile::TempDir,
}

async fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let settings = store::Settings {
        dir: dir.path().to_owned(),
        segment_bytes: 1 << 20,
        min_free: MinFree::Bytes(0),
        rebuild_index: RebuildIndex::No,
    };
    let (store, _) = Store::open(&settings).unwrap();
    let mut all_known = store.all_known();
    all_known.wait_for(|known| *known).await.unwrap();
    let settings = Settings {
        start_number: store.start_number(),
        clock: ClockMemory::default(),
        notifier: crate::dsn::samples::notifier(),
    };
    let agents = vec![("out1".parse().unwrap(), super::Terms::default())];
    let smarthost = Smarthost {
        host: HostName::Address([127, 0, 0, 1].into()),
        port: NonZeroU16::MIN,
    };
    let smarthost = smarthost::site(Some(&smarthost), SiteVersion(1), Timestamp::UNIX_EPOCH);
    let sites = vec![Arc::new(site(0)), Arc::new(smarthost)];
    let (handle, run) = super::start(settings, store.clone(), sites, agents);
    tokio::spawn(run);
    World {
        store,
        handle,
        _dir: dir,
    }
}

impl World {
    async fn accept(&self, n: u64) -> Arrived {
        self.accept_from("", n).await
    }

    async fn accept_from(&self, sender: &str, n: u64) -> Arrived {
        let content = Bytes::from_static(b"Message-ID: <x@y>\r\n\r\nhello\r\n");
        self.accept_content(sender, n, content).await
    }

    async fn accept_content(&self, sender: &str, n: u64, content: Bytes) -> Arrived {
        let submission = submission(sender, n, content);
        let mail = Mail::of(&submission);
        let waiting = self.store.accept(submission).await.unwrap();
        mail.arrived(waiting).remove(0)
    }

    /// The site takes a message: from now on its 5yz are believed.
    async fn takes_one(&self, agent: &mut Attachment) {
        let mail = self.accept(77).await;
        self.handle.arrived(vec![mail]).await;
        let lease = assignment(agent).await.lease;
        self.handle.agent_event(agent.id, relayed(lease)).await;
    }

    async fn attach(&self) -> Attachment {
        self.handle.attach(hello()).await
    }
}

pub(super) fn submission(sender: &str, n: u64, content: Bytes) -> Submission<Spooled> {
    let recipient = Recipient {
        number: RecipientNumber(0),
        path: "a@example.org".parse().unwrap(),
        notify: None,
        orcpt: None,
    };
    let envelope = Envelope {
        reverse_path: sender.parse().unwrap(),
        body: Body::SevenBit,
        encoding: Encoding::Ascii,
        ret: None,
        envid: None,
        recipients: vec![recipient],
        client: None,
    };
    Submission {
        id: MessageId::new(n, [0; 10]),
        envelope,
        message_id: "<x@y>".into(),
        deliveries: vec![(site(0).name, vec![RecipientNumber(0)])],
        content: Content::Inline(content),
        arrived: Timestamp::UNIX_EPOCH,
    }
}

fn hello() -> Hello {
    Hello {
        agent: "out1".parse().unwrap(),
        version: String::new(),
        slots: 4,
        probes: 4,
        boot_id: "boot".to_owned(),
        machine: Machine::AsBefore,
        trouble: String::new(),
        features: Default::default(),
        work_in_hand: Vec::new(),
        in_doubt: Vec::new(),
        reports: Vec::new(),
    }
}

async fn assignment(orders: &mut Attachment) -> Assignment {
    loop {
        match next(orders).await {
            Order::Assign(assignment) => return *assignment,
            Order::Welcome { .. }
            | Order::Plan(_)
            | Order::Acknowledged(_)
            | Order::BeatAnswer { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn next(orders: &mut Attachment) -> Order {
    let next = tokio::time::timeout(Duration::from_secs(10), orders.orders.recv());
    next.await
        .expect("an order comes")
        .expect("the stream lives")
}

fn relayed(lease: Lease) -> AgentEvent {
    answered(lease, 250, Disposition::Relayed)
}

fn answered(lease: Lease, code: u16, disposition: Disposition) -> AgentEvent {
    let reply = Reply {
        code,
        enhanced: String::new(),
        text: "so it is".to_owned(),
    };
    AgentEvent::Report(Box::new(Report {
        lease,
        session: SessionId(1),
        outcome: Outcome::Transacted,
        detail: String::new(),
        observed: Observed::default(),
        recipients: vec![RecipientResult {
            number: RecipientNumber(0),
            disposition,
            reply,
            told: Told::NotPassedOn,
            by: SaidBy::TheSite,
        }],
        dot_sent: true,
        reply: None,
        delays: Delays::default(),
        at: Timestamp::UNIX_EPOCH,
        stage: Stage::EndOfData,
    }))
}

#[tokio::test]
async fn mail_goes_out_from_memory_and_is_settled_before_it_is_acknowledged() {
    let world = world().await;
    let mut agent = world.attach().await;
    assert!(matches!(next(&mut agent).await, Order::Welcome { .. }));
    let mail = world.accept(1).await;
    world.handle.arrived(vec![mail]).await;
    let assigned = assignment(&mut agent).await;
    assert!(assigned.content.is_some());
    let lease = assigned.lease.clone();
    assert!(
        world
            .handle
            .lease_held(lease.delivery.clone())
            .await
            .is_some()
    );
    world
        .handle
        .agent_event(agent.id, relayed(lease.clone()))
        .await;
    let Order::Acknowledged(acknowledged) = next(&mut agent).await else {
        panic!("not acknowledged");
    };
    assert_eq!(acknowledged, lease);
    assert_eq!(
        world.store.find(lease.delivery.message).await.unwrap(),
        Vec::new()
    );
    let released = world.handle.release(site(0).name, None).await;
    assert_eq!(released, Some(Released::NothingWaiting));
}

#[tokio::test]
async fn mail_that_is_not_in_memory_is_read_and_a_removed_one_is_gone() {
    let world = world().await;
    let (first, second) = (world.accept(1).await, world.accept(2).await);
    let second = second.waiting.delivery;
    assert_eq!(world.handle.remove(vec![second.clone()]).await, Ok(1));
    assert_eq!(world.store.find(second.message).await.unwrap(), Vec::new());
    // Dispatch was never told of the first: a release makes it look.
    let released = world.handle.release(site(0).name, None).await;
    assert_eq!(released, Some(Released::Done { waiting: 1 }));
    let mut agent = world.attach().await;
    let assigned = assignment(&mut agent).await;
    assert_eq!(assigned.lease.delivery, first.waiting.delivery);
    assert_eq!(assigned.content, first.mail.content);
    assert!(assigned.fresh);
    let refused = world.handle.remove(vec![first.waiting.delivery]).await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn a_5yz_is_settled_together_with_its_report_which_then_goes_out() {
    let world = world().await;
    let mut agent = world.attach().await;
    world.takes_one(&mut agent).await;
    let mail = world.accept_from("sender@elsewhere.example", 1).await;
    let delivery = mail.waiting.delivery.clone();
    world.handle.arrived(vec![mail]).await;
    let lease = assignment(&mut agent).await.lease;
    let refused = answered(lease, 550, Disposition::Failed);
    world.handle.agent_event(agent.id, refused).await;
    let report = assignment(&mut agent).await;
    assert_eq!(world.store.find(delivery.message).await.unwrap(), []);
    assert_eq!(report.lease.delivery.site, smarthost::name());
    assert_eq!(report.envelope.reverse_path.as_str(), "");
    let to = report.envelope.recipients[0].path.as_str();
    assert_eq!(to, "sender@elsewhere.example");
    let text = String::from_utf8(report.content.unwrap().to_vec()).unwrap();
    assert!(
        text.contains("Action: failed\r\n") && text.contains("550 so it is"),
        "{text}"
    );

    // The smarthost takes that one, and not the next: that is the end of it.
    let taken = relayed(report.lease);
    world.handle.agent_event(agent.id, taken).await;
    let mail = world.accept_from("other@elsewhere.example", 2).await;
    let mail = mail.waiting.delivery;
    assert_eq!(world.handle.fail(vec![mail]).await, Ok(1));
    let report = assignment(&mut agent).await;
    let refused = answered(report.lease.clone(), 554, Disposition::Failed);
    world.handle.agent_event(agent.id, refused).await;
    while !matches!(next(&mut agent).await, Order::Acknowledged(lease) if lease == report.lease) {}
    let (left, _) = world.store.list(None, None, 10).await.unwrap();
    assert_eq!(left, []);
}

/// Nothing is known of the smarthost since the start: what it refuses is kept, and the next one goes out all the same.
#[tokio::test]
async fn a_report_that_the_smarthost_refuses_keeps_no_other() {
    let world = world().await;
    let mut agent = world.attach().await;
    for number in 1..=5 {
        let sender = format!("sender{number}@elsewhere.example");
        let mail = world.accept_from(&sender, number).await;
        let mail = mail.waiting.delivery;
        assert_eq!(world.handle.fail(vec![mail]).await, Ok(1));
        let report = assignment(&mut agent).await;
        assert_eq!(report.lease.delivery.site, smarthost::name());
        assert_eq!(report.envelope.recipients[0].path.as_str(), sender);
        let refused = answered(report.lease, 554, Disposition::Failed);
        world.handle.agent_event(agent.id, refused).await;
    }
}

/// It is read again for its report: a part of it must not go back as if that were all.
#[tokio::test]
async fn of_a_message_too_large_to_return_its_sender_gets_the_header() {
    let world = world().await;
    let mut agent = world.attach().await;
    let content = [
        &b"Message-ID: <x@y>\r\n\r\n"[..],
        &b"hello\r\n".repeat(10_000),
    ]
    .concat();
    let sender = "sender@elsewhere.example";
    let mail = world.accept_content(sender, 1, content.into()).await;
    let failed = world.handle.fail(vec![mail.waiting.delivery]).await;
    assert_eq!(failed, Ok(1));
    let report = assignment(&mut agent).await.content.unwrap();
    let text = String::from_utf8(report.to_vec()).unwrap();
    assert!(text.contains("Message-ID: <x@y>"), "{text}");
    assert!(
        !text.contains("hello"),
        "a part of it: {} bytes",
        text.len()
    );
}

#[tokio::test]
async fn nothing_is_written_about_mail_from_nobody_or_mail_that_an_operator_removes() {
    let world = world().await;
    let mut agent = world.attach().await;
    world.takes_one(&mut agent).await;
    let mail = world.accept(1).await;
    world.handle.arrived(vec![mail]).await;
    let lease = assignment(&mut agent).await.lease;
    let refused = answered(lease.clone(), 550, Disposition::Failed);
    world.handle.agent_event(agent.id, refused).await;
    while !matches!(next(&mut agent).await, Order::Acknowledged(it) if it == lease) {}
    let removed = world.accept_from("sender@elsewhere.example", 2).await;
    let removed = removed.waiting.delivery;
    assert_eq!(world.handle.remove(vec![removed]).await, Ok(1));
    let (left, _) = world.store.list(None, None, 10).await.unwrap();
    assert_eq!(left, []);
}

/// A clock that the test moves.
#[derive(Debug)]
struct Paused(tokio::time::Instant);

impl Clock for Paused {
    fn now(&self) -> Now {
        let monotonic = self.0.elapsed();
        let wall = super::backoff::later(Timestamp::UNIX_EPOCH, monotonic);
        Now { monotonic, wall }
    }
}

#[tokio::test(start_paused = true)]
async fn an_assignment_whose_lease_ended_while_it_was_read_is_not_sent() {
    let began = tokio::time::Instant::now();
    let queue = Queue::new(began);
    let mail = queue.take(submission("", 1, Bytes::from_static(b"hello\r\n")));
    queue.set_reads(false);
    let settings = Settings {
        start_number: 1,
        clock: ClockMemory::default(),
        notifier: crate::dsn::samples::notifier(),
    };
    let chance = Chance {
        clock: Paused(began),
        rng: StdRng::seed_from_u64(1),
    };
    let sites = vec![Arc::new(site(0))];
    let agents = vec![("out1".parse().unwrap(), super::Terms::default())];
    let (handle, run) = super::start_with(settings, chance, queue.clone(), sites, agents);
    tokio::spawn(run);
    let mut agent = handle.attach(hello()).await;
    // It does not beat while the disk says nothing, so the lease ends.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let delivery = mail[0].delivery.clone();
    let first = handle.lease_held(delivery.clone()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(handle.lease_held(delivery.clone()).await.is_none());
    queue.set_reads(true);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let beat = AgentEvent::Beat { number: 1 };
    handle.agent_event(agent.id, beat).await;
    let assigned = assignment(&mut agent).await.lease;
    assert!(assigned.generation > first.generation, "{assigned:?}");
    let held = handle.lease_held(delivery).await.unwrap();
    assert_eq!(held.generation, assigned.generation);
}

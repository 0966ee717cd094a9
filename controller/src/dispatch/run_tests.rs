//! The loop over the real store, with an agent made of the test's own hands.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dd_proto::envelope::{Body, Encoding, Envelope, Recipient};
use dd_proto::id::{Lease, MessageId, RecipientNumber, SessionId};
use dd_proto::report::{
    Delays, Disposition, Observed, Outcome, RecipientResult, Reply, Report, Told,
};
use jiff::Timestamp;

use super::simulation::site;
use super::{
    AgentEvent, Arrived, Assignment, Attachment, ClockMemory, Handle, Hello, Order, Released,
    Settings,
};
use crate::intake::accept::{Content, Submission};
use crate::store::{self, MinFree, RebuildIndex, Store};

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
    };
    let agents = vec!["out1".parse().unwrap()];
    let (handle, run) = super::start(settings, store.clone(), vec![Arc::new(site(0))], agents);
    tokio::spawn(run);
    World {
        store,
        handle,
        _dir: dir,
    }
}

impl World {
    async fn accept(&self, n: u64) -> Arrived {
        let recipient = Recipient {
            number: RecipientNumber(0),
            path: "a@example.org".parse().unwrap(),
            notify: None,
            orcpt: None,
        };
        let envelope = Envelope {
            reverse_path: "".parse().unwrap(),
            body: Body::SevenBit,
            encoding: Encoding::Ascii,
            ret: None,
            envid: None,
            recipients: vec![recipient],
        };
        let content = Bytes::from_static(b"Message-ID: <x@y>\r\n\r\nhello\r\n");
        let submission = Submission {
            id: MessageId::new(n, [0; 10]),
            envelope: envelope.clone(),
            deliveries: vec![(site(0).name, vec![RecipientNumber(0)])],
            content: Content::Inline(content.clone()),
            arrived: Timestamp::UNIX_EPOCH,
        };
        let waiting = self.store.accept(submission).await.unwrap().remove(0);
        Arrived {
            waiting,
            envelope: Arc::new(envelope),
            content: Some(content),
        }
    }

    async fn attach(&self) -> Attachment {
        let hello = Hello {
            agent: "out1".parse().unwrap(),
            version: String::new(),
            slots: 4,
            probes: 4,
            boot_id: "boot".to_owned(),
            work_in_hand: Vec::new(),
            in_doubt: Vec::new(),
            reports: Vec::new(),
        };
        self.handle.attach(hello).await
    }
}

async fn assignment(orders: &mut Attachment) -> Assignment {
    loop {
        match next(orders).await {
            Order::Assign(assignment) => return assignment,
            Order::Welcome { .. } | Order::Plan(_) | Order::Acknowledged(_) => {}
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
    let reply = Reply {
        code: 250,
        enhanced: String::new(),
        text: "ok".to_owned(),
    };
    AgentEvent::Report(Report {
        lease,
        session: SessionId(1),
        outcome: Outcome::Transacted,
        detail: String::new(),
        observed: Observed::default(),
        recipients: vec![RecipientResult {
            number: RecipientNumber(0),
            disposition: Disposition::Relayed,
            reply,
            told: Told::NotPassedOn,
        }],
        dot_sent: true,
        reply: None,
        delays: Delays::default(),
        at: Timestamp::UNIX_EPOCH,
    })
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
    assert_eq!(assigned.content, first.content);
    assert!(assigned.fresh);
    let refused = world.handle.remove(vec![first.waiting.delivery]).await;
    assert!(refused.is_err());
}

//! A lease that runs out while the note of its dot is on the way to the disk.

use std::sync::Arc;
use std::time::Duration;

use dd_agent::agent::Agent;
use dd_agent::lease::Boottime;
use dd_proto::id::Lease;
use dd_proto::pb;
use dd_proto::pb::agent_event::Event;
use dd_proto::pb::given_back::Reason;
use tokio::net::TcpListener;

use super::lanes::{assignment, lane};
use super::loopback::{Bench, CONTENT, Site, bench, serve};

const PATIENCE: Duration = Duration::from_secs(30);

/// The dot is in the journal, and the disk has not said so yet.
async fn dot_is_noted(agent: &Agent) {
    while agent.journal.is_empty() {
        tokio::task::yield_now().await;
    }
}

fn runs_out(agent: &Agent, lease: &Lease) {
    let now = Boottime::now();
    agent
        .leases
        .welcome(std::slice::from_ref(lease), Duration::ZERO, now, now);
    agent.leases.take(lease.clone(), now);
}

async fn given_back(bench: &mut Bench) -> pb::GivenBack {
    loop {
        match bench.events.recv().await.unwrap() {
            Event::GivenBack(given) => return given,
            Event::Report(report) => panic!("{report:?}"),
            _ => {}
        }
    }
}

async fn a_late_note() {
    // The only thread that waits for the disk is as long busy as the disk would be.
    let (done, busy) = std::sync::mpsc::channel::<()>();
    tokio::task::spawn_blocking(move || busy.recv());
    let mut bench = bench(4);
    let agent = Arc::clone(&bench.agent);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let home = tokio::spawn(serve(listener, Site::Clear));
    let lane = lane(&agent, address, 1);
    let message = assignment(&agent, 1, CONTENT);
    let lease = message.lease.clone();
    lane.assign(message);
    dot_is_noted(&agent).await;
    runs_out(&agent, &lease);
    drop(done);
    let given = given_back(&mut bench).await;
    assert_eq!(given.reason(), Reason::LeaseExpired);
    assert_eq!(given.lease, Some(lease.into()));
    assert!(agent.journal.is_empty(), "{:?}", agent.journal.entries());
    assert_eq!(agent.untold.take(), []);
    lane.close();
    let lines = home.await.unwrap();
    assert!(lines.contains(&"DATA".to_owned()), "{lines:?}");
    assert!(!lines.contains(&".".to_owned()), "{lines:?}");
}

#[test]
fn a_dot_whose_lease_runs_out_while_it_is_noted_stays_and_is_forgotten() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    let in_time = async { tokio::time::timeout(PATIENCE, a_late_note()).await };
    runtime.block_on(in_time).expect("it ends");
}

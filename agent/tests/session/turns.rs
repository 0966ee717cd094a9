//! Who waits for whom: sites for a slot, and the messages of a site behind one that hangs.

use std::sync::Arc;

use dd_agent::agent::now;
use dd_agent::deliver::Lane;
use dd_agent::resolve::Freshness;
use tokio::io::AsyncWriteExt as _;

use super::loopback::{Bench, CONTENT, bench};
use super::silence::{Came, Home, Phase, SOON, assign, next};

/// A session takes a thousand in all. Before the other site's is open, some go out.
const OPENING: usize = 900;
/// And then they take turns; by chance two can go before one that has just come.
const TURN: usize = 30;

fn give(bench: &Bench, lane: &Arc<dyn Lane>) -> u64 {
    assign(&bench.agent, &**lane, Freshness::Cached, CONTENT)
}

async fn lane_to(bench: &Bench, home: &Home, connections: usize) -> Arc<dyn Lane> {
    super::lanes::lane(&bench.agent, home.address, connections)
}

/// One slot, and a site that always has more: another one gets its turn between two of its messages.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_queue_leaves_the_slot_to_others_after_each_message() {
    let mut bench = bench(1);
    let (busy, other) = (
        Home::silent_at(Phase::Never, 0).await,
        Home::silent_at(Phase::Never, 0).await,
    );
    let busy = lane_to(&bench, &busy, 1).await;
    let other = lane_to(&bench, &other, 1).await;
    for _ in 0..8 {
        give(&bench, &busy);
    }
    let Came::Relayed(_) = next(&mut bench.events).await else {
        panic!("not relayed");
    };
    give(&bench, &busy);
    // Its session has to be opened first, which needs no slot; from then on they take turns.
    for most in [OPENING, TURN, TURN, TURN] {
        let waits = give(&bench, &other);
        for before in 0.. {
            match next(&mut bench.events).await {
                Came::Relayed(number) if number == waits => break,
                Came::Relayed(_) => give(&bench, &busy),
                came @ Came::Back(..) => panic!("{came:?}"),
            };
            assert!(
                before < most,
                "{before} messages before one of the other site"
            );
        }
    }
}

/// The home does not answer the first dot, with the next envelope behind it.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_ahead_behind_a_dot_that_hangs_goes_out_on_another_session() {
    let mut bench = bench(4);
    let mut home = Home::silent_at(Phase::Dot, 1).await;
    let lane = lane_to(&bench, &home, 2).await;
    give(&bench, &lane);
    let ahead = give(&bench, &lane);
    let _silent = home.silent.recv().await.unwrap();
    let began = now();
    assert_eq!(next(&mut bench.events).await, Came::Relayed(ahead));
    let later = give(&bench, &lane);
    assert_eq!(next(&mut bench.events).await, Came::Relayed(later));
    assert!(now() - began < SOON * 2);
}

/// A message is left untried by its session just when a release has begun another round.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_session_leaves_behind_at_a_release_goes_out_on_the_next_one() {
    let mut bench = bench(4);
    let mut home = Home::silent_at(Phase::Kept, 1).await;
    let lane = lane_to(&bench, &home, 1).await;
    let first = give(&bench, &lane);
    assert_eq!(next(&mut bench.events).await, Came::Relayed(first));
    let mut kept = home.silent.recv().await.unwrap();
    let second = give(&bench, &lane);
    kept.readable().await.unwrap();
    lane.recall();
    kept.write_all(b"421 4.3.2 going down\r\n").await.unwrap();
    assert_eq!(next(&mut bench.events).await, Came::Relayed(second));
}

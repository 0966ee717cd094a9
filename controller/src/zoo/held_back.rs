//! Homes that hold each refusal back: whoever has a mailbox there does not wait behind those who have none.

use std::time::Duration;

use dd_tests::zoo::kinds;

use super::world::{World, simulated};

const UNKNOWN: usize = 20;
/// One refusal of a home, and a new session.
const SOON: Duration = Duration::from_secs(2);

/// How long good messages take: one right behind the unknown recipients, one while those that were kept are asked again.
async fn behind_unknown(connections: u8) -> [Duration; 2] {
    let mut world = World::new(7, &[(kinds::courier(), connections)]).await;
    let user = ["user0@home.example".to_owned()];
    world.until(Duration::from_secs(1)).await;
    world.submit(0, "first@b.example", &user).await;
    let at = [20, 200].map(Duration::from_secs);
    world.until(at[0]).await;
    for n in 0..UNKNOWN {
        let to = [format!("ghost{n}@home.example")];
        world.submit(0, &format!("bad{n}@b.example"), &to).await;
    }
    world.submit(0, "good0@b.example", &user).await;
    world.until(at[1]).await;
    world.submit(0, "good1@b.example", &user).await;
    world.until(Duration::from_secs(600)).await;
    // What the home refused in a row is final once it has taken something.
    assert!(world.queue.left().is_empty(), "{:?}", world.queue.left());
    let home = world.homes[0].home();
    std::array::from_fn(|n| {
        let from = format!("good{n}@b.example");
        assert_eq!(home.copies(&from, &user[0]), 1);
        let mut taken = home.mailbox.iter();
        let taken = taken.find(|it| it.from == from).unwrap();
        taken.at - at[n]
    })
}

#[test]
fn good_mail_waits_for_one_refusal_that_is_held_back_and_not_for_all() {
    let refusal = kinds::courier().unknown_after;
    // With one connection it is not at the agent before the controller has heard of the first.
    for (connections, first) in [(1, 2), (2, 1), (4, 1)] {
        let took = simulated(behind_unknown(connections));
        assert!(took[0] < refusal * first + SOON, "{connections}: {took:?}");
        assert!(took[1] < refusal + SOON, "{connections}: {took:?}");
    }
}

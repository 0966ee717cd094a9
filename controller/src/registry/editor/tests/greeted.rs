//! Agents that come and go: what is remembered of them.

use super::*;
use crate::dispatch::Machine;

#[tokio::test]
async fn an_agent_attaches_while_somebody_else_changes_something() {
    let mut world = World::new().await;
    let agent = world.add_agent().await;
    world.editor.greet(&agent, "a1").await.unwrap();
    let editor = &world.editor;
    let (let_go, wait) = oneshot::channel::<()>();
    let (begins, begun) = oneshot::channel();
    let long = editor.clone();
    world.running.spawn(async move {
        long.change(move |_alone| async move {
            begins.send(()).unwrap();
            let _ = wait.await;
        })
        .await;
    });
    begun.await.unwrap();
    // Its token was not used, and its machine is as before: there is nothing to write.
    let mut greeting = pin!(editor.greet(&agent, "a1"));
    let polled = greeting
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()));
    let is_ready = matches!(polled, Poll::Ready(Ok(Machine::AsBefore)));
    assert!(is_ready, "{polled:?}");
    let_go.send(()).unwrap();
    editor.idle().await;
}

#[tokio::test]
async fn a_used_token_is_spent_at_the_attach() {
    let world = World::new().await;
    let agent = world.add_agent().await;
    let key = crate::authority::client::AgentKey([3; 32]);
    let joining =
        move |change: Change| async move { change.use_token("out1", &[7; 32], key, now()).await };
    world.editor.change(joining).await.unwrap();
    world.editor.greet(&agent, "a1").await.unwrap();
    assert!(world.editor.registry.agent(&agent).unwrap().token.is_none());
    let unknown = "out2".parse().unwrap();
    assert!(world.editor.greet(&unknown, "a1").await.is_err());
}

#[tokio::test]
async fn that_the_machine_of_an_agent_went_down_is_known_over_a_restart() {
    let world = World::new().await;
    let agent = world.add_agent().await;
    let greet = async |boot_id| world.editor.greet(&agent, boot_id).await.unwrap();
    assert_eq!(greet("a1").await, Machine::AsBefore, "it was never here");
    assert_eq!(greet("a1").await, Machine::AsBefore);
    let stored = Registry::load(&world.editor.store).unwrap();
    assert_eq!(stored.agent(&agent).unwrap().boot_id, "a1");
    assert_eq!(greet("b2").await, Machine::Rebooted);
    assert_eq!(
        greet("b2").await,
        Machine::Rebooted,
        "dispatch has not heard of it"
    );
    world.editor.is_attached(&agent);
    assert_eq!(greet("b2").await, Machine::AsBefore);
}

#[tokio::test]
async fn an_agent_is_let_in_where_nothing_can_be_written() {
    let disk = MemoryDisk::default();
    let world = World::on(&disk).await;
    let agent = world.add_agent().await;
    world.editor.greet(&agent, "a1").await.unwrap();
    world.editor.is_attached(&agent);
    let kind = std::io::ErrorKind::StorageFull;
    disk.at(disk.operations() + 1, Fault::FromThen(kind));
    let machine = world.editor.greet(&agent, "b2").await.unwrap();
    assert_eq!(machine, Machine::Rebooted);
}

#[tokio::test]
async fn that_an_agent_has_left_is_not_written_while_it_comes_back() {
    let world = World::new().await;
    let agent = world.add_agent().await;
    world.editor.greet(&agent, "a1").await.unwrap();
    let dispatch = &world.editor.dispatch;
    let hello = dispatch::Hello {
        agent: agent.clone(),
        version: String::new(),
        slots: 1,
        probes: 1,
        boot_id: "a1".to_owned(),
        machine: Machine::AsBefore,
        trouble: String::new(),
        work_in_hand: Vec::new(),
        in_doubt: Vec::new(),
        reports: Vec::new(),
    };
    let attachment = dispatch.attach(hello).await;
    world.editor.is_attached(&agent);
    let leaves = dispatch::AgentEvent::Draining;
    dispatch.agent_event(attachment.id, leaves).await;
    dispatch.detached(attachment.id);
    dispatch.drain_ended().await;
    let boot_id = async || {
        let left = |change: Change| async move { change.agents_left().await };
        world.editor.change(left).await.unwrap();
        world.editor.registry.agent(&agent).unwrap().boot_id.clone()
    };
    world.editor.greet(&agent, "a1").await.unwrap();
    assert_eq!(boot_id().await, "a1");
    world.editor.is_attached(&agent);
    assert_eq!(boot_id().await, "");
}

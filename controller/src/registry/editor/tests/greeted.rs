//! Agents that come and go: what is remembered of them.

use super::*;
use crate::dispatch::{Machine, Told};
use crate::registry::agents::{AgentRecord, Left};

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
        features: Default::default(),
        work_in_hand: Vec::new(),
        in_doubt: Vec::new(),
        reports: Vec::new(),
    };
    let attachment = dispatch.attach(hello.clone()).await;
    world.editor.is_attached(&agent);
    let leaves = dispatch::AgentEvent::Draining;
    dispatch.agent_event(attachment.id, leaves).await;
    dispatch.detached(attachment.id);
    dispatch.drain_ended().await;
    let written = async || {
        let left = |change: Change| async move { change.agents_left().await };
        world.editor.change(left).await.unwrap();
        let stored = Registry::load(&world.editor.store).unwrap();
        let agent = stored.agent(&agent).unwrap();
        (agent.boot_id.clone(), agent.left)
    };
    let here = ("a1".to_owned(), Left::No);
    world.editor.greet(&agent, "a1").await.unwrap();
    assert_eq!(written().await, here);
    world.editor.is_attached(&agent);
    assert_eq!(written().await, (String::new(), Left::InOrder));
    assert_eq!(written().await, (String::new(), Left::InOrder));
    // It is back, and dispatch does not know it yet.
    let machine = world.editor.greet(&agent, "b2").await.unwrap();
    assert_eq!(
        machine,
        Machine::AsBefore,
        "its machine went down without it"
    );
    let back = ("b2".to_owned(), Left::No);
    assert_eq!(written().await, back);
    let attachment = dispatch.attach(hello).await;
    world.editor.is_attached(&agent);
    assert_eq!(written().await, back);
    // Without a word.
    dispatch.detached(attachment.id);
    assert_eq!(written().await, back);
}

/// An agent that has left in order, as the store has it and as a start hears of it.
async fn left(world: &World) -> AgentName {
    let agent = world.add_agent().await;
    let name = agent.clone();
    let leaving = |change: Change| async move {
        let agent = change.registry.agent(&name).unwrap();
        let left = AgentRecord {
            left: Left::InOrder,
            key: Some(AgentKey([3; 32])),
            ..(*agent).clone()
        };
        change.put_agent(left).await.unwrap();
    };
    world.editor.change(leaving).await;
    let stored = Registry::load(&world.editor.store).unwrap();
    assert_eq!(stored.agent(&agent).unwrap().terms().told, Told::All);
    agent
}

#[tokio::test]
async fn a_start_after_a_crash_waits_for_an_agent_that_was_let_in_again() {
    let world = World::new().await;
    let agent = left(&world).await;
    // Dispatch has not heard of it: it has no work yet.
    world.editor.greet(&agent, "").await.unwrap();
    let stored = Registry::load(&world.editor.store).unwrap();
    assert_eq!(stored.agent(&agent).unwrap().terms().told, Told::NotAll);
}

#[tokio::test]
async fn an_agent_that_is_written_as_gone_is_not_let_in_where_that_cannot_be_taken_back() {
    let disk = MemoryDisk::default();
    let world = World::on(&disk).await;
    let agent = left(&world).await;
    let kind = std::io::ErrorKind::StorageFull;
    disk.at(disk.operations() + 1, Fault::FromThen(kind));
    world.editor.greet(&agent, "b2").await.unwrap_err();
}

#[tokio::test]
async fn a_hello_waits_while_it_is_written_that_the_agent_has_left() {
    let world = World::new().await;
    let agent = world.add_agent().await;
    world.editor.greet(&agent, "a1").await.unwrap();
    world.editor.is_attached(&agent);
    let (let_go, wait) = oneshot::channel::<()>();
    let (begins, begun) = oneshot::channel();
    let (editor, name) = (world.editor.clone(), agent.clone());
    let leaving = tokio::spawn(async move {
        editor
            .change(move |change| async move {
                assert!(change.greeted.begins_to_leave(&name));
                begins.send(()).unwrap();
                let _ = wait.await;
                change.greeted.has_left(&name);
            })
            .await;
    });
    begun.await.unwrap();
    // There is nothing new to write of it, but what is being written is not over.
    let mut greeting = pin!(world.editor.greet(&agent, "a1"));
    let polled = greeting
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending(), "{polled:?}");
    let_go.send(()).unwrap();
    leaving.await.unwrap();
    assert_eq!(greeting.await.unwrap(), Machine::AsBefore);
    assert!(!world.editor.greeted.begins_to_leave(&agent), "it comes");
}

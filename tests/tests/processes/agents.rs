//! Several agents: drained and resumed, pinned to, unhealthy, and all restarted in turn while mail flows.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dd_tests::layout::Layout;
use dd_tests::process::Observer;
use dd_tests::site::{Act, At, Script, Site, contains};
use dd_tests::submit::{Client, Protocol, message};
use dd_tests::wait::{PATIENCE, pause, until};
use dd_tests::world::{OUTBOUND, World};
use serde_json::Value;

/// Documentation's (RFC 5737): on no machine, so it cannot be bound.
const NOWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);

#[test]
fn a_drained_agent_gets_no_work_whoever_starts_again_until_it_is_resumed() {
    let mut world = World::with_agents(2);
    let home = world.home("home", &[]);
    let drained = world.json(&["agent", "drain", "out1"]);
    assert_eq!(drained["drain"], true, "{drained}");
    send(&world, 0..3);
    home.received(3);
    world.stop_controller();
    world.start_controller();
    world.kill_agent("out1");
    world.start_agent("out1");
    is(&world, "out1", "draining");
    is(&world, "out2", "connected");
    send(&world, 3..6);
    home.received(6);
    assert_eq!(via(&world), ["out2"]);
    let _ = world.ddadm().run(&["agent", "resume", "out1"]).done();
    let _ = world.ddadm().run(&["agent", "drain", "out2"]).done();
    is(&world, "out1", "connected");
    send(&world, 6..9);
    home.received(9);
    assert_eq!(world.show("home")["last_attempts"][0]["agent"], "out1");
    let audit = world.ddadm().run(&["audit"]).done().stdout;
    assert!(audit.contains("agent out1 drained"), "{audit}");
    assert!(audit.contains("agent out1 resumed"), "{audit}");
    let unknown = world.ddadm().run(&["agent", "drain", "nobody"]);
    unknown.refused(4, "nobody");
}

#[test]
fn a_start_does_not_wait_for_an_agent_that_has_drained_to_its_end() {
    let mut world = World::with_agents(2);
    let home = world.home("home", &[]);
    let _ = world.ddadm().run(&["agent", "drain", "out1"]).done();
    until("the drain to end", PATIENCE, || {
        let audit = world.ddadm().run(&["audit"]).done().stdout;
        audit
            .contains("the drain of agent out1 has ended")
            .then_some(())
    });
    world.kill_agent("out1");
    old_mail_is_not_in_doubt(&mut world, &home, World::kill_controller);
    assert_eq!(via(&world), ["out2"]);
}

#[test]
fn a_start_after_a_clean_stop_waits_for_no_agent_that_held_nothing() {
    let mut world = World::with_agents(2);
    let home = world.home("home", &[]);
    world.kill_agent("out1");
    until("out1 to be away", PATIENCE, || {
        (agent(&world, "out1")["state"] != "connected").then_some(())
    });
    old_mail_is_not_in_doubt(&mut world, &home, World::stop_controller);
}

#[test]
fn a_start_after_a_crash_does_not_wait_for_an_agent_that_has_left_in_order() {
    let mut world = World::with_agents(2);
    let home = world.home("home", &[]);
    world.stop_agent("out1");
    world.controller().log_line("agent has left in order");
    old_mail_is_not_in_doubt(&mut world, &home, World::kill_controller);
    assert_eq!(via(&world), ["out2"]);
}

/// A message waits while the controller ends and starts again; then it is at home, and nobody's lease was waited for.
fn old_mail_is_not_in_doubt(world: &mut World, home: &Site, end: fn(&mut World)) {
    let _ = world.ddadm().run(&["site", "hold", "home"]).done();
    send(world, 0..1);
    end(world);
    world.start_controller();
    let _ = world.ddadm().run(&["site", "resume", "home"]).done();
    home.received(1);
    // Had the start waited for it until leases of the earlier one were over, nobody would know what it had done.
    let again = world.controller().lines("sent again in doubt");
    assert!(again.is_empty(), "{again:?}");
}

#[test]
fn a_rolling_restart_under_load_defers_loses_and_repeats_nothing() {
    let log = Log::default();
    let layout = Layout {
        observer: Some(log.observer()),
        ..Layout::default()
    };
    let mut world = World::laid_out(layout, 2);
    // A site that is put off once waits for minutes, and is missed below.
    let homes = [world.home("one", &[]), world.home("two", &[])];
    let feeder = Feeder::start(&world);
    let came = |more: usize| {
        let now = || {
            homes
                .iter()
                .map(|home| home.messages().len())
                .sum::<usize>()
        };
        let before = now();
        until("mail to flow", PATIENCE, || {
            (now() >= before + more).then_some(())
        });
    };
    came(50);
    for agent in ["out1", "out2"] {
        let _ = world.ddadm().run(&["agent", "drain", agent]).done();
        until("nothing to be in its hand", PATIENCE, || {
            (self::agent(&world, agent)["in_flight"] == 0).then_some(())
        });
        came(20);
        world.stop_agent(agent);
        world.start_agent(agent);
        is(&world, agent, "draining");
        let _ = world.ddadm().run(&["agent", "resume", agent]).done();
        world.attached(agent);
        came(20);
    }
    for agent in ["out1", "out2"] {
        world.stop_agent(agent);
        came(20);
        world.start_agent(agent);
        world.attached(agent);
        came(20);
    }
    world.stop_controller();
    world.start_controller();
    for agent in ["out1", "out2"] {
        world.attached(agent);
    }
    came(50);
    let sent = feeder.end();
    for site in ["one", "two"] {
        world.drained(site);
    }
    let deferred =
        log.lines(|line| line.contains("attempt ended") && !line.contains("outcome=Transacted"));
    assert_eq!(deferred, Vec::<String>::new(), "nothing is put off");
    let doubted = log.lines(|line| line.contains("sent again in doubt"));
    assert_eq!(doubted, Vec::<String>::new(), "nothing is sent twice");
    each_once(&homes, &sent);
    let status = world.json(&["status"]);
    assert_eq!(
        (&status["in_doubt"], &status["duplicates"]),
        (&0.into(), &0.into())
    );
}

/// Its home hangs at MAIL: nothing of that is anybody's copy, so it is neither waited for nor in doubt.
#[test]
fn what_hangs_at_an_agent_that_ends_goes_out_through_another_at_once() {
    let mut world = World::start();
    let home = world.home("home", &[]);
    let identity = world.ca.identity(&["home.example"]);
    home.behave(Script::with(&identity).but(At::Mail, Act::Hang));
    for number in 0..5 {
        let content = message(&format!("hangs-{number}"));
        world
            .smtp()
            .send("a@b.example", "me@home.example", &content);
    }
    home.saw("MAIL", |seen| contains(&seen.secured, b"MAIL FROM"));
    home.behave(Script::with(&identity));
    world.add_agent("out2", OUTBOUND[1]);
    let began = now();
    world.stop_agent("out1");
    home.received(5);
    // A lease that is lost takes half a minute to end.
    let took = now() - began;
    assert!(took < Duration::from_secs(15), "{took:?}");
    world.drained("home");
    let doubts = world.controller().lines("sent again in doubt");
    assert!(doubts.is_empty(), "{doubts:?}");
}

#[expect(clippy::disallowed_methods, reason = "a test measures")]
fn now() -> Instant {
    Instant::now()
}

#[test]
fn a_pinned_site_waits_for_its_agent_and_says_so() {
    let mut world = World::with_agents(2);
    world.home("nobody", &[]);
    let unknown = ["site", "set", "nobody", "--agent", "out9"];
    world.ddadm().run(&unknown).refused(1, "out9");
    let home = world.home("home", &["--agent", "out2"]);
    send(&world, 0..3);
    home.received(3);
    assert_eq!(via(&world), ["out2"]);
    world.kill_agent("out2");
    until("the agent to be gone", PATIENCE, || {
        (agent(&world, "out2")["state"] == "disconnected").then_some(())
    });
    send(&world, 3..4);
    let shown = until("it to wait", PATIENCE, || {
        let shown = world.show("home");
        shown["no_agent"].is_string().then_some(shown)
    });
    assert_eq!(shown["no_agent"], "it is pinned, and out2 is not connected");
    let page = world.ddadm().run(&["site", "show", "home"]).done().stdout;
    assert!(page.contains("out2 is not connected"), "{page}");
    let pinned = world.ddadm().run(&["agent", "remove", "out2"]);
    pinned.refused(1, "home");
    world.start_agent("out2");
    home.received(4);
    assert_eq!(via(&world), ["out2"]);
    let _ = world
        .ddadm()
        .run(&["site", "set", "home", "--clear", "agent"])
        .done();
    let _ = world.ddadm().run(&["agent", "remove", "out2"]).done();
    send(&world, 4..5);
    home.received(5);
}

#[test]
fn an_agent_that_cannot_bind_its_address_gets_no_work_until_the_address_is_there() {
    let mut world = World::with_agents(1);
    let home = world.home("home", &[]);
    // Only with a second one beside it is the first one's drain no standstill.
    world.introduce_agent("out3", NOWHERE);
    is(&world, "out3", "unhealthy");
    let sick = agent(&world, "out3");
    let trouble = sick["trouble"].as_str().unwrap_or_default();
    assert!(trouble.contains("192.0.2.77 cannot be bound"), "{sick}");
    send(&world, 0..5);
    home.received(5);
    assert_eq!(via(&world), ["out1"]);
    let attempts = world.show("home")["last_attempts"].clone();
    let relayed = |attempt: &Value| attempt["outcome"] == "relayed";
    assert!(
        attempts.as_array().unwrap().iter().all(relayed),
        "{attempts}"
    );
    let pinned = ["site", "set", "home", "--agent", "out3"];
    let _ = world.ddadm().run(&pinned).done();
    send(&world, 5..6);
    until("the site to say why it waits", PATIENCE, || {
        let shown = world.show("home");
        (shown["no_agent"] == "it is pinned, and out3 is unhealthy").then_some(())
    });
    let _there = Address::give(NOWHERE);
    is(&world, "out3", "connected");
    home.received(6);
    until("the attempt to be told", PATIENCE, || {
        let last = &world.show("home")["last_attempts"][0];
        (last["agent"] == "out3").then_some(())
    });
}

/// An address that this machine has for a while.
struct Address(String);

impl Address {
    fn give(address: Ipv4Addr) -> Self {
        let given = Self(format!("{address}/32"));
        assert!(
            given.ip("add"),
            "this test needs root, to give lo an address"
        );
        given
    }

    fn ip(&self, verb: &str) -> bool {
        let command = ["addr", verb, &self.0, "dev", "lo"];
        let done = Command::new("ip").args(command).status();
        done.is_ok_and(|status| status.success())
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        self.ip("del");
    }
}

/// Every line that a program of the world logs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn observer(&self) -> Observer {
        let lines = self.0.clone();
        Observer::new(move |line| {
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            lines.push(line.to_owned());
        })
    }

    fn lines(&self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().filter(|line| wanted(line)).cloned().collect()
    }
}

/// Hands mail in, one message after the other, also while the controller starts again.
struct Feeder {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<String>>,
}

impl Feeder {
    fn start(world: &World) -> Self {
        let (server, over) = (world.listeners().smtp, Arc::new(AtomicBool::new(false)));
        let ends = over.clone();
        let thread = std::thread::spawn(move || {
            let (mut accepted, mut client, mut number) = (Vec::new(), None, 0_u64);
            while !ends.load(Ordering::Relaxed) {
                let Some(it) = client.as_mut() else {
                    client = Client::try_connect(server, Protocol::Smtp);
                    pause(std::time::Duration::from_millis(10));
                    continue;
                };
                // Whatever is not accepted is not sent again, so what comes twice was repeated by us.
                number += 1;
                let subject = format!("number-{number}");
                let to = ["me@one.example", "me@two.example"][usize::from(number % 2 == 0)];
                match Client::try_send(it, "a@b.example", to, &message(&subject)) {
                    Some(_) => accepted.push(subject),
                    None => client = None,
                }
                pause(std::time::Duration::from_millis(3));
            }
            accepted
        });
        Self { over, thread }
    }

    /// The subjects of what was accepted.
    fn end(self) -> Vec<String> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn each_once(homes: &[Site], sent: &[String]) {
    let mut copies = std::collections::HashMap::new();
    for home in homes {
        for (subject, count) in home.copies() {
            *copies.entry(subject).or_insert(0) += count;
        }
    }
    for subject in sent {
        assert_eq!(copies.get(subject), Some(&1), "{subject}");
    }
    assert!(copies.values().all(|count| *count == 1), "{copies:?}");
}

fn send(world: &World, numbers: std::ops::Range<usize>) {
    let mut client = world.smtp();
    for number in numbers {
        let message = message(&format!("number-{number}"));
        client.send("a@b.example", "me@home.example", &message);
    }
}

/// The agents of the newest attempts.
fn via(world: &World) -> Vec<String> {
    let shown = world.show("home");
    let attempts = shown["last_attempts"].as_array().unwrap();
    let agents = attempts.iter().filter_map(|it| it["agent"].as_str());
    let mut agents: Vec<String> = agents.map(str::to_owned).collect();
    agents.sort_unstable();
    agents.dedup();
    agents
}

fn agent(world: &World, name: &str) -> Value {
    let agents = world.json(&["agent", "list"]);
    let mut agents = agents.as_array().unwrap().iter();
    agents.find(|it| it["name"] == name).unwrap().clone()
}

fn is(world: &World, name: &str, state: &str) {
    until(&format!("agent {name} to be {state}"), PATIENCE, || {
        (agent(world, name)["state"] == state).then_some(())
    });
}

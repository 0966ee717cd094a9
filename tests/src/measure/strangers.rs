//! What honest clients feel of strangers: times beside those alone, and the controller's memory.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use serde_json::{Value, json};

use super::latency::Latencies;
use crate::secure::{Member, code};
use crate::strangers::{self, Attack, Trick};
use crate::submit::message;
use crate::wait::Stopwatch;
use crate::world::World;

const PASSWORD: &str = "correct horse battery";
/// A member's address, which no stranger has.
const MEMBER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));

/// Each attack in a world of its own, behind one without any.
///
/// # Panics
/// An honest client is not served.
pub fn run(rounds: usize) -> Value {
    let mut figures = serde_json::Map::new();
    figures.insert("Alone".to_owned(), one(None, rounds));
    for trick in Trick::ALL {
        figures.insert(format!("{trick:?}"), one(Some(trick), rounds));
    }
    figures.into()
}

fn one(trick: Option<Trick>, rounds: usize) -> Value {
    let mut world = strangers::world();
    let _home = world.home("home", &["--retry", "1s"]);
    world.set_password("home", PASSWORD);
    let attack = trick.map(|trick| Attack::start(trick, &world));
    if let Some(attack) = &attack {
        attack.has_risen();
    }
    let timed = |of: &mut dyn FnMut()| {
        let times = (0..rounds).map(|_| {
            let watch = Stopwatch::start();
            of();
            1000.0 * watch.elapsed().as_secs_f64()
        });
        Latencies::of(times.collect()).at(95)
    };
    let text = message("measured");
    let feeder = timed(&mut || {
        world.smtp().send("a@b.example", "me@home.example", &text);
    });
    let etrn = timed(&mut || etrn(&world));
    let wget = timed(&mut || wget(&world));
    let attach = timed(&mut || {
        world.kill_agent("out1");
        world.start_agent("out1");
        world.attached("out1");
    });
    json!({
        "feeder_250_p95_ms": feeder,
        "member_etrn_p95_ms": etrn,
        "member_wget_p95_ms": wget,
        "agent_attach_p95_ms": attach,
        "controller_peak_mib": world.controller().peak_memory() >> 20,
    })
}

fn etrn(world: &World) {
    use base64::Engine as _;
    let login = format!("\0home\0{PASSWORD}");
    let login = base64::engine::general_purpose::STANDARD.encode(login);
    let mut member = Member::connect(world.listeners().smtp, MEMBER, &world.provider, None);
    assert_eq!(code(&member.say(&format!("AUTH PLAIN {login}"))), 235);
    let answer = member.say("ETRN home.example");
    assert!((250..=253).contains(&code(&answer)), "{answer}");
}

fn wget(world: &World) {
    let output = Command::new("wget")
        .args(["-q", "-O", "/dev/null", "--http-user=home"])
        .arg(format!("--bind-address={MEMBER}"))
        .arg(format!("--http-password={PASSWORD}"))
        .arg(world.url("/etrn"))
        .output()
        .expect("wget can be run");
    assert!(output.status.success(), "{output:?}");
}

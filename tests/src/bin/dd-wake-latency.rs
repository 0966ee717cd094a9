//! How long it takes from a wget call until the mail is at home: `dd-wake-latency [CALLS]`.
//!
//! Each time mail waits, no session is open, and the site has moved to another address one second before, so the name
//! has to be asked for anew. Counted is from before wget is started until the home server has the message, which is a
//! little later than the first byte of its content.

use std::net::SocketAddr;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use dd_tests::loopback;
use dd_tests::site::{Script, Site};
use dd_tests::submit::message;
use dd_tests::world::World;

const PASSWORD: &str = "correct horse battery";

fn main() -> Result<()> {
    let calls = std::env::args().nth(1).map_or(Ok(100), |it| it.parse())?;
    let world = World::start();
    let mut now = world.home("home", &["--retry", "1h"]);
    world.set_password("home", PASSWORD);
    let moved = SocketAddr::from((loopback::fresh(), now.address().port()));
    let mut next = Site::start_at(moved, Script::with(&world.ca.identity(&["home.example"])));
    next.stop();
    let mut taken = Vec::new();
    for call in 0..calls {
        now.stop();
        let subject = format!("call-{call}");
        world
            .smtp()
            .send("a@b.example", "me@home.example", &message(&subject));
        world.site_is("home", "waiting");
        next.resume();
        next.forget();
        world.dns.set("home.dyn.example", &[next.address().ip()]);
        thread::sleep(Duration::from_secs(1));
        taken.push(wake(&world, &next)?);
        std::mem::swap(&mut now, &mut next);
    }
    taken.sort_unstable();
    let at = |percent: usize| taken[(taken.len() * percent / 100).min(taken.len() - 1)];
    say(&format!(
        "{calls} calls: p50 {:?}, p99 {:?}, longest {:?}",
        at(50),
        at(99),
        at(100)
    ));
    Ok(())
}

fn wake(world: &World, home: &Site) -> Result<Duration> {
    let begun = clock();
    let mut wget = Command::new("wget")
        .args(["-q", "-O", "/dev/null", "--http-user=home"])
        .arg(format!("--http-password={PASSWORD}"))
        .arg(world.url("/etrn"))
        .spawn()
        .context("wget")?;
    while home.messages().is_empty() {
        ensure!(begun.elapsed() < Duration::from_secs(30), "no mail came");
        thread::sleep(Duration::from_micros(200));
    }
    let taken = begun.elapsed();
    ensure!(wget.wait()?.success(), "wget failed");
    Ok(taken)
}

#[expect(clippy::disallowed_methods, reason = "time is what this measures")]
fn clock() -> Instant {
    Instant::now()
}

#[expect(clippy::print_stdout, reason = "the figures are what this is for")]
fn say(text: &str) {
    println!("{text}");
}

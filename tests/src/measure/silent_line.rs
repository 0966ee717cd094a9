//! A member's line has died without a sign, in the middle of something; he is up again at another address, and asks for his
//! mail: how long it takes until it is there, whatever the old connection hangs at.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};

use super::dead;
use crate::loopback;
use crate::secure::Member;
use crate::site::{Act, At, Gate, Script, Site};
use crate::submit::message;
use crate::wait::{PATIENCE, Stopwatch, until};
use crate::world::World;

const PASSWORD: &str = "correct horse battery";
/// The member's new line.
const ASKER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
/// More than lies in the buffers of a connection, so that the dot does not go out.
const LONG: usize = 12 << 20;

/// Where the old connection is silent; None: nobody answers the connect.
pub const PHASES: [Option<At>; 9] = [
    None,
    Some(At::Greeting),
    Some(At::Ehlo),
    Some(At::StartTls),
    Some(At::Handshake),
    Some(At::Mail),
    Some(At::Rcpt),
    Some(At::Data),
    Some(At::Body),
];

/// The mail that was on its way, and mail that had come behind it: how long until both are at the new address.
///
/// # Panics
/// They do not come there, or more than once.
pub fn at(world: &World, phase: Option<At>) -> Duration {
    let name = match phase {
        None => "connect".to_owned(),
        Some(at) => format!("{at:?}").to_lowercase(),
    };
    let (domain, host) = (format!("{name}.example"), format!("{name}.dyn.example"));
    let script = Script::with(&world.ca.identity(&[&domain]));
    let gate = Gate::default();
    let silent = dead::Silent::new();
    let old = phase.map(|at| Site::start(script.clone().but(at, Act::Wait(gate.clone()))));
    let address = old.as_ref().map_or(silent.address(), Site::address);
    world.add_home(&name, address, &["--connections", "1", "--retry", "1h"]);
    world.set_password(&name, PASSWORD);

    let to = format!("me@{domain}");
    let mut first = message("first");
    while phase == Some(At::Body) && first.len() < LONG {
        first.extend_from_slice(b"All work and no play makes mail a dull matter.\r\n");
    }
    let mut client = world.smtp();
    let _ = client.send("a@b.example", &to, &first);
    until("the message to hang", PATIENCE, || {
        let in_hand = world.json(&["agent", "list"])[0]["in_flight"] == 1;
        let hangs = old.as_ref().is_none_or(|old| hangs(old, phase));
        (in_hand && hangs).then_some(())
    });
    let _ = client.send("a@b.example", &to, &message("second"));

    let new = SocketAddr::from((loopback::fresh(), address.port()));
    let home = Site::start_at(new, script);
    world.dns.set(&host, &[home.address().ip()]);
    let mut member = Member::connect(world.listeners().smtp, ASKER, &world.provider, None);
    let credentials = format!("\0{name}\0{PASSWORD}");
    let credentials = base64::engine::general_purpose::STANDARD.encode(credentials);
    assert!(
        member
            .say(&format!("AUTH PLAIN {credentials}"))
            .starts_with("235")
    );
    let begun = Stopwatch::start();
    let reply = member.say(&format!("ETRN {domain}"));
    assert!(reply.starts_with("253"), "{reply}");
    let _ = home.received(2);
    let took = begun.elapsed();
    let _ = world.drained(&name);
    assert!(home.copies().values().all(|copies| *copies == 1));
    gate.open();
    took
}

/// Whether all has come that the silent home waits for.
fn hangs(old: &Site, phase: Option<At>) -> bool {
    let connections = old.connections();
    let Some(seen) = connections.first() else {
        return false;
    };
    let has = |bytes: &[u8], what: &str| crate::site::contains(bytes, what.as_bytes());
    match phase {
        Some(At::Ehlo) => has(&seen.clear, "EHLO"),
        Some(At::StartTls | At::Handshake) => has(&seen.clear, "STARTTLS"),
        Some(At::Mail | At::Rcpt | At::Data) => has(&seen.secured, "MAIL"),
        Some(At::Body) => has(&seen.secured, "All work"),
        _ => true,
    }
}

/// # Panics
/// Something does not arrive.
pub fn run() -> Value {
    let world = World::start();
    let took = PHASES.map(|phase| {
        let what = phase.map_or("connect".to_owned(), |at| format!("{at:?}"));
        (what, json!(at(&world, phase).as_secs_f64()))
    });
    Value::Object(took.into_iter().collect())
}

//! A home server, whatever it is, put through what a year brings: a row of the table in docs/reliability.md.
//!
//! What is asked is what the provider says of each message, by its log: where a server puts its mail is its own affair.

use std::net::SocketAddr;

use serde_json::{Map, Value, json};

use crate::home_server::{HomeServer, Printed};
use crate::loopback;
use crate::postfix::Postfix;
use crate::submit::message;
use crate::wait::{PATIENCE, Stopwatch, until};
use crate::world::World;

const BURST: usize = 30;
const LONG: usize = 12 << 20;

/// What listens, and for whom.
#[derive(Debug)]
pub struct Home {
    pub address: SocketAddr,
    /// A mailbox it has.
    pub user: String,
    /// One in the same domain that it does not have; None: it takes everything.
    pub unknown: Option<String>,
}

impl Home {
    fn domain(&self) -> &str {
        self.user.split_once('@').map_or("", |(_, domain)| domain)
    }
}

/// A row for each server that the tests have.
///
/// # Panics
/// One does not start.
pub fn all() -> Value {
    let world = World::start();
    let printed = Printed::issued(&world);
    let (at, domain) = (world.path(), "home.example");
    let postfix = printed.below("Postfix, main.cf")
        + "virtual_mailbox_maps = inline:{me@home.example=inbox/}\n";
    let postfix = Postfix::set_up(at, domain, &postfix);
    let servers = [
        ("exim", HomeServer::exim(at, domain, &printed)),
        ("opensmtpd", HomeServer::opensmtpd(at, domain, &printed)),
        ("sendmail", HomeServer::sendmail(at, domain, &printed)),
        ("chasquid", HomeServer::chasquid(at, domain, &printed)),
        ("courier", HomeServer::courier(at, domain, &printed)),
        ("qpsmtpd", HomeServer::qpsmtpd(at, domain, &printed)),
    ];
    let addresses = servers.iter().map(|(name, it)| (*name, it.address()));
    let addresses = addresses.chain([("postfix", postfix.address())]);
    let rows = addresses.map(|(name, address)| {
        let row = run(&Home {
            address,
            user: format!("me@{domain}"),
            unknown: Some(format!("not-here@{domain}")),
        });
        (name.to_owned(), row)
    });
    Value::Object(rows.collect())
}

/// The row: for each case the seconds, and what was said last.
///
/// # Panics
/// The provider does not start, or takes no mail.
pub fn run(home: &Home) -> Value {
    let mut world = World::start();
    let host = home.address.to_string();
    let mut site = vec![
        "site",
        "add",
        "home",
        "--domain",
        home.domain(),
        "--host",
        &host,
    ];
    site.extend(["--proof", "port", "--retry", "1h"]);
    let _ = world.ddadm().run(&site).done();
    let mut row = Map::new();
    let mut case = |name: &str, seconds: Value| _ = row.insert(name.to_owned(), seconds);
    case("single", one(&mut world, home, &message("single")));
    case("burst of 30", burst(&mut world, home));
    let mut long = message("long");
    while long.len() < LONG {
        long.extend_from_slice(b"All work and no play makes mail a dull matter.\r\n");
    }
    case("12 MB", one(&mut world, home, &long));
    let mut eight = message("eight bits");
    eight.extend_from_slice("Grüße\r\n".as_bytes());
    case("8-bit", one(&mut world, home, &eight));
    if let Some(unknown) = &home.unknown {
        let user = home.user.as_str();
        case("two, one unknown", to(&mut world, &[user, unknown]));
        case("unknown", to(&mut world, &[unknown]));
    }
    case("away, then ETRN", away(&mut world, home));
    // Last, for a home that holds refusals back is still at work on these when the case is over.
    case("20 unknown, then one", behind_unknown(&mut world, home));
    Value::Object(row)
}

fn one(world: &mut World, home: &Home, content: &[u8]) -> Value {
    let begun = Stopwatch::start();
    let id = world.smtp().send("a@b.example", &home.user, content);
    ended(world, &[(id, 1)], begun)
}

fn burst(world: &mut World, home: &Home) -> Value {
    let begun = Stopwatch::start();
    let mut client = world.smtp();
    let sent = (0..BURST).map(|n| client.send("a@b.example", &home.user, &message(&n.to_string())));
    let sent: Vec<_> = sent.map(|id| (id, 1)).collect();
    ended(world, &sent, begun)
}

fn to(world: &mut World, recipients: &[&str]) -> Value {
    let begun = Stopwatch::start();
    let mut client = world.smtp();
    client.expect("MAIL FROM:<a@b.example>", 250);
    for to in recipients {
        client.expect(&format!("RCPT TO:<{to}>"), 250);
    }
    let id = client.data(&message("to-some")).id();
    ended(world, &[(id, recipients.len())], begun)
}

fn behind_unknown(world: &mut World, home: &Home) -> Value {
    let begun = Stopwatch::start();
    let mut client = world.smtp();
    for n in 0..20 {
        let to = format!("ghost{n}@{}", home.domain());
        let _ = client.send("a@b.example", &to, &message("unwanted"));
    }
    let id = client.send("a@b.example", &home.user, &message("wanted"));
    ended(world, &[(id, 1)], begun)
}

/// From the release on.
fn away(world: &mut World, home: &Home) -> Value {
    let set = |world: &World, host: &str| {
        let _ = world
            .ddadm()
            .run(&["site", "set", "home", "--host", host])
            .done();
    };
    set(world, &loopback::free_port().to_string());
    let mut client = world.smtp();
    let sent = (0..BURST).map(|n| client.send("a@b.example", &home.user, &message(&n.to_string())));
    let sent: Vec<_> = sent.map(|id| (id, 1)).collect();
    let _ = world.site_is("home", "waiting");
    let begun = Stopwatch::start();
    set(world, &home.address.to_string());
    let _ = world.ddadm().run(&["etrn", "home"]).done();
    ended(world, &sent, begun)
}

/// When each of these messages has ended for so many recipients; in seconds, with the replies that were not 2yz.
fn ended(world: &mut World, sent: &[(String, usize)], begun: Stopwatch) -> Value {
    let mut replies = Vec::new();
    for (id, recipients) in sent {
        let lines = until("a message to end", PATIENCE * 10, || {
            let mut lines = world.controller().lines(&format!("id={id} "));
            lines.retain(|line| line.contains("mail: settled"));
            let named = |line: &String| word(line, "recipients").split(',').count();
            (lines.iter().map(named).sum::<usize>() >= *recipients).then_some(lines)
        });
        replies.extend(lines.iter().map(|line| word(line, "reply").to_owned()));
    }
    replies.retain(|reply| !reply.starts_with('2'));
    json!({ "seconds": begun.elapsed().as_secs_f64(), "refusals": replies })
}

/// What stands in quotes behind `name=`.
fn word<'l>(line: &'l str, name: &str) -> &'l str {
    let behind = line
        .split_once(&format!(" {name}=\""))
        .map(|(_, rest)| rest);
    behind
        .and_then(|rest| rest.split('"').next())
        .unwrap_or_default()
}

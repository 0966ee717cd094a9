//! What homes answer, seen from outside: who gets his mail, who is told that he does not, and what the administrator sees.
//!
//! Each world has several homes, a site for each. Their retry interval is a second, so what is right is there soon; where a
//! test says that something does *not* happen, it is an hour.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use dd_tests::loopback;
use dd_tests::site::{Act, At, Host, Received, Script, Site, Verdict};
use dd_tests::submit::message;
use dd_tests::wait::{PATIENCE, until};
use dd_tests::world::World;
use dd_tests::zoo::fault::{Does, Fault};
use dd_tests::zoo::habits::{Errors, Habits, PLACES};
use dd_tests::zoo::served::Served;
use dd_tests::zoo::{Home, kinds};

const NOBODY: &str = "nobody@nowhere.invalid";

/// Registers a site that is believed for its port.
fn add(world: &World, name: &str, address: SocketAddr, retry: &str) {
    let (domain, host) = (format!("{name}.example"), address.to_string());
    let mut args = vec!["site", "add", name, "--domain", &domain, "--host", &host];
    args.extend(["--proof", "port", "--retry", retry, "--connections", "1"]);
    let _ = world.ddadm().run(&args).done();
}

fn send(world: &World, from: &str, to: &str, site: &str) {
    let to = format!("{to}@{site}.example");
    let _ = world.smtp().send(from, &to, &message(&to));
}

#[track_caller]
fn arrives(home: &Served, from: &str, to: &str, site: &str) {
    let to = format!("{to}@{site}.example");
    until(&format!("mail from {from} for {to}"), PATIENCE, || {
        (home.home().copies(from, &to) > 0).then_some(())
    });
    assert_eq!(home.home().copies(from, &to), 1, "{to}");
}

/// The lines with which a recipient's mail ended.
fn settled(world: &mut World, recipient: &str) -> Vec<String> {
    let what = format!("recipients=\"{recipient}\"");
    until(
        &format!("the end of the mail for {recipient}"),
        PATIENCE,
        || {
            let mut lines = world.controller().lines(&what);
            lines.retain(|line| line.contains("mail: settled"));
            (!lines.is_empty()).then_some(lines)
        },
    )
}

/// A home as a kind of server, without what takes its time on purpose.
fn quick(habits: Habits) -> Habits {
    Habits {
        errors: Errors {
            slow_from: u32::MAX,
            ..habits.errors
        },
        unknown_after: std::time::Duration::ZERO,
        ..habits
    }
}

/// More than a session of any of them bears.
const UNKNOWN: usize = 24;

#[test]
fn mail_for_unknown_recipients_in_front_after_an_absence_costs_good_mail_nothing() {
    let mut world = World::start();
    let kinds = [kinds::postfix(), kinds::exim(), kinds::chasquid()].map(quick);
    let addresses = kinds.map(|kind| (kind, loopback::free_port()));
    for (kind, address) in &addresses {
        add(&world, kind.name, *address, "1s");
        for n in 0..UNKNOWN {
            send(&world, "a@b.example", &format!("ghost{n}"), kind.name);
        }
        for n in 0..3 {
            send(&world, "a@b.example", &format!("user{n}"), kind.name);
        }
        let _ = world.site_is(kind.name, "waiting");
    }
    let homes = addresses.map(|(kind, at)| (kind, Served::start_at(at, Home::new(kind))));
    for (kind, home) in &homes {
        for n in 0..3 {
            arrives(home, "a@b.example", &format!("user{n}"), kind.name);
        }
        let _ = world.drained(kind.name);
        // Their senders are told, once and in the home's own words.
        for n in 0..UNKNOWN {
            let ended = settled(&mut world, &format!("ghost{n}@{}.example", kind.name));
            assert!(ended.len() == 1 && ended[0].contains("550"), "{ended:?}");
        }
        let shown = world.show(kind.name);
        assert_ne!(shown["state"], "waiting", "{shown}");
    }
}

#[test]
fn a_sender_whom_the_home_refuses_is_told_and_holds_up_nobody() {
    let mut world = World::start();
    let kinds = [
        kinds::sendmail(),
        kinds::postfix_strict(),
        kinds::courier(),
        kinds::haraka(),
    ];
    let homes = kinds.map(quick).map(|kind| {
        let home = Served::start(Home::new(kind));
        add(&world, kind.name, home.address(), "1h");
        (kind, home)
    });
    for (kind, _) in &homes {
        for n in 0..6 {
            send(&world, NOBODY, &format!("user{}", n + 1), kind.name);
            let from = format!("good{n}@b.example");
            send(&world, &from, "user0", kind.name);
        }
    }
    for (kind, home) in &homes {
        for n in 0..6 {
            arrives(home, &format!("good{n}@b.example"), "user0", kind.name);
        }
        let _ = world.drained(kind.name);
        for n in 0..6 {
            let user = format!("user{}@{}.example", n + 1, kind.name);
            let ended = settled(&mut world, &user);
            let reply = kind.refused_sender.expect("it asks").split(' ').next();
            let code = format!("reply=\"{}", reply.expect("a code"));
            assert!(ended.len() == 1 && ended[0].contains(&code), "{ended:?}");
        }
    }
}

#[test]
fn a_421_at_any_command_and_ten_messages_a_session_delay_no_mail() {
    let world = World::start();
    let mut homes = Vec::new();
    for at in PLACES {
        let mut home = Home::new(kinds::plain());
        home.faults.push(Fault {
            at,
            does: Does::Says("421 4.3.2 closing for a moment".to_owned()),
            times: 1,
            sender: "",
        });
        let home = Served::start(home);
        let name = format!("{at:?}").to_lowercase();
        // To the first message of a session it is the site's, which is asked again after its interval.
        add(&world, &name, home.address(), "1s");
        homes.push((name, 3, home));
    }
    let ten = Served::start(Home::new(kinds::exim_of_ten()));
    add(&world, "ten", ten.address(), "1h");
    homes.push(("ten".to_owned(), 35, ten));
    for (name, count, _) in &homes {
        for n in 0..*count {
            send(&world, "a@b.example", &format!("user{n}"), name);
        }
    }
    for (name, count, home) in &homes {
        for n in 0..*count {
            arrives(home, "a@b.example", &format!("user{n}"), name);
        }
        let shown = world.drained(name);
        assert_ne!(shown["state"], "waiting", "{shown}");
    }
}

/// Takes so many recipients of a transaction; and one of its mailboxes is full.
#[derive(Debug, Default)]
struct Small {
    asked: Mutex<usize>,
    taken: Mutex<BTreeMap<String, usize>>,
}

const TOO_MANY: usize = 10;

impl Host for Small {
    fn rcpt(&self, argument: &str) -> Option<String> {
        if argument.contains("full@") {
            return Some("552 5.2.2 the mailbox is full".to_owned());
        }
        let mut asked = self.asked.lock().unwrap();
        *asked += 1;
        (*asked > TOO_MANY).then(|| "452 4.5.3 too many recipients".to_owned())
    }

    fn message(&self, message: Received) -> Verdict {
        *self.asked.lock().unwrap() = 0;
        for to in message.recipients {
            *self.taken.lock().unwrap().entry(to).or_default() += 1;
        }
        Verdict::Takes
    }
}

#[test]
fn recipients_beyond_a_limit_follow_at_once_and_a_full_mailbox_keeps_nobody_from_his_mail() {
    let mut world = World::start();
    let small = Arc::new(Small::default());
    let host: Arc<dyn Host> = small.clone();
    let site = Site::start(Script::plain().hosted(host));
    add(&world, "small", site.address(), "1h");
    let mut client = world.smtp();
    client.expect("MAIL FROM:<a@b.example>", 250);
    client.expect("RCPT TO:<full@small.example>", 250);
    for n in 0..25 {
        client.expect(&format!("RCPT TO:<user{n}@small.example>"), 250);
    }
    assert_eq!(client.data(&message("to-many")).code, 250);
    until("all who can have it to have it", PATIENCE, || {
        (small.taken.lock().unwrap().len() == 25).then_some(())
    });
    let taken = small.taken.lock().unwrap().clone();
    assert!(taken.values().all(|copies| *copies == 1), "{taken:?}");
    // RFC 5321 §4.5.3.1.10: 552 to RCPT is no end. The administrator sees what it says.
    let waits = until("one recipient to be left", PATIENCE, || {
        let waits = world.json(&["queue", "list", "small"]);
        waits
            .to_string()
            .contains("the mailbox is full")
            .then_some(waits)
    });
    assert_eq!(waits.as_array().map(Vec::len), Some(1), "{waits}");
    let refused = world.controller().lines("what an agent says is refused");
    assert!(refused.is_empty(), "{refused:?}");
}

#[test]
fn a_message_over_which_the_home_hangs_up_is_not_sent_again_and_again_after_a_release() {
    let mut world = World::start();
    let home = Site::start(Script::plain().but(At::Dot, Act::Break));
    add(&world, "breaks", home.address(), "1h");
    send(&world, "a@b.example", "user0", "breaks");
    until("the message to be in doubt", PATIENCE, || {
        let waits = world.json(&["queue", "list", "breaks"]);
        (waits[0]["in_doubt"] == true).then_some(())
    });
    home.forget();
    let _ = world.ddadm().run(&["etrn", "breaks"]).done();
    let _ = home.saw("an attempt after the release", |seen| seen.ended);
    // Another site, tried once a second, tells how time goes.
    add(&world, "clock", loopback::free_port(), "1s");
    send(&world, "a@b.example", "user0", "clock");
    let _ = world.agent("out1").log_line("site=clock");
    until("some seconds to pass", PATIENCE, || {
        (world.agent("out1").lines("site=clock").len() > 4).then_some(())
    });
    let attempts = home.connections().len();
    assert!(attempts <= 2, "{attempts}");
}

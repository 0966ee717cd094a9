//! What a site answers, and what the controller hears of it.

use std::sync::{Arc, Mutex, PoisonError};

use super::Bench;
use super::basics::send;
use crate::site::{Act, At, Host, Received, Script, Verdict};
use crate::submit::message;
use crate::wait::{PATIENCE, until};

/// 421 to a command is the session's end and nobody's refusal: the message comes later, once.
///
/// # Panics
/// The agent does not do it.
pub fn is_told_421_at_every_step(bench: &mut Bench) {
    let world = &bench.world;
    for (name, at, told) in [
        ("mail", At::Mail, "MAIL"),
        ("rcpt", At::Rcpt, "RCPT"),
        ("data", At::Data, "DATA\r\n"),
        ("dot", At::Dot, "\r\n.\r\n"),
    ] {
        // A home for each, so that none meets a session of the one before.
        let mut home = world.home(name, &["--retry", "1s", "--connections", "1"]);
        let good = Script::with(&world.ca.identity(&[&format!("{name}.example")]));
        home.behave(good.clone().says(at, "421 4.3.2 closing"));
        let mut feeder = world.smtp();
        feeder.send("a@b.example", &format!("me@{name}.example"), &message(name));
        home.saw(told, |seen| {
            crate::site::contains(&seen.secured, told.as_bytes())
        });
        home.behave(good);
        // RFC 5321 §3.8: whoever says 421 closes.
        home.stop();
        home.resume();
        home.received(1);
        world.drained(name);
    }
}

/// RFC 5321 §4.5.3.1.10.
///
/// # Panics
/// The agent does not do it.
pub fn puts_off_what_552_refuses_at_rcpt(bench: &mut Bench) {
    let world = &bench.world;
    let mut home = world.home("home", &["--retry", "1s", "--connections", "1"]);
    let good = Script::with(&world.ca.identity(&["home.example"]));
    home.behave(good.clone().says(At::Rcpt, "552 5.5.3 too many recipients"));
    send(world, "too many");
    let outcome = until("the attempt to be told", PATIENCE, || {
        let outcome = world.show("home")["last_attempts"][0]["outcome"].clone();
        outcome.is_string().then_some(outcome)
    });
    assert_eq!(outcome, "deferred");
    home.behave(good);
    home.stop();
    home.resume();
    home.received(1);
    world.drained("home");
}

/// Refuses one mailbox, and keeps what comes for the others.
#[derive(Debug, Default)]
struct OneIsGone(Mutex<Vec<Received>>);

impl OneIsGone {
    fn messages(&self) -> Vec<Received> {
        let messages = self.0.lock();
        messages.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Host for OneIsGone {
    fn rcpt(&self, argument: &str) -> Option<String> {
        let gone = argument.contains("gone@");
        gone.then(|| "550 5.1.1 no such mailbox".to_owned())
    }

    fn message(&self, message: Received) -> Verdict {
        let messages = self.0.lock();
        messages
            .unwrap_or_else(PoisonError::into_inner)
            .push(message);
        Verdict::Takes
    }
}

/// One of two recipients is refused: each is told to the controller under its own number, and settled.
///
/// # Panics
/// The agent does not do it.
pub fn names_each_recipient_with_its_own_answer(bench: &mut Bench) {
    let world = &bench.world;
    let home = world.home("home", &["--retry", "1h", "--connections", "1"]);
    let host = Arc::new(OneIsGone::default());
    let good = Script::with(&world.ca.identity(&["home.example"]));
    // A site that has accepted something is believed when it refuses.
    home.behave(good.hosted(host.clone()));
    send(world, "first");
    until("the first message", PATIENCE, || {
        (host.messages().len() == 1).then_some(())
    });
    world.drained("home");
    let mut feeder = world.smtp();
    feeder.expect("MAIL FROM:<a@b.example>", 250);
    for name in ["gone", "me"] {
        feeder.expect(&format!("RCPT TO:<{name}@home.example>"), 250);
    }
    let reply = feeder.data(&message("to two"));
    assert_eq!(reply.code, 250, "{reply:?}");
    world.drained("home");
    let messages = host.messages();
    assert_eq!(messages.len(), 2, "one copy each");
    assert_eq!(messages[1].recipients, ["<me@home.example>"]);
}

/// No downgrade and no refusal: what the host does not offer is not asked for, and the content is the same.
///
/// # Panics
/// The agent does not do it.
pub fn hands_eight_bits_to_a_host_that_offers_no_extension(bench: &mut Bench) {
    let world = &bench.world;
    let home = world.home("home", &["--retry", "1h"]);
    let good = Script::with(&world.ca.identity(&["home.example"]));
    home.behave(good.says(At::Ehlo, "250-home.example\r\n250 STARTTLS"));
    let mut content = message("eight bits");
    content.extend("Grüße, und ein Punkt:\r\n.\r\n..\r\n".as_bytes());
    let mut feeder = world.smtp();
    feeder.send("a@b.example", "me@home.example", &content);
    let got = home.received(1).remove(0);
    assert!(got.content.ends_with(&content), "the content has changed");
    assert_eq!(got.mail, "<a@b.example>", "parameters that nobody offered");
    world.drained("home");
}

/// Nobody knows whether it arrived: it is sent again, and marked as what may be a second copy.
///
/// # Panics
/// The agent does not do it.
pub fn takes_silence_behind_the_dot_for_doubt(bench: &mut Bench) {
    let world = &bench.world;
    let mut home = world.home("home", &["--retry", "1s", "--connections", "1"]);
    let good = Script::with(&world.ca.identity(&["home.example"]));
    home.behave(good.clone().but(At::Dot, Act::Hang));
    send(world, "cut off");
    home.saw("the dot", |seen| seen.secured.ends_with(b"\r\n.\r\n"));
    home.behave(good);
    home.stop();
    home.resume();
    let outcome = until("the attempt to be told", PATIENCE, || {
        let shown = world.show("home");
        let attempts = shown["last_attempts"].as_array()?;
        let outcome = attempts.last()?["outcome"].clone();
        outcome.is_string().then_some(outcome)
    });
    assert_eq!(outcome, "in-doubt");
    home.received(1);
    world.drained("home");
}

//! The two lines of every message's life, as people grep for them: accepted, and settled, the latter once for each site.

use dd_tests::site::{At, Script};
use dd_tests::submit::message;
use dd_tests::wait::{PATIENCE, until};
use dd_tests::world::World;

#[test]
fn a_messages_life_is_an_accepted_line_and_a_settled_line_for_each_site() {
    let mut world = World::start();
    let _home = world.home("home", &[]);
    let mut office = world.home("office", &[]);
    let identity = world.ca.identity(&["office.example"]);
    // What it refuses is believed once it has taken something.
    let taken = world
        .smtp()
        .send("", "you@office.example", &message("taken"));
    settled(&mut world, &taken, 1);
    // What is open goes on as it was.
    office.stop();
    office.behave(Script::with(&identity).says(At::Rcpt, "550 5.1.1 nobody of that name"));
    office.resume();
    let mut shop = world.home("shop", &["--retry", "1h"]);
    shop.stop();

    let mut client = world.smtp();
    client.expect("MAIL FROM:<a@b.example>", 250);
    for to in ["me@home.example", "her@home.example", "you@office.example"] {
        client.expect(&format!("RCPT TO:<{to}>"), 250);
    }
    let relayed = client.data(&message("relayed and refused")).id();
    settled(&mut world, &relayed, 2);
    let sent = |client: &mut dd_tests::submit::Client, subject: &str| {
        client.send("", "me@shop.example", &message(subject))
    };
    let removed = sent(&mut client, "removed");
    world.site_is("shop", "waiting");
    let _ = world.ddadm().run(&["queue", "remove", &removed]).done();
    settled(&mut world, &removed, 1);
    let given_up = sent(&mut client, "given up");
    let _ = world
        .ddadm()
        .run(&["site", "remove", "shop", "--fail"])
        .done();
    settled(&mut world, &given_up, 1);

    let mut text = String::new();
    for id in [&relayed, &removed, &given_up] {
        let mut lines = world.controller().lines(&format!("id={id} "));
        // Two sites settle in any order.
        lines.sort_by_key(|line| (site(line), line.clone()));
        for line in lines {
            text.push_str(&redacted(&line, id));
            text.push('\n');
        }
    }
    insta::assert_snapshot!(text);
}

/// It lies in a file, and is not in memory when it is settled.
#[test]
fn a_large_message_is_named_like_any_other() {
    let mut world = World::start();
    let _home = world.home("home", &[]);
    let mut shop = world.home("shop", &["--retry", "1h"]);
    shop.stop();
    let large = [message("large"), b"what it says\r\n".repeat(30_000)].concat();
    let mut client = world.smtp();
    let relayed = client.send("", "me@home.example", &large);
    let removed = client.send("", "me@shop.example", &large);
    settled(&mut world, &relayed, 1);
    world.site_is("shop", "waiting");
    let _ = world.ddadm().run(&["queue", "remove", &removed]).done();
    settled(&mut world, &removed, 1);
    for id in [relayed, removed] {
        for line in world.controller().lines(&format!("id={id} ")) {
            assert!(
                line.contains("message_id=\"<large@elsewhere.example>\""),
                "{line}"
            );
        }
    }
}

/// Waits for so many lines that end a message's life at a site.
fn settled(world: &mut World, id: &str, count: usize) {
    until(&format!("{count} last lines of {id}"), PATIENCE, || {
        let lines = world.controller().lines(&format!("id={id} "));
        let last = lines.iter().filter(|line| line.contains(" site="));
        (last.count() == count).then_some(())
    });
}

fn site(line: &str) -> String {
    let value = line.split_once(" site=").map(|(_, rest)| rest);
    let name = value.and_then(|rest| rest.split(' ').next());
    name.unwrap_or_default().to_owned()
}

/// Without what differs from run to run: the time, the ID, ports and addresses, how long it took.
fn redacted(line: &str, id: &str) -> String {
    let (_, line) = line.split_once(' ').expect("a line begins with its time");
    let words = line.trim_start().split(' ').map(|word| {
        let of = |name: &str| word.strip_prefix(name);
        match () {
            () if of("address=").is_some_and(|it| it.len() > 2) => "address=ADDRESS".to_owned(),
            () if of("delays=").is_some() => format!("delays={}", numbers(&word[7..])),
            () => word.replace(id, "ID"),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Digits become N, as many as there are between two other characters.
fn numbers(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        match c {
            c if c.is_ascii_digit() && shown.ends_with('N') => {}
            c if c.is_ascii_digit() => shown.push('N'),
            c => shown.push(c),
        }
    }
    shown
}

#[test]
fn what_intake_refuses_leaves_a_line_that_answers_the_postmasters_question() {
    let mut world = World::start();
    let _home = world.home("home", &["--recipient", "me@home.example"]);
    let mut client = world.smtp();
    client.expect("MAIL FROM:<a@b.example>", 250);
    client.expect("RCPT TO:<x@nope.example>", 550);
    client.expect("RCPT TO:<other@home.example>", 550);
    client.expect("RCPT TO:<me@home.example>", 250);
    assert_eq!(client.data(b"a\x00b\r\n").code, 550);
    client.expect("MAIL FROM:<> SIZE=999999999999", 552);
    let log = world.controller();
    for parts in [
        [
            "recipient=\"x@nope.example\"",
            "reply=\"550 5.1.2 <x@nope.example>",
        ],
        [
            "recipient=\"other@home.example\"",
            "reply=\"550 5.1.1 <other@home.example>",
        ],
        ["recipient=\"me@home.example\"", "reply=\"550 5.6.0 "],
    ] {
        let line = log.log_line(parts[1]);
        let from = "refused client=127.0.0.1 helo=\"feeder.example\" sender=\"a@b.example\"";
        assert!(line.contains(from) && line.contains(parts[0]), "{line}");
    }
    let line = log.log_line("reply=\"552 5.3.4 ");
    assert!(line.contains("sender=\"\" recipient=\"\""), "{line}");
    assert_eq!(log.lines("refused client=").len(), 4);
}

#[test]
fn what_keeps_a_program_from_starting_is_said_once() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("nowhere");
    for name in ["dd-controller", "dd-agent"] {
        let mut command = std::process::Command::new(dd_tests::process::program(name));
        let ended = command.arg("--config").arg(&missing).output().unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert!(!ended.status.success(), "{name}: {said}");
        assert_eq!(said.matches("os error").count(), 1, "{name}: {said}");
    }
}

//! A disk without room or without names: mail is put off with 452, what waits drains, and all goes on when there is room.

use dd_tests::layout::Layout;
use dd_tests::site::Site;
use dd_tests::submit::{Client, Protocol, message};
use dd_tests::tmpfs::Tmpfs;
use dd_tests::wait::{PATIENCE, until};
use dd_tests::world::World;

const MIB: u64 = 1 << 20;

#[test]
fn a_full_disk_answers_452_drains_and_recovers_by_itself() {
    let disk = Tmpfs::new(320 * MIB, 100_000);
    let mut world = on(&disk);
    let (mut home, mut before) = waiting(&world);
    disk.fill(0);
    before += refused(&mut world);
    recovers(&mut world, &mut home, before, &disk);
}

#[test]
fn a_disk_that_is_nearly_full_answers_452_before_anything_fails() {
    let disk = Tmpfs::new(320 * MIB, 100_000);
    let mut world = on(&disk);
    let (mut home, mut before) = waiting(&world);
    disk.fill(32 * MIB);
    before += refused(&mut world);
    assert!(world.controller().runs());
    recovers(&mut world, &mut home, before, &disk);
}

#[test]
fn a_full_disk_at_the_start_loses_nothing_either() {
    let disk = Tmpfs::new(320 * MIB, 100_000);
    let mut world = on(&disk);
    let (mut home, mut before) = waiting(&world);
    disk.fill(0);
    before += refused(&mut world);
    world.kill_controller();
    world.start_controller();
    before += refused(&mut world);
    recovers(&mut world, &mut home, before, &disk);
}

#[test]
fn without_names_for_files_nothing_is_lost_and_all_goes_on_when_there_are_some() {
    let disk = Tmpfs::new(320 * MIB, 2_000);
    let mut world = on(&disk);
    let (mut home, before) = waiting(&world);
    disk.fill_inodes();
    // A large message needs a file of its own.
    let mut client = world.smtp();
    let sent = client.try_send("a@b.example", "me@home.example", &large());
    assert_eq!(sent, None);
    assert!(world.controller().runs());
    drains(&mut world, &mut home, before);
    disk.free();
    taken(&mut world);
    let sent = world
        .smtp()
        .send("a@b.example", "me@home.example", &large());
    assert!(!sent.is_empty());
    home.received(before + 2);
    world.drained("home");
}

/// Its journal cannot be written, so it could send no dot.
#[test]
fn an_agent_without_room_says_so_gets_no_work_and_recovers_by_itself() {
    let disk = Tmpfs::new(4 * MIB, 1_000);
    let layout = Layout {
        agents_state: Some(disk.path().to_owned()),
        ..Layout::default()
    };
    let mut world = World::laid_out(layout, 1);
    let home = world.home("home", &["--retry", "1h"]);
    disk.fill(0);
    let mut sent = 0;
    let shown = until("the agent to say that it has no room", PATIENCE, || {
        world
            .smtp()
            .send("a@b.example", "me@home.example", &message("waits"));
        sent += 1;
        let agents = world.json(&["agent", "list"]);
        (agents[0]["state"] == "unhealthy").then(|| agents.to_string())
    });
    assert!(shown.contains("journal"), "{shown}");
    // It stays attached, and does not try in vain.
    let tries = |world: &mut World| world.agent("out1").lines("attempt ended").len();
    let before = tries(&mut world);
    world
        .smtp()
        .send("a@b.example", "me@home.example", &message("waits"));
    let ended = world.agent("out1").lines("not attached").len();
    disk.free();
    world.attached("out1");
    home.received(sent + 1);
    world.drained("home");
    assert!(tries(&mut world) <= before + 1);
    assert_eq!(ended, world.agent("out1").lines("not attached").len());
}

fn on(disk: &Tmpfs) -> World {
    let layout = Layout {
        controller_state: Some(disk.path().join("controller")),
        store: "segment_bytes = \"1M\"".to_owned(),
        ..Layout::default()
    };
    World::laid_out(layout, 1)
}

/// A site that is away, and how many messages wait for it: enough for several segments.
fn waiting(world: &World) -> (Site, usize) {
    let mut home = world.home("home", &["--retry", "1s"]);
    home.stop();
    let mut client = world.smtp();
    let count = 40;
    for number in 0..count {
        let mut content = message(&format!("number-{number}"));
        content.extend(
            b"0123456789012345678901234567890123456789012345678901234567890\r\n".repeat(2_000),
        );
        client.send("a@b.example", "me@home.example", &content);
    }
    (home, count)
}

fn large() -> Vec<u8> {
    let mut content = message("large");
    content.extend(
        b"0123456789012345678901234567890123456789012345678901234567890\r\n".repeat(10_000),
    );
    content
}

/// Starts the controller again if it has ended, as the machine's service manager does.
fn supervise(world: &mut World) {
    if !world.controller().runs() {
        world.start_controller();
    }
}

/// What waits goes out, and with room again new mail comes in, by itself.
fn recovers(world: &mut World, home: &mut Site, waiting: usize, disk: &Tmpfs) {
    drains(world, home, waiting);
    disk.free();
    taken(world);
    home.received(waiting + 1);
    world.drained("home");
}

/// Lets the site have all that waits for it. The index may meet the full disk at any time, and then the controller ends.
fn drains(world: &mut World, home: &mut Site, count: usize) {
    home.resume();
    until("the site to have its mail", PATIENCE, || {
        supervise(world);
        (home.messages().len() >= count).then_some(())
    });
    home.received(count);
}

/// Waits until mail is put off; how many messages were taken before, for a start makes a little room.
fn refused(world: &mut World) -> usize {
    let mut taken = 0;
    until("intake to answer 452", PATIENCE, || {
        supervise(world);
        let mut client = Client::try_connect(world.listeners().smtp, Protocol::Smtp)?;
        let codes = [
            "MAIL FROM:<a@b.example>",
            "RCPT TO:<me@home.example>",
            "DATA",
        ];
        let refused = codes.iter().find_map(|line| {
            let reply = client.say(line);
            (reply.code >= 400).then_some(reply)
        });
        let reply = refused.unwrap_or_else(|| {
            client.write(b"Subject: late\r\n\r\nhello\r\n.\r\n");
            client.reply()
        });
        assert!(reply.code < 500, "{} {}", reply.code, reply.text);
        taken += usize::from(reply.code == 250);
        (reply.code == 452).then_some(())
    });
    taken
}

/// Waits until mail is taken again.
fn taken(world: &mut World) {
    until("intake to take mail again", PATIENCE, || {
        supervise(world);
        let mut client = Client::try_connect(world.listeners().smtp, Protocol::Smtp)?;
        client.try_send("a@b.example", "me@home.example", &message("after"))
    });
}

//! A large message passes through without passing through memory.

use dd_tests::submit::message;
use dd_tests::world::World;

const SIZE: usize = 50 * 1024 * 1024;
const ALLOWED: u64 = 16 * 1024 * 1024;

#[test]
fn fifty_megabytes_pass_while_neither_program_grows_by_sixteen() {
    let mut world = World::start();
    let home = world.home("home", &[]);
    world
        .smtp()
        .send("a@b.example", "me@home.example", &message("small"));
    home.received(1);
    world.drained("home");
    let before = peaks(&mut world);

    let mut content = message("large");
    content.reserve(SIZE);
    let line = format!("{}\r\n", "x".repeat(70));
    while content.len() < SIZE {
        content.extend_from_slice(line.as_bytes());
    }
    world
        .smtp()
        .send("a@b.example", "me@home.example", &content);
    let got = home.received(2).remove(1);
    assert!(got.content.ends_with(&content), "not what was sent");

    let after = peaks(&mut world);
    for (program, (before, after)) in ["controller", "agent"].iter().zip(before.iter().zip(after)) {
        let grown = after - before;
        assert!(grown < ALLOWED, "the {program} grew by {grown} bytes");
    }
}

/// The most memory that controller and agent ever had.
fn peaks(world: &mut World) -> [u64; 2] {
    [
        world.controller().peak_memory(),
        world.agent("out1").peak_memory(),
    ]
}

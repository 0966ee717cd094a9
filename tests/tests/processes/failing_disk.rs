//! Syncs and writes that fail: nothing is acknowledged any more, the process ends, and the next start has everything.

use std::process::Command;

use dd_tests::layout::Layout;
use dd_tests::site::Site;
use dd_tests::submit::message;
use dd_tests::world::World;

/// Debian's fiu-utils: makes calls fail on demand.
const LIBRARIES: &str = "/usr/lib/fiu/fiu_run_preload.so /usr/lib/fiu/fiu_posix_preload.so";
/// EIO.
const IO_ERROR: u32 = 5;
/// ENOSPC, which inside an allocated segment is as final as any other.
const NO_SPACE: u32 = 28;

#[test]
fn a_sync_that_fails_ends_the_controller_and_loses_nothing() {
    ends_clean("posix/io/sync/fdatasync", IO_ERROR);
}

#[test]
fn a_write_that_fails_inside_a_segment_ends_the_controller_and_loses_nothing() {
    ends_clean("posix/io/rw/pwrite", IO_ERROR);
}

#[test]
fn a_disk_that_lies_about_the_room_inside_a_segment_ends_the_controller_and_loses_nothing() {
    ends_clean("posix/io/rw/pwrite", NO_SPACE);
}

#[test]
fn a_content_file_that_cannot_be_synced_is_not_acknowledged() {
    let (mut world, home, mut sent) = world();
    fails(&mut world, "posix/io/sync/fsync", IO_ERROR);
    let mut large = message("large");
    large.extend(
        b"0123456789012345678901234567890123456789012345678901234567890\r\n".repeat(10_000),
    );
    let refused = world
        .smtp()
        .try_send("a@b.example", "me@home.example", &large);
    assert_eq!(refused, None);
    again(&mut world, home, &mut sent);
}

fn ends_clean(call: &str, errno: u32) {
    let (mut world, home, mut sent) = world();
    let mut client = world.smtp();
    fails(&mut world, call, errno);
    let refused = client.try_send("a@b.example", "me@home.example", &message("refused"));
    assert_eq!(refused, None, "acknowledged on a disk that fails");
    let status = world.controller().ended();
    assert!(!status.success(), "{status}");
    again(&mut world, home, &mut sent);
}

/// A site that is away, with mail that waits for it.
fn world() -> (World, Site, Vec<String>) {
    let mut world = World::laid_out(Layout::default(), 1);
    let mut home = world.home("home", &["--retry", "1s"]);
    home.stop();
    world.stop_controller();
    let pipes = world.path().join("fiu").display().to_string();
    world.layout.environment = vec![
        ("LD_PRELOAD".to_owned(), LIBRARIES.to_owned()),
        ("FIU_CTRL_FIFO".to_owned(), pipes),
        ("FIU_ENABLE".to_owned(), String::new()),
    ];
    world.start_controller();
    let mut client = world.smtp();
    let sent = (0..20)
        .map(|number| {
            let subject = format!("number-{number}");
            client.send("a@b.example", "me@home.example", &message(&subject));
            subject
        })
        .collect();
    (world, home, sent)
}

/// From here on the call fails in the controller.
fn fails(world: &mut World, call: &str, errno: u32) {
    let pid = world.controller().pid().to_string();
    let output = Command::new("fiu-ctrl")
        .arg("-f")
        .arg(world.path().join("fiu"))
        .args(["-c", &format!("enable name={call},failinfo={errno}")])
        .arg(pid)
        .output()
        .expect("fiu-ctrl can be run");
    assert!(output.status.success(), "{output:?}");
}

/// The next start, on a disk that works again.
fn again(world: &mut World, mut home: Site, sent: &mut Vec<String>) {
    world.layout.environment.clear();
    if world.controller().runs() {
        world.kill_controller();
    }
    world.start_controller();
    world.attached("out1");
    world
        .smtp()
        .send("a@b.example", "me@home.example", &message("after"));
    sent.push("after".to_owned());
    home.resume();
    world.drained("home");
    let copies = home.copies();
    for subject in sent {
        assert_eq!(copies.get(subject.as_str()), Some(&1), "{subject}");
    }
}

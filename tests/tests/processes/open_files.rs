//! The limit of open files: raised as far as it goes; where that is not far enough, less is taken on.

use std::fs::read_to_string;

use dd_tests::layout::Layout;
use dd_tests::submit::message;
use dd_tests::world::World;

#[test]
fn the_soft_limit_is_raised_to_the_hard_one_and_only_as_many_probes_are_offered_as_fit() {
    let layout = Layout::with_open_files(64, 1024);
    let mut world = World::laid_out(layout, 1);
    for process in [world.controller().pid(), world.agent("out1").pid()] {
        let limits = read_to_string(format!("/proc/{process}/limits")).unwrap();
        let limit = limits
            .lines()
            .find(|line| line.starts_with("Max open files"));
        let words: Vec<&str> = limit.unwrap().split_whitespace().collect();
        assert_eq!(words[3..5], ["1024", "1024"], "{limits}");
    }
    let agent = world.agent("out1");
    let _ = agent.log_line("only 448 of 4096 probes fit");
    let starts = agent.log_line("dd-agent starts");
    assert!(starts.contains("probes=448"), "{starts}");
    let _ = world
        .controller()
        .log_line("1000 sessions of feeders may not fit");
    let home = world.home("home", &[]);
    world
        .smtp()
        .send("a@b.example", "me@home.example", &message("one"));
    let _ = home.received(1);
}

#[test]
fn where_the_limit_is_high_enough_nobody_is_warned() {
    let layout = Layout::with_open_files(1024, 16384);
    let mut world = World::laid_out(layout, 1);
    let starts = world.agent("out1").log_line("dd-agent starts");
    assert!(starts.contains("probes=4096"), "{starts}");
    assert!(world.agent("out1").lines("open files").is_empty());
    assert!(world.controller().lines("open files:").is_empty());
}

//! The wall clock jumps by a year, forth and back: nothing expires, there is an alarm until it is
//! confirmed, and the mail is delivered.

use dd_tests::faketime;
use dd_tests::layout::Layout;
use dd_tests::submit::message;
use dd_tests::wait::{PATIENCE, until};
use dd_tests::world::World;

#[test]
fn a_year_forth_bounces_nothing_and_raises_an_alarm() {
    jumps("+365d");
}

#[test]
fn a_year_back_bounces_nothing_and_raises_an_alarm() {
    jumps("-365d");
}

fn jumps(by: &str) {
    let mut world = World::laid_out(Layout::default(), 1);
    let mut home = world.home("home", &["--retry", "1s"]);
    world.stop_controller();
    let clock = world.path().join("clock");
    faketime::set(&clock, "+0d");
    world.layout.environment = faketime::told_by(clock.to_str().unwrap());
    world.start_controller();
    world.attached("out1");
    home.stop();
    let mut client = world.smtp();
    for number in 0..5 {
        let content = message(&format!("number-{number}"));
        client.send("a@b.example", "me@home.example", &content);
    }
    world.site_is("home", "waiting");
    let before = world.show("home")["last_attempts"][0]["at"].clone();
    faketime::set(&clock, by);
    until("an alarm", PATIENCE, || {
        let said = world
            .controller()
            .lines("nothing expires until the clock is confirmed");
        (!said.is_empty()).then_some(())
    });
    until("an attempt on the new clock", PATIENCE, || {
        let at = &world.show("home")["last_attempts"][0]["at"];
        let year = |at: &serde_json::Value| at.as_str().map(|at| at[..4].to_owned());
        (year(at) != year(&before)).then_some(())
    });
    assert_eq!(world.show("home")["queued"]["messages"], 5);
    faketime::set(&clock, "+0d");
    let confirmed = world.json(&["clock", "confirm"]);
    let alarm = confirmed["alarm"].as_str().unwrap_or_default();
    assert!(alarm.contains("the wall clock went"), "{confirmed}");
    let again = world.json(&["clock", "confirm"]);
    assert_eq!(again["alarm"], serde_json::Value::Null);
    let audit = world.ddadm().run(&["audit"]).done().stdout;
    assert!(audit.contains("clock confirmed"), "{audit}");
    home.resume();
    home.received(5);
    world.drained("home");
}

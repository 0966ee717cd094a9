//! Two controllers never share a state directory.

use std::process::Command;

use dd_tests::process::program;
use dd_tests::submit::message;
use dd_tests::world::World;

#[test]
fn a_second_controller_on_the_same_state_refuses_and_harms_nothing() {
    let world = World::start();
    let home = world.home("home", &["--retry", "1s"]);
    let output = Command::new(program("dd-controller"))
        .arg("--config")
        .arg(world.path().join("controller.toml"))
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("another controller runs"), "{said}");
    world
        .smtp()
        .send("a@b.example", "me@home.example", &message("after"));
    home.received(1);
    world.drained("home");
}

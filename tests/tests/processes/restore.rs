//! From a backup: what `docs/operate.md` says is to be kept is enough, on the same machine and on another.

use std::fs;
use std::path::Path;
use std::process::Command;

use dd_tests::process::program;
use dd_tests::submit::message;
use dd_tests::world::World;

/// As `cp -a` or a snapshot of the file system does it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let copied = Command::new("cp")
        .arg("-a")
        .arg(from.join("."))
        .arg(to)
        .status();
    assert!(copied.unwrap().success());
}

#[test]
fn a_copy_of_the_state_is_the_same_controller_on_another_machine() {
    let mut world = World::start();
    let mut home = world.home("home", &["--retry", "1h"]);
    home.stop();
    let id = world
        .smtp()
        .send("a@b.example", "me@home.example", &message("kept"));
    let identity = world.path().join("anna");
    let out = identity.display().to_string();
    let _ = world
        .ddadm()
        .run(&["admin", "add", "anna", "--out", &out])
        .done();
    let before = world.json(&["registry", "export"]);
    world.stop_controller();

    // The old machine is gone; the new one has another directory.
    let moved = world.path().join("moved");
    copy(&world.controller_state(), &moved);
    fs::remove_dir_all(world.controller_state()).unwrap();
    world.layout.controller_state = Some(moved);
    world.start_controller();
    world.all_known();
    assert_eq!(world.json(&["registry", "export"]), before);
    let queue = world.json(&["queue", "list", "home"]).to_string();
    assert!(queue.contains(&id), "{queue}");
    // Nobody joins again, and administrators are who they were.
    world.attached("out1");
    let url = format!("https://{}", world.listeners().control);
    let mut ddadm = Command::new(program("ddadm"));
    ddadm.args(["--controller", &url, "--identity", &out, "status"]);
    assert!(ddadm.output().unwrap().status.success());
}

#[test]
fn sites_from_the_file_alone_come_back_and_agents_join_anew() {
    let mut world = World::start();
    let _home = world.home("home", &[]);
    let file = world.path().join("kept.toml");
    fs::write(
        &file,
        world.ddadm().run(&["registry", "export"]).done().stdout,
    )
    .unwrap();
    world.kill_agent("out1");
    world.stop_controller();
    fs::remove_dir_all(world.controller_state()).unwrap();
    world.start_controller();
    let shown = file.display().to_string();
    let tried = world.json(&["registry", "apply", &shown, "--dry-run"]);
    assert_eq!(tried["dry_run"], true);
    assert_eq!(
        world.json(&["site", "list"]),
        serde_json::json!([]),
        "nothing was changed"
    );
    let _ = world.ddadm().run(&["registry", "apply", &shown]).done();
    assert_eq!(world.show("home")["name"], "home");
    // The control plane's authority is another one, so the kept certificate is good for nothing: the token is used.
    let token = world.json(&["agent", "token", "out1"]);
    let token = token["token"].as_str().unwrap().to_owned();
    world.start_agent_with("out1", &["--join", &token]);
    world.attached("out1");
}

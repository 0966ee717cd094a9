//! Administrators from another machine: each is its key, has a role, and is let in no more from the moment it is removed.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use dd_tests::faketime;
use dd_tests::process::program;
use dd_tests::wait::{PATIENCE, until};
use dd_tests::world::World;

/// `ddadm` on another machine, with what `admin add` wrote; the way to the controller stands in the environment.
fn remote(world: &World, identity: &Path) -> Command {
    let mut ddadm = Command::new(program("ddadm"));
    ddadm
        .env(
            "DDADM_CONTROLLER",
            format!("https://{}", world.listeners().control),
        )
        .env("DDADM_IDENTITY", identity);
    ddadm
}

fn ran(world: &World, identity: &Path, args: &[&str]) -> Output {
    remote(world, identity).args(args).output().unwrap()
}

#[track_caller]
fn is_done(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

#[track_caller]
fn is_refused(output: &Output, says: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(says), "{said}");
}

fn add(world: &World, name: &str, role: &str) -> std::path::PathBuf {
    let out = world.path().join(name);
    let shown = out.display().to_string();
    let _ = world
        .ddadm()
        .run(&["admin", "add", name, "--role", role, "--out", &shown])
        .done();
    out
}

#[test]
fn an_administrator_does_what_its_role_allows_until_it_is_removed() {
    let world = World::start();
    let _home = world.home("home", &[]);
    let reader = add(&world, "rita", "reader");
    let operator = add(&world, "otto", "operator");
    let admin = add(&world, "anna", "admin");
    for identity in [&reader, &operator, &admin] {
        is_done(&ran(&world, identity, &["status"]));
        is_done(&ran(&world, identity, &["site", "show", "home"]));
        is_done(&ran(&world, identity, &["admin", "list"]));
    }
    let hold: &[&str] = &["site", "hold", "home"];
    is_refused(
        &ran(&world, &reader, hold),
        "the role reader may not do this",
    );
    is_done(&ran(&world, &operator, hold));
    is_done(&ran(&world, &operator, &["site", "resume", "home"]));
    let export: &[&str] = &["registry", "export"];
    is_refused(&ran(&world, &reader, export), "it takes admin");
    is_refused(&ran(&world, &operator, export), "it takes admin");
    is_done(&ran(&world, &admin, export));

    // Who did it stands in the audit.
    let audit = world.json(&["audit"]).to_string();
    assert!(
        audit.contains("\"otto\"") && audit.contains("site home held"),
        "{audit}"
    );
    let listed = world.json(&["admin", "list"]);
    let of = |name: &str| {
        let admins = listed.as_array().unwrap().iter();
        let mut admins = admins.filter(|it| it["name"] == name);
        admins
            .next()
            .unwrap_or_else(|| panic!("{name} is not in {listed}"))
            .clone()
    };
    assert_eq!(of("rita")["role"], "reader");
    assert!(of("rita")["last_seen"].is_string(), "{listed}");
    assert!(of("rita")["not_after"].is_string(), "{listed}");
    assert_eq!(
        of("admin")["role"],
        "admin",
        "the one in the state directory"
    );

    let _ = world.ddadm().run(&["admin", "remove", "anna"]).done();
    is_refused(
        &ran(&world, &admin, &["status"]),
        "`anna` is not registered",
    );
    world
        .ddadm()
        .run(&["admin", "remove", "anna"])
        .refused(4, "anna");
}

#[test]
fn a_removal_ends_what_is_being_called() {
    let world = World::start();
    let identity = add(&world, "rita", "reader");
    let mut watching: Child = remote(&world, &identity)
        .arg("watch")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("rita to be seen", PATIENCE, || {
        let listed = world.json(&["admin", "list"]).to_string();
        listed.contains("rita").then_some(())
    });
    let seen = || {
        let listed = world.json(&["admin", "list"]);
        let admins = listed.as_array().unwrap().iter();
        admins
            .filter(|it| it["name"] == "rita")
            .any(|it| it["last_seen"].is_string())
    };
    until("the stream to begin", PATIENCE, || seen().then_some(()));
    let _ = world.ddadm().run(&["admin", "remove", "rita"]).done();
    let ended = until("the stream to end", PATIENCE, || {
        watching.try_wait().unwrap()
    });
    assert_eq!(ended.code(), Some(1));
    let said = watching.wait_with_output().unwrap().stderr;
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("`rita` is not registered"), "{said}");
}

#[test]
fn an_identity_renews_itself_while_it_is_used_and_ends_when_it_is_not() {
    let mut world = World::start();
    let identity = add(&world, "anna", "admin");
    let before = std::fs::read(identity.join("admin.pem")).unwrap();
    is_done(&ran(&world, &identity, &["status"]));
    assert_eq!(std::fs::read(identity.join("admin.pem")).unwrap(), before);
    let unused = add(&world, "ulf", "reader");

    world.stop_controller();
    world.layout.environment = faketime::off_by("+61d");
    world.start_controller();
    let at_61_days = |identity: &Path| {
        let mut ddadm = remote(&world, identity);
        ddadm.envs(faketime::off_by("+61d")).arg("status");
        ddadm.output().unwrap()
    };
    is_done(&at_61_days(&identity));
    let renewed = std::fs::read(identity.join("admin.pem")).unwrap();
    assert_ne!(renewed, before);
    // The one in the state directory is renewed by the controller itself.
    world.stop_controller();
    world.layout.environment = faketime::off_by("+100d");
    world.start_controller();
    let at_100_days = |identity: &Path| {
        let mut ddadm = remote(&world, identity);
        ddadm.envs(faketime::off_by("+100d")).arg("status");
        ddadm.output().unwrap()
    };
    is_done(&at_100_days(&identity));
    is_done(&at_100_days(&world.controller_state().join("admin")));
    is_refused(&at_100_days(&unused), "was valid until");
}

#[test]
fn an_identity_that_was_removed_is_let_in_by_no_later_start() {
    let mut world = World::start();
    let admin = world.controller_state().join("admin");
    is_done(&ran(&world, &admin, &["status"]));
    let _ = world.ddadm().run(&["admin", "remove", "admin"]).done();
    is_refused(&ran(&world, &admin, &["status"]), "not registered");
    world.stop_controller();
    world.start_controller();
    is_refused(&ran(&world, &admin, &["status"]), "not registered");
}

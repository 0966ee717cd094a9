//! `ddadm site check`: every agent says what it sees, step by step, and nobody gets mail.

use dd_tests::site::Script;
use dd_tests::world::World;
use serde_json::Value;

fn steps(check: &Value) -> Vec<(String, String)> {
    let host = &check["hosts"][0];
    let steps = host["steps"].as_array().expect("steps");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    steps
        .iter()
        .map(|step| (text(&step["name"]), text(&step["result"])))
        .collect()
}

fn is_bad(check: &Value) -> Vec<String> {
    let bad = |(name, result): (String, String)| (result == "bad").then_some(name);
    steps(check).into_iter().filter_map(bad).collect()
}

#[test]
fn every_agent_says_what_it_sees_and_no_mail_is_sent() {
    let world = World::with_agents(2);
    let home = world.home("home", &[]);
    let checks = world.json(&["site", "check", "home"]);
    let agents: Vec<_> = checks.as_array().unwrap().iter().collect();
    assert_eq!(agents.len(), 2, "{checks}");
    for check in agents {
        assert_eq!(check["proved"], true, "{checks}");
        let names: Vec<String> = steps(check).into_iter().map(|(name, _)| name).collect();
        assert_eq!(
            names,
            [
                "resolve", "connect", "banner", "starttls", "chain", "name", "expiry", "proof",
                "size"
            ],
            "{checks}"
        );
        assert_eq!(is_bad(check), [""; 0], "{checks}");
        let host = &check["hosts"][0];
        assert_eq!(host["certificate"]["names"][0], "home.example", "{checks}");
    }
    let one = world.json(&["site", "check", "home", "--agent", "out2"]);
    assert_eq!(one.as_array().unwrap().len(), 1, "{one}");
    assert_eq!(one[0]["agent"], "out2", "{one}");
    assert_eq!(home.messages().len(), 0);
    let seen = home.saw("three sessions to end", |seen| seen.ended);
    let secured = String::from_utf8_lossy(&seen.secured).into_owned();
    assert!(!secured.contains("MAIL"), "{secured}");
    let shown = world.show("home");
    assert_eq!(shown["state"], "idle");
    // A roll-over that is finished counts what homes show to mail, and not what somebody looked at.
    let sights = shown["shown"]["sights"].as_array().map_or(0, Vec::len);
    assert_eq!(sights, 0, "{shown}");
}

#[test]
fn a_check_says_at_which_step_it_ends_and_exits_with_5() {
    let world = World::start();
    let home = world.home("home", &[]);
    let with = |names: &[&str]| Script::with(&world.ca.identity(names));
    let stranger = dd_tests::ca::Ca::new("Members of the provider");
    for (script, step, reason) in [
        (
            Script::with(&stranger.identity(&["home.example"])),
            "chain",
            "SameNameOtherKey",
        ),
        (with(&["neighbour.example"]), "name", "NameMismatch"),
        (Script::plain(), "starttls", "NoStartTls"),
    ] {
        home.behave(script);
        let outcome = world
            .ddadm()
            .run(&["--output", "json", "site", "check", "home"]);
        assert_eq!(outcome.code, 5, "{outcome}");
        let checks: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
        assert_eq!(checks[0]["proved"], false, "{checks}");
        assert_eq!(is_bad(&checks[0]), [step], "{checks}");
        let refusal = &checks[0]["hosts"][0]["refusal"];
        assert_eq!(refusal["reason"], reason, "{checks}");
        let wanted = refusal["wanted"].as_str().unwrap();
        assert!(wanted.contains("home.example"), "{checks}");
    }
    let outcome = world.ddadm().run(&["site", "check", "nobody"]);
    assert_eq!(outcome.code, 4, "{outcome}");
    let outcome = world
        .ddadm()
        .run(&["site", "check", "home", "--agent", "out9"]);
    assert_eq!(outcome.code, 4, "{outcome}");
}

#[test]
fn an_agent_that_is_away_is_named_and_costs_the_others_nothing() {
    let mut world = World::with_agents(2);
    let _home = world.home("home", &[]);
    world.stop_agent("out2");
    let checks = world.json(&["site", "check", "home"]);
    let told = |place: usize| {
        let row = &checks[place];
        (row["agent"].clone(), row["proved"].clone())
    };
    assert_eq!(told(0), ("out1".into(), true.into()), "{checks}");
    assert_eq!(told(1), ("out2".into(), false.into()), "{checks}");
    assert_eq!(checks[1]["sentence"], "the agent is not connected");
    assert_eq!(checks.as_array().map(Vec::len), Some(2), "{checks}");
    let alone = ["site", "check", "home", "--agent", "out2"];
    let outcome = world.ddadm().run(&alone);
    assert_eq!(outcome.code, 5, "{outcome}");
    world.stop_agent("out1");
    world
        .ddadm()
        .run(&["site", "check", "home"])
        .refused(1, "no agent is connected");
}

#[test]
fn an_agent_that_is_removed_is_cut_off_at_once() {
    let mut world = World::start();
    let _ = world.ddadm().run(&["agent", "remove", "out1"]).done();
    world.agent("out1").log_line("the agent has been removed");
    let agents = world.json(&["agent", "list"]);
    assert_eq!(agents.as_array().unwrap().len(), 0, "{agents}");
    // It goes on trying, and is told why not.
    world
        .agent("out1")
        .log_line("the agent `out1` is not registered");
}

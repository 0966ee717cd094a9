//! A smarthost that wants to know who comes: reports leave over verified TLS, and the password is told to it alone.

use std::fs;
use std::path::Path;

use dd_tests::ca::{Ca, Identity};
use dd_tests::layout::Layout;
use dd_tests::site::{Script, Seen, Site};
use dd_tests::wait::{PATIENCE, until};
use dd_tests::world::World;

const NAME: &str = "smtp.provider.example";
const USER: &str = "reports";
const PASSWORD: &str = "tr0ub4dor and three";

/// A provider with a smarthost, the files that its configuration names, and a home that is away.
struct Place {
    world: World,
    smarthost: Site,
    _home: Site,
    _files: tempfile::TempDir,
}

impl Place {
    fn start(smarthost: Site, authority: &Ca, more: &str) -> Self {
        let files = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            let path = files.path().join(name);
            fs::write(&path, content).unwrap();
            path.display().to_string()
        };
        let password = file("password", &format!("{PASSWORD}\n"));
        let ca = file("ca.pem", authority.root_pem());
        let port = smarthost.address().port();
        let notify = format!(
            "smarthost = \"{NAME}:{port}\"\nsmarthost_user = \"{USER}\"\n\
             smarthost_password_file = \"{password}\"\nsmarthost_ca = \"{ca}\"\n{more}"
        );
        let layout = Layout {
            notify,
            ..Layout::default()
        };
        let world = World::laid_out(layout, 1);
        world.dns.set(NAME, &[smarthost.address().ip()]);
        let home = world.away("home", 1, "long enough");
        Self {
            world,
            smarthost,
            _home: home,
            _files: files,
        }
    }

    /// The sender of what waits for the home is told that it fails.
    fn report(&self) {
        let remove = ["site", "remove", "home", "--fail"];
        let _ = self.world.ddadm().run(&remove).done();
    }

    fn alarmed(&self, words: &str) {
        until("an alarm", PATIENCE, || {
            let status = self.world.json(&["status"]);
            status["alarms"].to_string().contains(words).then_some(())
        });
    }
}

fn identity(authority: &Ca) -> Identity {
    authority.identity(&[NAME])
}

fn has_auth(seen: &Seen) -> bool {
    let said = [&seen.clear[..], &seen.secured].concat();
    said.windows(4)
        .any(|word| word.eq_ignore_ascii_case(b"AUTH"))
}

/// Neither in the arguments nor in the environment of a program that runs.
fn is_in_process(pid: u32, text: &str) -> bool {
    ["cmdline", "environ"].into_iter().any(|file| {
        let path = Path::new("/proc").join(pid.to_string()).join(file);
        let bytes = fs::read(path).unwrap();
        bytes.windows(text.len()).any(|it| it == text.as_bytes())
    })
}

#[test]
fn reports_leave_through_a_smarthost_that_knows_us_by_a_password() {
    let authority = Ca::new("Smarthosts");
    let script = Script::with(&identity(&authority));
    let by_starttls = script.clone().login("PLAIN LOGIN", USER, PASSWORD);
    let on_connect = script.on_connect().login("LOGIN", USER, PASSWORD);
    for (script, more) in [
        (by_starttls, ""),
        (on_connect, "smarthost_tls_on_connect = true\n"),
    ] {
        let mut place = Place::start(Site::start(script), &authority, more);
        place.report();
        let report = place.smarthost.received(1).remove(0);
        assert!(report.mail.starts_with("<>"), "{report:?}");
        let seen = place.smarthost.session_of(&report);
        let clear = String::from_utf8_lossy(&seen.clear);
        assert!(!clear.contains("AUTH"), "{clear}");

        place.world.drained("smarthost");
        let world = &mut place.world;
        let shown = [
            world.show("smarthost").to_string(),
            world.json(&["config"]).to_string(),
            world.json(&["status"]).to_string(),
            world.ddadm().run(&["registry", "export"]).done().stdout,
            world.controller().tail(),
            world.agent("out1").tail(),
        ];
        for text in shown {
            assert!(!text.contains(PASSWORD), "{text}");
        }
        for pid in [world.controller().pid(), world.agent("out1").pid()] {
            assert!(!is_in_process(pid, PASSWORD));
        }
    }
}

#[test]
fn a_password_is_told_to_no_server_without_the_smarthosts_certificate() {
    let authority = Ca::new("Smarthosts");
    let other_name = authority.identity(&["other.example"]);
    let other_authority = identity(&Ca::new("Smarthosts"));
    let on_connect = "smarthost_tls_on_connect = true\n";
    for (script, more) in [
        (Script::plain(), ""),
        (Script::with(&other_name), ""),
        (Script::with(&other_authority), ""),
        (Script::with(&other_authority).on_connect(), on_connect),
    ] {
        let script = script.login("PLAIN LOGIN", USER, PASSWORD);
        let place = Place::start(Site::start(script), &authority, more);
        place.report();
        let shown = place.world.site_is("smarthost", "waiting");
        assert_eq!(shown["why"], "wrong-host", "{shown}");
        place.alarmed("the smarthost takes no notifications");
        let connections = place.smarthost.connections();
        assert!(!connections.is_empty());
        assert!(!connections.iter().any(has_auth), "{connections:?}");
        assert_eq!(place.smarthost.count(), 0);
    }
}

#[test]
fn a_login_that_is_refused_is_an_alarm_and_what_waited_leaves_when_it_is_asked_for() {
    let authority = Ca::new("Smarthosts");
    let script = Script::with(&identity(&authority));
    let stricter = script.clone().login("PLAIN", USER, "another");
    let place = Place::start(Site::start(stricter), &authority, "");
    place.report();
    let shown = place.world.site_is("smarthost", "waiting");
    assert_eq!(shown["why"], "refused", "{shown}");
    place.alarmed("answered the login as `reports` with `535 5.7.8");
    let checked = place.world.ddadm().run(&["site", "check", "smarthost"]);
    assert!(checked.stdout.contains("535 5.7.8"), "{checked}");
    assert_eq!(place.smarthost.count(), 0);

    place
        .smarthost
        .behave(script.login("PLAIN", USER, PASSWORD));
    let _ = place
        .world
        .ddadm()
        .run(&["etrn", "smarthost", "--wait", "20s"]);
    place.smarthost.received(1);
    place.world.drained("smarthost");
}

#[test]
fn never_is_in_the_clear_whatever_is_offered() {
    let authority = Ca::new("Smarthosts");
    let smarthost = Site::start(Script::with(&identity(&authority)));
    let layout = Layout {
        smarthost: Some(smarthost.address()),
        notify: "smarthost_tls = \"never\"\n".to_owned(),
        ..Layout::default()
    };
    let world = World::laid_out(layout, 1);
    let _home = world.away("home", 1, "long enough");
    let remove = ["site", "remove", "home", "--fail"];
    let _ = world.ddadm().run(&remove).done();
    let report = smarthost.received(1).remove(0);
    let seen = smarthost.session_of(&report);
    let clear = String::from_utf8_lossy(&seen.clear);
    assert!(
        !clear.contains("STARTTLS") && clear.contains("MAIL FROM:<>"),
        "{clear}"
    );
}

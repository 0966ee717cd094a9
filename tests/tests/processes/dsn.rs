//! What senders are told: a DSN leaves through the smarthost, once, about whom it should be and nobody else.

use std::sync::{Arc, Mutex, PoisonError};

use dd_tests::layout::Layout;
use dd_tests::site::{At, Host, Received, Script, Site, Verdict};
use dd_tests::submit::message;
use dd_tests::wait::{PATIENCE, until};
use dd_tests::world::World;

const SENDER: &str = "friend@elsewhere.example";

/// A home where some recipients live, and everybody whose name begins with `gone` does not.
#[derive(Debug, Default)]
struct Household {
    taken: Mutex<Vec<Received>>,
}

impl Host for Household {
    fn rcpt(&self, argument: &str) -> Option<String> {
        let gone = argument.starts_with("<gone");
        gone.then(|| "550 5.1.1 nobody of that name".to_owned())
    }

    fn message(&self, message: Received) -> Verdict {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.push(message);
        Verdict::Takes
    }
}

impl Household {
    fn recipients(&self) -> Vec<Vec<String>> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.iter().map(|it| it.recipients.clone()).collect()
    }
}

/// A provider with a smarthost, and the site `home`.
struct Place {
    world: World,
    household: Arc<Household>,
    smarthost: Site,
    _home: Site,
}

impl Place {
    fn start() -> Self {
        let smarthost = Site::start(Script::plain());
        let layout = Layout {
            smarthost: Some(smarthost.address()),
            ..Layout::default()
        };
        let world = World::laid_out(layout, 1);
        let household = Arc::new(Household::default());
        let identity = world.ca.identity(&["home.example"]);
        let host: Arc<dyn Host> = household.clone();
        let home = Site::start(Script::with(&identity).hosted(host));
        world.add_home("home", home.address(), &["--retry", "1s"]);
        Self {
            world,
            household,
            smarthost,
            _home: home,
        }
    }

    /// Hands one message in: the arguments of MAIL and RCPT, with their parameters.
    fn send(&self, from: &str, to: &[&str], subject: &str) {
        let mut client = self.world.smtp();
        client.expect(&format!("MAIL FROM:{from}"), 250);
        for recipient in to {
            client.expect(&format!("RCPT TO:{recipient}"), 250);
        }
        let reply = client.data(&message(subject));
        assert_eq!(reply.code, 250, "{}", reply.text);
    }
}

#[test]
fn a_refused_recipient_makes_one_dsn_which_the_end_of_the_controller_neither_loses_nor_repeats() {
    let mut place = Place::start();
    place.smarthost.stop();
    let from = format!("<{SENDER}>");
    place.send(&from, &["<me@home.example>", "<gone@home.example>"], "one");
    // Both are settled, and the DSN waits.
    place.world.drained("home");
    place.world.kill_controller();
    place.smarthost.resume();
    place.world.start_controller();
    place.world.attached("out1");
    let dsn = place.smarthost.received(1).remove(0);
    let mail = dsn.mail.as_str();
    assert!(mail == "<>" || mail.starts_with("<> "), "{mail}");
    assert_eq!(dsn.recipients.len(), 1, "{:?}", dsn.recipients);
    assert!(dsn.recipients[0].starts_with(&from), "{:?}", dsn.recipients);
    about(&dsn, &["gone@home.example"]);
    place.world.all_known();
    place.world.drained("smarthost");
    place.smarthost.received(1);
    assert_eq!(place.household.recipients(), [["<me@home.example>"]]);
}

#[test]
fn nobody_is_told_who_did_not_ask_or_has_no_address() {
    let place = Place::start();
    let from = format!("<{SENDER}>");
    // What a home refuses is believed once it has taken something.
    place.send("<>", &["<me@home.example>"], "taken");
    place.send(&from, &["<gone-never@home.example> NOTIFY=NEVER"], "never");
    let late = "<gone-late@home.example> NOTIFY=DELAY,SUCCESS";
    place.send(&from, &[late], "only of other things");
    place.send("<>", &["<gone-null@home.example>"], "null");
    let both = [
        "<gone-silent@home.example> NOTIFY=NEVER",
        "<gone-told@home.example> NOTIFY=FAILURE",
    ];
    place.send(&from, &both, "told");
    // The third refusal in a row is kept until the home takes something again.
    place.send("<>", &["<me@home.example>"], "taken again");
    // All are settled, and whatever DSNs there are wait or have left.
    place.world.drained("home");
    place.world.drained("smarthost");
    let dsn = place.smarthost.received(1).remove(0);
    about(&dsn, &["gone-told@home.example"]);
    assert_eq!(place.household.recipients(), [["<me@home.example>"]; 2]);
}

#[test]
fn a_site_with_mail_is_removed_with_word_to_the_senders_or_without() {
    let place = Place::start();
    for (site, flag, told) in [("failing", "--fail", 3), ("dropped", "--discard", 3)] {
        let mut away = place.world.home(site, &["--retry", "1h"]);
        away.stop();
        for number in 0..3 {
            let from = format!("<{site}-{number}@elsewhere.example>");
            let to = format!("<me@{site}.example>");
            place.send(&from, &[&to], &format!("{site}-{number}"));
        }
        place.world.site_is(site, "waiting");
        let refused = place.world.ddadm().run(&["site", "remove", site]);
        refused.refused(1, "--fail");
        assert_eq!(place.world.show(site)["queued"]["messages"], 3);
        let removed = place.world.ddadm().run(&["site", "remove", site, flag]);
        let _ = removed.done();
        let gone = place.world.ddadm().run(&["site", "show", site]);
        gone.refused(4, site);
        // Those of the second site would follow the first ones.
        place.world.drained("smarthost");
        let dsns = place.smarthost.received(told);
        for dsn in dsns {
            assert!(dsn.recipients[0].starts_with("<failing-"), "{dsn:?}");
        }
    }
    assert_eq!(place.world.json(&["queue", "list"]), serde_json::json!([]));
}

#[test]
fn mail_that_an_operator_gives_up_is_told_to_its_sender_once() {
    let place = Place::start();
    let (mut one, mut two) = (
        place.world.home("one", &["--retry", "1h"]),
        place.world.home("two", &["--retry", "1h"]),
    );
    one.stop();
    two.stop();
    let from = format!("<{SENDER}>");
    place.send(&from, &["<me@one.example>", "<me@two.example>"], "given up");
    for site in ["one", "two"] {
        place.world.site_is(site, "waiting");
    }
    let listed = place.world.json(&["queue", "list", "one"]);
    let id = listed[0]["id"].as_str().unwrap().to_owned();
    let fail = |more: &[&str]| {
        let args = [&["queue", "fail", &id], more].concat();
        place.world.ddadm().run(&args)
    };
    let _ = fail(&["--site", "one"]).done();
    let dsn = place.smarthost.received(1).remove(0);
    let text = String::from_utf8_lossy(&dsn.content).into_owned();
    assert!(
        text.contains("Final-Recipient: rfc822; me@one.example"),
        "{text}"
    );
    assert!(!text.contains("me@two.example"), "{text}");
    let why = "taken out of the queue by the operator";
    assert!(text.contains(why), "{text}");
    assert_eq!(place.world.show("two")["queued"]["messages"], 1);
    fail(&["--site", "one"]).refused(4, "it waits for `two`");
    fail(&["--site", "nowhere"]).refused(4, "there is no site `nowhere`");
    let _ = fail(&[]).done();
    fail(&[]).refused(4, &id);
    place.world.drained("smarthost");
    place.smarthost.received(2);
    let audit = place.world.ddadm().run(&["audit"]).done().stdout;
    assert!(audit.contains(&format!("mail failed: {id}")), "{audit}");
}

#[test]
fn a_smarthost_in_trouble_is_named_with_its_words() {
    let mut place = Place::start();
    let closed = Script::plain().says(At::Greeting, "554 5.3.2 closed for stocktaking");
    place.smarthost.behave(closed);
    // What a home refuses is believed once it has taken something.
    place.send("<>", &["<me@home.example>"], "taken");
    place.send("<friend@elsewhere.example>", &["<gone@home.example>"], "x");
    let alarm = until("an alarm about the smarthost", PATIENCE, || {
        let status = place.world.json(&["status"]);
        let alarms = status["alarms"].as_array().unwrap();
        let mut alarms = alarms.iter().filter_map(|it| it.as_str());
        let about = |alarm: &&str| alarm.contains("closed for stocktaking");
        alarms.find(about).map(str::to_owned)
    });
    assert!(alarm.starts_with("the smarthost takes no"), "{alarm}");
    let line = place
        .world
        .controller()
        .log_line("the smarthost takes no notifications");
    assert!(line.contains("closed for stocktaking"), "{line}");

    place.smarthost.behave(Script::plain());
    let _ = place.world.ddadm().run(&["etrn", "smarthost"]);
    place.smarthost.received(1);
    until("the alarm to go", PATIENCE, || {
        let status = place.world.json(&["status"]);
        (status["alarms"] == serde_json::json!([])).then_some(())
    });
}

/// Whether a DSN says that these have failed with what the home answered, and speaks of no others.
fn about(dsn: &Received, recipients: &[&str]) {
    let text = String::from_utf8_lossy(&dsn.content);
    let values = |field: &str| -> Vec<String> {
        let lines = text.lines();
        let values = lines.filter_map(|line| line.strip_prefix(field));
        values.map(|value| value.trim().to_owned()).collect()
    };
    let named: Vec<String> = values("Final-Recipient: rfc822;");
    assert_eq!(named, recipients, "{text}");
    let each = |value: &str| vec![value.to_owned(); recipients.len()];
    assert_eq!(values("Action:"), each("failed"), "{text}");
    assert_eq!(values("Status:"), each("5.1.1"), "{text}");
    for reply in values("Diagnostic-Code:") {
        assert!(reply.starts_with("smtp; 550"), "{text}");
    }
    assert_eq!(values("Diagnostic-Code:").len(), recipients.len(), "{text}");
}

//! The home is told from whom the provider's MX had a message, and the contact of a home that it is away.

use dd_tests::layout::Layout;
use dd_tests::postfix::Postfix;
use dd_tests::site::{Script, Site};
use dd_tests::submit::{Client, Protocol, message};
use dd_tests::wait::{PATIENCE, until};
use dd_tests::world::World;

use crate::home_servers::{issued, listens_at};

/// Lines by which a Postfix at home takes what the agents say of clients.
const TAKES_BOTH: &str = "smtpd_authorized_xforward_hosts = 127.0.0.0/8\n\
                          smtpd_authorized_xclient_hosts = 127.0.0.0/8\n";

#[test]
fn a_postfix_at_home_is_told_of_the_client_in_the_way_that_its_member_has_asked_for() {
    let (world, printed) = issued();
    let lines = printed.below("Postfix, main.cf") + TAKES_BOTH;
    let home = Postfix::set_up(world.path(), "home.example", &lines);
    listens_at(&world, home.address());
    let mut feeder = world.smtp();
    let mut told = |hand_over: &str, number: u8| {
        let set = ["site", "set", "home", "--hand-over", hand_over];
        let _ = world.ddadm().run(&set).done();
        for mail in 0..2 {
            let last = number + mail;
            let client = format!("NAME=mail{last}.there.example ADDR=198.51.100.{last} PORT=4711");
            feeder.expect(&format!("XFORWARD {client}"), 250);
            feeder.expect("XFORWARD PROTO=ESMTP HELO=there.example", 250);
            let subject = format!("{hand_over}-{mail}");
            feeder.send("a@b.example", "me@home.example", &message(&subject));
        }
        world.drained("home");
    };

    told("none", 1);
    told("xforward", 11);
    told("xclient", 21);
    let mail = home.received(6);
    let log = home.log();
    for last in [11, 12] {
        let client = format!("orig_client=mail{last}.there.example[198.51.100.{last}]");
        assert!(log.contains(&client), "{log}");
    }
    for last in [21, 22] {
        let client = format!("mail{last}.there.example[198.51.100.{last}]");
        assert!(log.contains(&format!(": client={client}")), "{log}");
        let field = format!("from there.example (mail{last}.there.example [198.51.100.{last}])");
        assert!(mail.iter().any(|it| it.contains(&field)), "{mail:?}");
    }
    assert!(
        !log.contains("198.51.100.1]") && !log.contains("198.51.100.2]"),
        "{log}"
    );
    // All of it is what Postfix expects.
    for complaint in [
        "bad command",
        "improper command",
        "reject:",
        "lost connection after X",
    ] {
        assert!(!log.contains(complaint), "{log}");
    }
}

#[test]
fn what_a_feeding_postfix_knows_of_its_client_reaches_the_postfix_at_home() {
    let (world, printed) = issued();
    let lines = printed.below("Postfix, main.cf") + TAKES_BOTH;
    let home = Postfix::set_up(world.path(), "home.example", &lines);
    listens_at(&world, home.address());
    let set = ["site", "set", "home", "--hand-over", "xforward"];
    let _ = world.ddadm().run(&set).done();
    let listeners = world.listeners();
    // The one says XFORWARD, the other only writes its field.
    let says = Postfix::feeder(world.path(), "home.example", listeners.lmtp);
    let writes = Postfix::relay(world.path(), "home.example", listeners.smtp, None);

    for (count, feeder) in [(1, &says), (2, &writes)] {
        let mut client = Client::connect(feeder.address(), Protocol::Smtp);
        client.send("a@b.example", "me@home.example", &message("told"));
        home.received(count);
        assert!(feeder.logged("status=sent").contains("relay=127."));
    }
    let log = home.log();
    let told = log.matches("orig_client=unknown[127.0.0.1]").count();
    assert_eq!(told, 2, "{log}");
}

#[test]
fn the_contact_of_a_home_that_is_away_is_told_once_in_the_language_on_record() {
    let smarthost = Site::start(Script::plain());
    let layout = Layout {
        smarthost: Some(smarthost.address()),
        ..Layout::default()
    };
    let mut world = World::laid_out(layout, 1);
    let contact = ["--contact", "anna@elsewhere.example", "--language", "de"];
    let mut home = world.home(
        "home",
        &[&contact[..], &["--outage-notice", "1s", "--retry", "1s"]].concat(),
    );
    home.stop();
    let mut client = world.smtp();
    client.send("a@b.example", "me@home.example", &message("waits"));
    let what = "attempts that reached nobody for two seconds";
    until(what, PATIENCE, || {
        let shown = world.show("home");
        // A second apart each.
        (shown["last_attempts"].as_array()?.len() >= 4).then_some(())
    });

    // A start looks at once, and knows what was told before.
    let restart = |world: &mut World| {
        world.stop_controller();
        world.start_controller();
        world.attached("out1");
    };
    restart(&mut world);
    let told = smarthost.received(1).remove(0);
    let text = String::from_utf8_lossy(&told.content).into_owned();
    assert!(text.contains("Subject: home: Ihre Mails warten"), "{text}");
    assert_eq!(told.recipients, ["<anna@elsewhere.example>"]);
    world.drained("smarthost");
    restart(&mut world);
    home.resume();
    home.received(1);
    world.drained("home");
    assert_eq!(smarthost.messages().len(), 1);
}

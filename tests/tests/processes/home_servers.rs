//! Real mail servers at home, set up with nothing about TLS but the files and the lines of `ddadm cert issue`.

use std::net::SocketAddr;

use dd_tests::home_server::{HomeServer, Printed};
use dd_tests::postfix::Postfix;
use dd_tests::submit::{Client, Protocol, message};
use dd_tests::world::{OUTBOUND, World};
use serde_json::Value;

#[test]
fn mail_from_a_feeding_postfix_reaches_the_postfix_at_home_over_tls_from_the_agents_address() {
    let (world, printed) = issued();
    let lines = printed.below("Postfix, main.cf");
    let home = Postfix::set_up(world.path(), "home.example", &lines);
    listens_at(&world, home.address());
    let feeder = Postfix::feeder(world.path(), "home.example", world.listeners().lmtp);

    let mut client = Client::connect(feeder.address(), Protocol::Smtp);
    client.send(
        "a@elsewhere.example",
        "me@home.example",
        &message("whole-way"),
    );

    let mail = home.received(1).remove(0);
    assert!(mail.contains("Subject: whole-way"), "{mail}");
    assert!(mail.contains("by mail.provider.example"), "{mail}");
    let from = format!("[{}]", OUTBOUND[0]);
    let session = home.logged("TLS connection established from");
    assert!(session.contains(&from), "{session}");
    let client = home.logged("client=");
    assert!(client.contains(&from), "{client}");
    assert!(feeder.logged("status=sent").contains("relay=127."));
    proved(&world);
}

#[test]
fn exim_is_set_up_with_what_is_printed() {
    let (world, printed) = issued();
    delivers(
        &world,
        &HomeServer::exim(world.path(), "home.example", &printed),
    );
}

#[test]
fn opensmtpd_is_set_up_with_what_is_printed() {
    let (world, printed) = issued();
    delivers(
        &world,
        &HomeServer::opensmtpd(world.path(), "home.example", &printed),
    );
}

#[test]
fn sendmail_is_set_up_with_what_is_printed() {
    let (world, printed) = issued();
    delivers(
        &world,
        &HomeServer::sendmail(world.path(), "home.example", &printed),
    );
}

/// A world with a site whose server is not there yet, and what was printed for its member.
pub(crate) fn issued() -> (World, Printed) {
    let world = World::start();
    let printed = Printed::issued(&world);
    (world, printed)
}

pub(crate) fn listens_at(world: &World, address: SocketAddr) {
    world.dns.set("home.dyn.example", &[address.ip()]);
    let host = format!("home.dyn.example:{}", address.port());
    let set = ["site", "set", "home", "--host", &host];
    let _ = world.ddadm().run(&set).done();
}

#[track_caller]
fn delivers(world: &World, home: &HomeServer) {
    listens_at(world, home.address());
    let mut client = world.smtp();
    for subject in ["first", "second"] {
        client.send("a@b.example", "me@home.example", &message(subject));
    }
    let mail = home.received(2);
    for subject in ["first", "second"] {
        let subject = format!("Subject: {subject}");
        assert!(mail.iter().any(|it| it.contains(&subject)), "{mail:?}");
    }
    // The server's own word for TLS.
    assert!(
        mail.iter()
            .all(|it| it.to_uppercase().contains("TLSV1.3") || it.contains("(TLS1.3)")),
        "{mail:?}"
    );
    proved(world);
}

/// Everything is delivered, to whoever showed the certificate that was issued.
#[track_caller]
fn proved(world: &World) {
    let shown = world.drained("home");
    let issued = world.json(&["cert", "list", "home"])[0]["sha256"].clone();
    let attempts = shown["last_attempts"].as_array().unwrap();
    let relayed: Vec<&Value> = attempts
        .iter()
        .filter(|it| it["outcome"] == "relayed")
        .collect();
    assert!(!relayed.is_empty(), "{shown}");
    for attempt in relayed {
        assert_eq!(attempt["peer"]["sha256"], issued, "{attempt}");
    }
}

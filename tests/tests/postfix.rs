//! The whole way between two real MTAs: a feeding Postfix, our programs, and a Postfix at home.

use dd_tests::postfix::Postfix;
use dd_tests::submit::{Client, Protocol, message};
use dd_tests::world::{OUTBOUND, World};

#[test]
fn mail_from_a_feeding_postfix_reaches_the_postfix_at_home_over_tls_from_the_agents_address() {
    let world = World::start();
    let identity = world.ca.identity(&["home.example"]);
    let home = Postfix::home(world.path(), "home.example", &identity);
    world.add_home("home", home.address(), &[]);
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
    world.drained("home");
}

//! A home that is reached by one family of addresses only.

use dd_tests::site::{Script, Site};
use dd_tests::submit::message;
use dd_tests::world::World;

#[test]
fn of_a_home_that_is_reached_by_ipv6_only_no_ipv4_address_is_connected_to() {
    let world = World::start();
    let identity = world.ca.identity(&["home.example"]);
    let site = Site::start(Script::with(&identity));
    world.add_home("home", site.address(), &["--family", "6", "--retry", "1h"]);
    assert_eq!(world.show("home")["family"], "6");
    let mail = message("one family");
    world.smtp().send("a@b.example", "me@home.example", &mail);
    let shown = world.site_is("home", "waiting");
    assert_eq!(shown["why"], "down", "{shown}");
    let detail = shown["last_attempts"][0]["detail"].as_str().unwrap();
    assert!(detail.contains("has no IPv6 address"), "{detail}");
    assert!(site.connections().is_empty());
    let checked = world.ddadm().run(&["site", "check", "home"]);
    assert!(checked.stdout.contains("has no IPv6 address"), "{checked}");

    let _ = world
        .ddadm()
        .run(&["site", "set", "home", "--family", "4"])
        .done();
    site.received(1);
    world.drained("home");
    let export = world.ddadm().run(&["registry", "export"]).done().stdout;
    assert!(export.contains("family = \"4\""), "{export}");
}

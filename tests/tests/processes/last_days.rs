//! "When did I last get mail?" has an answer behind a restart.

use dd_tests::http::curl;
use dd_tests::submit::message;
use dd_tests::world::World;

const PASSWORD: &str = "correct horse battery";

#[test]
fn the_last_days_of_a_site_outlive_a_restart() {
    let mut world = World::start();
    let mut home = world.home("home", &["--retry", "1h"]);
    world.set_password("home", PASSWORD);
    let nothing = &world.show("home")["history"];
    assert!(nothing["last_relayed"].is_null(), "{nothing}");
    let mut client = world.smtp();
    for _ in 0..2 {
        client.send("a@b.example", "me@home.example", &message("hello"));
    }
    home.received(2);
    world.drained("home");
    home.stop();
    client.send("a@b.example", "me@home.example", &message("hello"));
    world.site_is("home", "waiting");
    drop(client);
    let before = world.show("home")["history"].clone();
    let today = &before["days"][0]["counts"];
    assert_eq!(today["relayed"], 2, "{before}");
    assert_eq!(before["attempts"][0]["outcome"], "unreachable", "{before}");
    assert_eq!(before["attempts"][1]["times"], 2, "{before}");
    world.stop_controller();
    world.start_controller();
    world.all_known();
    let after = world.show("home");
    assert_eq!(after["history"]["last_relayed"], before["last_relayed"]);
    assert!(before["last_relayed"].is_string(), "{before}");
    let relayed = &after["history"]["days"][0]["counts"]["relayed"];
    assert_eq!(relayed, 2, "{after}");
    let text = world.ddadm().run(&["site", "show", "home"]).done();
    assert!(text.stdout.contains("Last took mail"), "{text}");
    let form = format!("site=home&password={}", PASSWORD.replace(' ', "+"));
    let signed = curl(&["-d", &form, &world.url("/sign-in")]);
    let cookie = signed.header("set-cookie").split(';').next();
    let cookie = format!("Cookie: {}", cookie.expect("a pair"));
    let page = curl(&["-H", &cookie, &world.url("/")]).body;
    assert!(page.contains("Last got mail"), "{page}");
    assert!(page.contains("2 delivered"), "{page}");
    // Gone with the site: another of its name begins anew.
    let removed = world.ddadm().run(&["site", "remove", "home", "--discard"]);
    let _ = removed.done();
}

//! The agents show a certificate of the provider's own authority to the hosts of a site that has asked for it.

use std::fs;

use dd_tests::ca::Identity;
use dd_tests::home_server::Printed;
use dd_tests::postfix::Postfix;
use dd_tests::site::{Script, Site};
use dd_tests::submit::message;
use dd_tests::world::World;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::home_servers::{issued, listens_at};

/// A home that asks whoever connects for a certificate of the authority that issued its own.
fn asking(world: &World) -> Site {
    let read = |name: &str| fs::read_to_string(world.path().join("issued").join(name)).unwrap();
    let identity = Identity::from_pem(&read("home.pem"), &read("home.key"));
    let site = Site::start(Script::asking(&identity, &read("ca.pem")));
    listens_at(world, site.address());
    site
}

/// Has one message delivered, on a session that begins now; what was shown in its handshake.
fn shown(world: &World, site: &Site, subject: &str) -> Option<Vec<u8>> {
    let count = site.count() + 1;
    let mail = message(subject);
    world.smtp().send("a@b.example", "me@home.example", &mail);
    let received = site.received(count);
    world.drained("home");
    site.session_of(&received[count - 1]).shown
}

fn key_of(certificate: &[u8]) -> String {
    let (_, parsed) = X509Certificate::from_der(certificate).unwrap();
    let digest = Sha256::digest(parsed.public_key().raw);
    digest
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect::<Vec<_>>()
        .join(":")
}

fn lines_of(world: &World, program: &str) -> String {
    let all = world.json(&["site", "snippets", "home"]);
    let all = all.as_array().unwrap().iter();
    let found = all.filter(|it| it["program"] == program);
    found.map(|it| it["lines"].as_str().unwrap()).collect()
}

#[test]
fn a_home_that_asks_sees_the_certificate_of_the_site_that_has_it_on_and_none_of_one_that_has_not() {
    let (mut world, _) = issued();
    let site = asking(&world);
    assert_eq!(shown(&world, &site, "before"), None);
    assert_eq!(lines_of(&world, "postfix-keys"), "");

    let set = world.json(&["site", "set", "home", "--client-certificate"]);
    assert_eq!(set["client_certificate"], "own-ca", "{set}");
    let first = shown(&world, &site, "shown").expect("a certificate");
    let (_, parsed) = X509Certificate::from_der(&first).unwrap();
    assert_eq!(parsed.subject().to_string(), "CN=agent out1, OU=dd-agent");
    assert_eq!(parsed.issuer().to_string(), "CN=own-ca G1");
    let pasted = lines_of(&world, "postfix-keys");
    assert_eq!(pasted, format!("# out1\n{}\tpermit\n", key_of(&first)));

    // One that starts anew has another certificate, for the same key.
    world.stop_agent("out1");
    world.start_agent("out1");
    world.attached("out1");
    let second = shown(&world, &site, "shown again").expect("a certificate");
    assert_ne!(first, second);
    assert_eq!(key_of(&first), key_of(&second));

    let cleared = ["site", "set", "home", "--clear", "client-certificate"];
    let cleared = world.json(&cleared);
    assert_eq!(cleared["client_certificate"], Value::Null, "{cleared}");
    assert_eq!(shown(&world, &site, "after"), None);
}

#[test]
fn an_authority_of_which_certificates_are_shown_stays_and_another_ones_are_never_given() {
    let (world, _) = issued();
    let _ = world.ddadm().run(&["ca", "create", "second-ca"]).done();
    // The proof's own authority goes before a choice.
    let set = ["site", "set", "home", "--client-certificate"];
    assert_eq!(world.json(&set)["client_certificate"], "own-ca");
    let add = ["site", "add", "shed", "--domain", "shed.example"];
    let by_port = ["--host", "shed.dyn.example:2525", "--proof", "port"];
    let unsaid = [&add[..], &by_port, &["--client-certificate"]].concat();
    let refused = world.ddadm().run(&unsaid);
    refused.refused(1, "there are several authorities");
    let named = [&add[..], &by_port, &["--client-certificate=second-ca"]].concat();
    assert_eq!(world.json(&named)["client_certificate"], "second-ca");
    let refused = world.ddadm().run(&["ca", "remove", "second-ca"]);
    refused.refused(1, "agents show certificates");

    let export = world.ddadm().run(&["registry", "export"]).done().stdout;
    assert!(
        export.contains("client-certificate = \"second-ca\""),
        "{export}"
    );
}

#[test]
fn a_postfix_at_home_lets_the_agents_relay_by_their_certificate_alone() {
    let (world, printed) = issued();
    let set = ["site", "set", "home", "--client-certificate"];
    let _ = world.ddadm().run(&set).done();
    let home = relaying(&world, &printed);
    listens_at(&world, home.address());
    let mail = message("relayed");
    world.smtp().send("a@b.example", "me@home.example", &mail);
    world.drained("home");
    let relayed = home.logged("to=<me@home.example>");
    assert!(relayed.contains("status=sent"), "{relayed}");

    let clear = ["site", "set", "home", "--clear", "client-certificate"];
    let _ = world.ddadm().run(&clear).done();
    let mail = message("refused");
    world.smtp().send("a@b.example", "me@home.example", &mail);
    home.logged("Relay access denied");
    // A home that was changed and refuses everybody loses nothing: the mail is kept.
    let refusing = world.site_is("home", "waiting");
    assert_eq!(refusing["why"], "refused", "{refusing}");
}

/// A Postfix for which home.example is somebody else's: it takes mail for it from whom it knows by the printed keys.
fn relaying(world: &World, printed: &Printed) -> Postfix {
    let keys = world.path().join("provider.keys");
    fs::write(&keys, lines_of(world, "postfix-keys")).unwrap();
    let by_key = lines_of(world, "postfix-by-key");
    let asks = by_key
        .lines()
        .take_while(|line| !line.contains("restrictions"));
    let asks: String = asks.map(|line| format!("{line}\n")).collect();
    let lines = printed.below("Postfix, main.cf")
        + &asks
        + &format!(
            "smtpd_relay_restrictions = check_ccert_access texthash:{}, reject_unauth_destination\n\
             default_transport = discard\n",
            keys.display()
        );
    Postfix::set_up(world.path(), "another.example", &lines)
}

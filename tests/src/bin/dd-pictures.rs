//! Pictures of the portal, in both languages, at a desk and on a phone, for `docs/members.md`: `dd-pictures DIRECTORY`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dd_tests::browser::{Browser, Look, Scheme};
use dd_tests::ca::{Ca, Identity};
use dd_tests::site::{Script, Site};
use dd_tests::submit::message;
use dd_tests::world::World;

const PASSWORD: &str = "correct horse battery";

const SENDERS: [&str; 5] = [
    "anna.schmidt@kammerchor.example",
    "noreply@bahn.example",
    "vorstand@segelverein.example",
    "m.okafor@university.example",
    "newsletter@buchladen-am-markt.example",
];

const LOOKS: [(&str, Look<'_>); 6] = [
    ("de-desktop", look("de", 1280, Scheme::Light)),
    ("en-desktop", look("en", 1280, Scheme::Light)),
    ("de-phone", look("de", 390, Scheme::Light)),
    ("en-phone", look("en", 390, Scheme::Light)),
    ("de-desktop-dark", look("de", 1280, Scheme::Dark)),
    ("en-phone-dark", look("en", 390, Scheme::Dark)),
];

const fn look(language: &'static str, width: u32, scheme: Scheme) -> Look<'static> {
    Look {
        language,
        width,
        height: 900,
        scheme,
        scripts: dd_tests::browser::Scripts::Run,
    }
}

fn main() -> Result<()> {
    let into = std::env::args_os().nth(1).map(PathBuf::from);
    let into = into.context("usage: dd-pictures DIRECTORY")?;
    fs::create_dir_all(&into)?;
    let world = World::start();
    let _well = well(&world);
    let mut away = world.home("bergmann", &["--retry", "1h"]);
    away.stop();
    let _stranger = stranger(&world);
    for name in ["hofmann", "bergmann", "kaya"] {
        world.set_password(name, PASSWORD);
    }
    for (name, look) in LOOKS {
        fill(&world, "bergmann", "down");
        let browser = Browser::start(world.path(), look);
        for (site, state) in [
            ("hofmann", "well"),
            ("bergmann", "down"),
            ("kaya", "wrong-host"),
        ] {
            show(&world, &browser, site);
            save(&browser, &into, &format!("{name}-{state}"))?;
        }
        show(&world, &browser, "hofmann");
        browser.click("#check");
        browser.says(match look.language {
            "de" => "Name im Zertifikat",
            _ => "Name in the certificate",
        });
        save(&browser, &into, &format!("{name}-checked"))?;
        show(&world, &browser, "bergmann");
        away.resume();
        browser.click("#deliver");
        let says = match look.language {
            "de" => "Nachrichten zugestellt",
            _ => "messages delivered",
        };
        browser.says(says);
        world.site_is("bergmann", "idle");
        browser.run("document.activeElement.blur()");
        browser.says(match look.language {
            "de" => "Alles zugestellt",
            _ => "Everything delivered",
        });
        save(&browser, &into, &format!("{name}-released"))?;
        away.stop();
    }
    show(&world, &Browser::start(world.path(), LOOKS[0].1), "hofmann");
    Ok(())
}

/// A site that has had some mail, with a certificate of the provider's own authority.
fn well(world: &World) -> Site {
    let home = world.home("hofmann", &[]);
    let (out, site) = (world.path().join("issued"), "hofmann");
    let out = out.to_str().expect("temporary paths are UTF-8");
    for args in [
        &["ca", "create", "members"][..],
        &["site", "set", site, "--authority", "members"],
        &["cert", "issue", site, "--out", out],
    ] {
        let _ = world.ddadm().run(args).done();
    }
    let read = |name: &str| fs::read_to_string(Path::new(out).join(name)).expect("a file");
    let identity = Identity::from_pem(&read("hofmann.pem"), &read("hofmann.key"));
    home.behave(Script::with(&identity));
    let mut client = world.smtp();
    for sender in &SENDERS[..3] {
        client.send(sender, "post@hofmann.example", &message("hello"));
    }
    home.received(3);
    home
}

/// A site at whose address somebody else's mail server answers.
fn stranger(world: &World) -> Site {
    let identity = Ca::new("Hosting Nord GmbH Root CA")
        .identity(&["mx.fremder-server.example", "imap.fremder-server.example"]);
    let site = Site::start(Script::with(&identity));
    world.add_home("kaya", site.address(), &["--retry", "1h"]);
    fill(world, "kaya", "wrong-host");
    site
}

fn fill(world: &World, site: &str, why: &str) {
    let mut client = world.smtp();
    for (number, sender) in (1..).zip(SENDERS) {
        let mut content = message("hello");
        content.extend(
            vec![b'x'; 700 * number]
                .chunks(70)
                .flat_map(|line| [line, b"\r\n"].concat()),
        );
        client.send(sender, &format!("post@{site}.example"), &content);
    }
    let shown = world.site_is(site, "waiting");
    assert_eq!(shown["why"], why, "{shown}");
}

fn show(world: &World, browser: &Browser, site: &str) {
    browser.go(&world.url("/"));
    let signed_in = browser.text_of(".me");
    if signed_in.as_deref() != Some(site) {
        if signed_in.is_some() {
            browser.click("form[action='/sign-out'] button");
        }
        browser.sign_in(&world.url("/"), site, PASSWORD);
    }
    browser.says(site);
}

fn save(browser: &Browser, into: &Path, name: &str) -> Result<()> {
    let picture = STANDARD.decode(browser.picture())?;
    fs::write(into.join(format!("{name}.png")), picture)?;
    Ok(())
}

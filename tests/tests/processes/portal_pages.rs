//! What the portal's pages say: all of it, in the reader's language, and in valid HTML.

use std::fs;
use std::path::Path;

use dd_tests::browser::{Browser, Look};
use dd_tests::http::curl;
use dd_tests::site::Site;
use dd_tests::wait::{PATIENCE, until};
use dd_tests::world::World;
use rcgen::{CertificateParams, KeyPair};

const PASSWORD: &str = "correct horse battery";

const GERMAN: Look<'static> = Look {
    language: "de",
    ..Look::DESKTOP
};

/// Signs in; the cookie as a header.
fn signed_in(world: &World, site: &str) -> String {
    let form = format!("site={site}&password={}", PASSWORD.replace(' ', "+"));
    let answer = curl(&["-d", &form, &world.url("/sign-in")]);
    assert_eq!(answer.status, 303, "{answer:?}");
    let cookie = answer.header("set-cookie").split(';').next();
    format!("Cookie: {}", cookie.expect("a pair"))
}

fn page(world: &World, cookie: &str, language: &str) -> String {
    let accept = format!("Accept-Language: {language}");
    let answer = curl(&["-H", cookie, "-H", &accept, &world.url("/")]);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

/// A site that proves itself by an authority of the provider's own.
fn certified(world: &World) -> Site {
    let home = world.home("home", &["--contact", "anna@elsewhere.example"]);
    world.set_password("home", PASSWORD);
    for args in [
        &["ca", "create", "own-ca"][..],
        &["site", "set", "home", "--authority", "own-ca"],
    ] {
        let _ = world.ddadm().run(args).done();
    }
    home
}

#[test]
fn a_member_sees_what_the_provider_has_on_record() {
    let world = World::start();
    let home = certified(&world);
    let cookie = signed_in(&world, "home");
    let page = page(&world, &cookie, "de");
    let (_, record) = page.split_once("id=\"record\"").expect("the record");
    let (record, rest) = record.split_once("</dl>").expect("its end");
    let host = format!("home.dyn.example:{}", home.address().port());
    for shown in [
        host.as_str(),
        "home.example",
        "Zertifikat einer vereinbarten Stelle",
        "own-ca",
        "anna@elsewhere.example",
    ] {
        assert!(record.contains(shown), "{shown} in {record}");
    }
    assert!(rest.contains("127.0.0.2"), "the agent's address: {rest}");
}

#[test]
fn the_name_that_has_no_address_is_named() {
    let world = World::start();
    let args = [
        "site",
        "add",
        "gone",
        "--domain",
        "gone.example",
        "--host",
        "nowhere.example:2525",
    ];
    let proof = ["--proof", "port"];
    let _ = world.ddadm().run(&[&args[..], &proof].concat()).done();
    world.set_password("gone", PASSWORD);
    world.queue("gone", 1);
    world.site_is("gone", "waiting");
    let cookie = signed_in(&world, "gone");
    let german = page(&world, &cookie, "de");
    assert!(
        german.contains("Den Namen nowhere.example gibt es im DNS nicht"),
        "{german}"
    );
    let english = page(&world, &cookie, "en");
    assert!(
        english.contains("The name nowhere.example does not exist"),
        "{english}"
    );
}

#[test]
fn failed_sign_ins_are_told_once_the_member_has_signed_in() {
    let world = World::start();
    let _home = world.home("home", &[]);
    world.set_password("home", PASSWORD);
    for name in ["home", "HOME", "nobody"] {
        let form = format!("site={name}&password=guess");
        assert_eq!(curl(&["-d", &form, &world.url("/sign-in")]).status, 403);
    }
    let wrong = curl(&["-u", "home:guess", &world.url("/etrn")]);
    assert_eq!(wrong.status, 401);
    let cookie = signed_in(&world, "home");
    let told = page(&world, &cookie, "en");
    assert!(
        told.contains("Failed sign-ins since your last one: 3"),
        "{told}"
    );
    assert!(told.contains("127.0.0.0/24"), "{told}");
    // Whoever signs in next has seen none of those.
    let next = signed_in(&world, "home");
    assert!(!page(&world, &next, "en").contains("Failed sign-ins"));
    let _ = curl(&["-u", "home:guess", &world.url("/etrn")]);
    assert!(page(&world, &next, "en").contains("since your last one: 1"));
    assert!(page(&world, &cookie, "en").contains("since your last one: 4"));
}

/// What can be read, but for what servers, agents and files say themselves.
const READABLE: &str = "const page = document.body.cloneNode(true);
for (const it of page.querySelectorAll('[lang=en], .code, .verbatim, pre, script, svg, textarea')) it.remove();
const said = [...page.querySelectorAll('[title], [placeholder]')].map((it) => it.title || it.placeholder);
return page.textContent + ' ' + said.join(' ');";

/// Words that an English sentence can hardly do without, and a German one has not.
const ENGLISH: [&str; 20] = [
    "the",
    "is",
    "are",
    "of",
    "and",
    "or",
    "your",
    "not",
    "with",
    "from",
    "by",
    "to",
    "that",
    "this",
    "valid",
    "issued",
    "presented",
    "certificate",
    "days",
    "bytes",
];

#[track_caller]
fn is_german(browser: &Browser, at: &str) {
    let text = browser.run(READABLE);
    let text = text.as_str().expect("text").to_lowercase();
    let spoken: Vec<&str> = text.split(|c: char| !c.is_alphabetic()).collect();
    let english: Vec<&str> = ENGLISH
        .into_iter()
        .filter(|it| spoken.contains(it))
        .collect();
    assert!(english.is_empty(), "{at}: {english:?} in {text}");
    assert!(spoken.contains(&"der"), "{at}: {text}");
}

#[test]
fn no_english_sentence_is_on_a_german_page() {
    let world = World::start();
    let mut home = certified(&world);
    let browser = Browser::start(world.path(), GERMAN);
    browser.sign_in(&world.url("/"), "home", PASSWORD);
    browser.says("Alles zugestellt");
    is_german(&browser, "well");
    // Its certificate is another authority's.
    browser.click("#check");
    browser.says("Nicht ausgewiesen");
    is_german(&browser, "checked, not proved");
    let authority = dd_tests::world::AUTHORITY;
    let _ = world
        .ddadm()
        .run(&["site", "set", "home", "--authority", authority])
        .done();
    browser.click("#check");
    browser.says("Das ist Ihr Server.");
    browser.says("ausgestellt von");
    is_german(&browser, "checked and proved");
    let _ = world
        .ddadm()
        .run(&["site", "set", "home", "--authority", "own-ca"])
        .done();
    browser.go(&world.url("/"));
    browser.fill("#csr", &request());
    browser.click("#issue form button");
    browser.says("Das Zertifikat ist ausgestellt.");
    browser.run("document.querySelector('#issued details').open = true");
    is_german(&browser, "issued");
    home.stop();
    world.queue("home", 1);
    world.site_is("home", "waiting");
    browser.go(&world.url("/"));
    browser.says("Ihr Server ist nicht erreichbar");
    is_german(&browser, "down");
}

/// A request, as a member's `openssl` makes it.
fn request() -> String {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(Vec::new()).unwrap();
    params.serialize_request(&key).unwrap().pem().unwrap()
}

#[test]
fn an_issued_certificate_is_in_sight_and_stays_for_later_sign_ins() {
    let mut world = World::start();
    let _home = certified(&world);
    let phone = Look {
        width: 360,
        height: 740,
        ..GERMAN
    };
    let browser = Browser::start(world.path(), phone);
    browser.sign_in(&world.url("/"), "home", PASSWORD);
    browser.fill("#csr", &request());
    browser.click("#issue form button");
    browser.says("Das Zertifikat ist ausgestellt.");
    let in_sight = "const it = document.querySelector('#issued .button').getBoundingClientRect();
        return it.top >= 0 && it.bottom <= innerHeight";
    until("the download in sight", PATIENCE, || {
        (browser.run(in_sight) == true).then_some(())
    });
    let linked = browser.run("return document.querySelector('.banner a').hash");
    assert_eq!(linked, "#issued");
    let wide = browser.run("return document.documentElement.scrollWidth");
    assert!(wide.as_u64().is_some_and(|it| it <= 360), "{wide}");
    // Another session, and another start of the controller.
    world.stop_controller();
    world.start_controller();
    let cookie = signed_in(&world, "home");
    assert!(page(&world, &cookie, "en").contains("id=\"issued\""));
    let chain = curl(&["-H", &cookie, &world.url("/certificate.pem")]);
    assert_eq!(
        chain.body.matches("BEGIN CERTIFICATE").count(),
        2,
        "{chain:?}"
    );
    let listed = world.json(&["cert", "list", "home"]);
    let serial = listed[0]["serial"].as_str().expect("a serial");
    let _ = world.ddadm().run(&["cert", "revoke", serial]).done();
    let gone = curl(&["-H", &cookie, &world.url("/certificate.pem")]);
    assert_eq!(gone.status, 303, "{gone:?}");
}

#[test]
fn a_private_key_is_neither_kept_nor_logged() {
    let mut world = World::start();
    let _home = certified(&world);
    let pair = KeyPair::generate().unwrap();
    let secret = pair.serialize_pem();
    let body: String = secret.lines().nth(1).expect("a line").to_owned();
    let browser = Browser::start(world.path(), Look::DESKTOP);
    browser.sign_in(&world.url("/"), "home", PASSWORD);
    // A file stays where it is.
    for (name, content) in [
        ("home.key", secret.as_bytes()),
        ("home.der", &pair.serialize_der()),
    ] {
        let file = world.path().join(name);
        fs::write(&file, content).unwrap();
        browser.fill("#csr-file", file.to_str().unwrap());
        browser.says("It stays with you and was not sent");
        assert_eq!(
            browser.run("return document.getElementById('csr').value"),
            ""
        );
        browser.run("document.getElementById('csr-key').hidden = true");
        fs::remove_file(&file).unwrap();
    }
    browser.fill("#csr", &secret);
    browser.click("#issue form button");
    browser.says("That was your private key.");
    assert!(!browser.text().contains(&body));
    // The refusal that follows is in the log when everything before it is.
    let wrong = curl(&["-u", "home:guess", &world.url("/etrn")]);
    assert_eq!(wrong.status, 401);
    world.controller().log_line("sign-in failed");
    assert_eq!(world.controller().lines(&body), Vec::<String>::new());
    world.stop_controller();
    let found = holds(&world.controller_state(), body.as_bytes());
    assert_eq!(found, Vec::<String>::new());
}

/// The files below a directory in which these bytes are.
fn holds(directory: &Path, bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(holds(&path, bytes));
        } else if path.is_file() {
            let content = fs::read(&path).unwrap_or_default();
            if content.windows(bytes.len()).any(|it| it == bytes) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

/// HTML, "Dates and times": a second has at most three digits behind its point; and people are told the zone.
#[test]
fn times_are_valid_and_say_their_zone() {
    let world = World::start();
    let _home = world.away("home", 2, PASSWORD);
    let cookie = signed_in(&world, "home");
    let page = page(&world, &cookie, "en");
    let times: Vec<&str> = page.split("datetime=\"").skip(1).collect();
    assert!(times.len() > 2, "{page}");
    for time in times {
        let (at, rest) = time.split_once('"').expect("a value");
        let fraction = at
            .split_once('.')
            .map_or("", |(_, it)| it.trim_end_matches('Z'));
        assert!(at.ends_with('Z') && fraction.len() <= 3, "{at}");
        let (_, title) = rest.split_once("title=\"").expect("a title");
        let exact = title.split('"').next().expect("its end");
        let zone = exact.rsplit(' ').next().unwrap_or_default();
        let is_zone = zone.len() >= 3 && !zone.contains(':');
        assert!(is_zone, "{exact}");
    }
    assert!(page.contains("(start of the day, "), "{page}");
}

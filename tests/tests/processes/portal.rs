//! The members' portal, in a browser and over plain HTTP.

use std::process::Command;

use dd_tests::browser::{Browser, Look, Scripts};
use dd_tests::http::{Answer, curl};
use dd_tests::layout::Layout;
use dd_tests::site::{At, Script, Site};
use dd_tests::submit::message;
use dd_tests::wait::{PATIENCE, until};
use dd_tests::world::World;
use rcgen::{CertificateParams, KeyPair};

const PASSWORD: &str = "correct horse battery";

#[test]
fn deliver_now_shows_its_outcome_without_a_reload() {
    let world = World::start();
    let mut home = world.away("home", 2, PASSWORD);
    let browser = Browser::start(world.path(), Look::DESKTOP);
    browser.sign_in(&world.url("/"), "home", PASSWORD);
    browser.says("Your server cannot be reached");
    assert!(
        browser.text().contains("no mail server listens"),
        "{}",
        browser.text()
    );
    // Gone if the page were loaded anew.
    browser.run("window.unloaded = 'not yet'");
    browser.click("#deliver");
    browser.says("Not reached. Your mail stays here.");
    home.resume();
    browser.click("#deliver");
    browser.says("2 messages delivered.");
    browser.says("Everything delivered");
    home.received(2);
    assert_eq!(browser.run("return window.unloaded"), "not yet");
    let complaints = browser
        .run("return document.querySelectorAll('script:not([src]), [style], [onclick]').length");
    assert_eq!(complaints, 0);
}

#[test]
fn without_scripts_it_does_the_same() {
    let world = World::start();
    let mut home = world.away("home", 1, PASSWORD);
    home.resume();
    let look = Look {
        scripts: Scripts::Off,
        language: "de",
        ..Look::DESKTOP
    };
    let browser = Browser::start(world.path(), look);
    browser.sign_in(&world.url("/"), "home", PASSWORD);
    browser.says("Ihr Server ist nicht erreichbar");
    browser.click("#deliver");
    browser.says("1 Nachricht zugestellt.");
    home.received(1);
    browser.click("a[hreflang='en']");
    browser.says("Everything delivered");
    browser.click("form[action='/sign-out'] button");
    browser.says("Sign in");
}

#[test]
fn a_member_has_the_server_checked_from_every_outbound_address() {
    let world = World::with_agents(2);
    let home = world.home("home", &[]);
    world.set_password("home", PASSWORD);
    let browser = Browser::start(world.path(), Look::DESKTOP);
    browser.sign_in(&world.url("/"), "home", PASSWORD);
    browser.click("#check");
    browser.says("through out1");
    browser.says("through out2");
    browser.says("Name in the certificate");
    let proved = browser.run("return document.querySelectorAll('.check > .state.good').length");
    assert_eq!(proved, 2);
    assert!(home.messages().is_empty());
}

/// Everything that a hostile home server, sender or client can make the portal show.
#[test]
fn what_came_over_the_network_stays_text() {
    const PROBE: &str = "<img src=x onerror=alert(1)>\"'\u{1b}[2J";
    let world = World::start();
    let probe = "\"<script>alert(1)</script>\"@evil.example";
    let script = Script::plain().says(At::Mail, &format!("550 5.7.1 {PROBE}"));
    let home = Site::start(script);
    world.add_listed("home", home.address());
    world.set_password("home", PASSWORD);
    world
        .smtp()
        .send(probe, "me@home.example", &message("<b>subject</b>"));
    world.site_is("home", "waiting");
    let browser = Browser::start(world.path(), Look::DESKTOP);
    browser.sign_in(&world.url("/"), "home", PASSWORD);
    browser.says("<script>alert(1)</script>");
    browser.says("<img src=x onerror=alert(1)>");
    assert!(!browser.text().contains("subject"));
    let made =
        browser.run("return document.querySelectorAll('main img, main script, main b').length");
    assert_eq!(made, 0);
    // The password stands in no log, whatever was typed.
    let answer = sign_in(&world, "<b>home", "wrong password", &[]);
    assert_eq!(answer.status, 403);
    assert!(answer.body.contains("&#60;b&#62;home"), "{}", answer.body);
}

fn sign_in(world: &World, site: &str, password: &str, more: &[&str]) -> Answer {
    let (site, password) = (format!("site={site}"), format!("password={password}"));
    let url = world.url("/sign-in");
    let args = [
        "--data-urlencode",
        &site,
        "--data-urlencode",
        &password,
        &url,
    ];
    curl(&[more, &args].concat())
}

/// The cookie and the token of somebody who has signed in.
fn signed_in(world: &World, site: &str) -> (String, String) {
    let answer = sign_in(world, site, PASSWORD, &[]);
    assert_eq!(answer.status, 303, "{answer:?}");
    let set = answer.header("set-cookie");
    assert!(
        set.contains("HttpOnly") && set.contains("SameSite=Lax"),
        "{set}"
    );
    let cookie = format!("Cookie: {}", set.split(';').next().expect("a pair"));
    let page = curl(&["-H", &cookie, &world.url("/")]);
    let (_, rest) = page
        .body
        .split_once("name=\"csrf\" value=\"")
        .expect("a form");
    let token = rest.split('"').next().expect("a token").to_owned();
    (cookie, token)
}

#[test]
fn a_site_cannot_see_or_touch_anothers_page() {
    let world = World::start();
    for name in ["home", "neighbour"] {
        let _ = world.home(name, &[]);
        world.set_password(name, PASSWORD);
    }
    let (home, home_token) = signed_in(&world, "home");
    let (other, other_token) = signed_in(&world, "neighbour");
    let page = curl(&["-H", &home, &world.url("/?site=neighbour")]).body;
    assert!(
        page.contains(">home</span>") && !page.contains("neighbour"),
        "{page}"
    );
    let hold = |cookie: &str, token: &str, more: &[&str]| {
        let data = format!("csrf={token}&until=2099-01-01&site=neighbour");
        let url = world.url("/resume");
        let args = ["-H", cookie, "-d", &data, &url];
        curl(&[more, &args].concat()).status
    };
    // Another session's token, none, and another site's page are refused.
    assert_eq!(hold(&home, &other_token, &[]), 403);
    assert_eq!(hold(&home, "", &[]), 403);
    assert_eq!(
        hold(&home, &home_token, &["-H", "Sec-Fetch-Site: cross-site"]),
        403
    );
    assert_eq!(
        hold(&home, &home_token, &["-H", "Origin: http://evil.example"]),
        403
    );
    assert_eq!(hold(&home, &home_token, &[]), 303);
    // An id that somebody fixed is nobody's, and is not taken over at sign-in.
    let fixed = "Cookie: session=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    assert!(
        curl(&["-H", fixed, &world.url("/")])
            .body
            .contains("id=\"password\"")
    );
    let answer = sign_in(&world, "home", PASSWORD, &["-H", fixed]);
    assert!(!answer.header("set-cookie").contains("AAAAAAAA"));
    // Signed out, the id is worth nothing.
    let data = format!("csrf={other_token}");
    let out = curl(&["-H", &other, "-d", &data, &world.url("/sign-out")]);
    assert_eq!(out.status, 303);
    assert_eq!(curl(&["-H", &other, &world.url("/live")]).status, 401);
}

#[test]
fn a_member_pauses_changes_the_password_and_makes_a_wake_up_url() {
    let world = World::start();
    let _home = world.home("home", &[]);
    world.set_password("home", PASSWORD);
    let (cookie, token) = signed_in(&world, "home");
    let post = |path: &str, data: &str| {
        let data = format!("csrf={token}&{data}");
        let answer = curl(&["-H", &cookie, "-d", &data, &world.url(path)]);
        assert_eq!(answer.status, 303, "{answer:?}");
        curl(&["-H", &cookie, &world.url("/")]).body
    };
    assert!(post("/hold", "until=2020-01-01").contains("in the future"));
    let day = Command::new("date")
        .args(["-d", "+3 days", "+%F"])
        .output()
        .expect("date");
    let day = String::from_utf8_lossy(&day.stdout).trim().to_owned();
    assert!(post("/hold", &format!("until={day}")).contains("Delivery is paused"));
    world.site_is("home", "held");
    assert!(post("/resume", "").contains("Delivery goes on."));
    world.site_is("home", "idle");
    let _ = world.ddadm().run(&["site", "hold", "home"]).done();
    assert!(post("/resume", "").contains("did not work"));
    assert_eq!(world.show("home")["state"], "held");
    let contact = |address: &str, password: &str| {
        let password = password.replace(' ', "+");
        post("/contact", &format!("contact={address}&current={password}"))
    };
    assert!(contact("me@elsewhere.example", "wrong password").contains("is not right"));
    assert!(contact("nobody", PASSWORD).contains("no mail address"));
    assert_eq!(world.show("home")["contact"], serde_json::Value::Null);
    let page = contact("me@elsewhere.example", PASSWORD);
    assert!(page.contains("The contact has been changed."), "{page}");
    assert_eq!(world.show("home")["contact"], "me@elsewhere.example");
    assert!(contact("", PASSWORD).contains("There is no contact any more."));
    assert_eq!(world.show("home")["contact"], serde_json::Value::Null);
    let audited = world.json(&["audit"]).to_string();
    let changed = r#"contact none → \"me@elsewhere.example\""#;
    assert!(
        audited.contains(changed) && audited.contains("member:home"),
        "{audited}"
    );
    let page = post("/wake-secret", "do=new");
    let (_, rest) = page.split_once("/wake/").expect("a URL");
    let secret: String = rest.chars().take_while(|c| *c != '<').collect();
    assert_eq!(curl(&[&world.url(&format!("/wake/{secret}"))]).status, 409);
    assert!(
        !curl(&["-H", &cookie, &world.url("/")])
            .body
            .contains(&secret)
    );
    let change = "current=wrong+password&new=battery+staple&again=battery+staple";
    assert!(post("/password", change).contains("is not right"));
    let (elsewhere, _) = signed_in(&world, "home");
    let change = "current=correct+horse+battery&new=battery+staple&again=battery+staple";
    assert!(post("/password", change).contains("has been changed"));
    assert_eq!(curl(&["-H", &elsewhere, &world.url("/live")]).status, 401);
    assert_eq!(sign_in(&world, "home", PASSWORD, &[]).status, 403);
    assert_eq!(sign_in(&world, "home", "battery staple", &[]).status, 303);
}

#[test]
fn over_tls_the_session_is_kept_for_this_host_and_tls_alone() {
    let world = World::laid_out(
        Layout {
            secure_web: true,
            ..Layout::default()
        },
        1,
    );
    let _home = world.home("home", &[]);
    world.set_password("home", PASSWORD);
    let url = format!("https://{}", world.listeners().web);
    let sign_in = format!("{url}/sign-in");
    let form = "site=home&password=correct+horse+battery";
    let answer = curl(&["-k", "-d", form, &sign_in]);
    assert_eq!(answer.status, 303, "{answer:?}");
    let set = answer.header("set-cookie");
    assert!(
        set.starts_with("__Host-session=") && set.ends_with("; Secure"),
        "{set}"
    );
    assert!(
        answer
            .header("strict-transport-security")
            .contains("max-age")
    );
    let cookie = format!("Cookie: {}", set.split(';').next().expect("a pair"));
    let page = curl(&["-k", "-H", &cookie, &url]);
    assert!(page.body.contains("Everything delivered"), "{}", page.body);
    let login = format!("home:{PASSWORD}");
    let etrn = curl(&["-k", "-u", &login, &format!("{url}/etrn")]);
    assert_eq!(etrn.body, "home: nothing waiting\n");
}

#[test]
fn nothing_comes_from_elsewhere_and_nothing_may_run_in_a_page() {
    let world = World::start();
    let answer = curl(&["-H", "Accept-Language: de", &world.url("/")]);
    assert!(answer.body.contains("<html lang=\"de\">"));
    let policy = answer.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self'"));
    assert!(!policy.contains("unsafe-inline"), "{policy}");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert!(!answer.body.contains("://"), "{}", answer.body);
    until("the style sheet", PATIENCE, || {
        (curl(&[&world.url("/portal.css")]).status == 200).then_some(())
    });
}

/// A request for these names, as a member's `openssl` makes it.
fn request(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let params = CertificateParams::new(names).unwrap();
    let key = KeyPair::generate().unwrap();
    params.serialize_request(&key).unwrap().pem().unwrap()
}

/// Sends a request as the form does; what came of it is on the next page.
fn asks_for_a_certificate(world: &World, cookie: &str, token: &str) {
    let (csr, token) = (format!("csr={}", request(&[])), format!("csrf={token}"));
    let url = world.url("/certificate");
    let args = [
        "-H",
        cookie,
        "--data-urlencode",
        &csr,
        "--data-urlencode",
        &token,
        &url,
    ];
    assert_eq!(curl(&args).status, 303);
}

/// A world with an authority of its own, which the site `home` proves itself by.
fn certified() -> (World, Site) {
    let world = World::start();
    let home = world.home("home", &[]);
    world.set_password("home", PASSWORD);
    let _ = world.ddadm().run(&["ca", "create", "own-ca"]).done();
    let _ = world
        .ddadm()
        .run(&["site", "set", "home", "--authority", "own-ca"])
        .done();
    (world, home)
}

#[test]
fn a_member_gets_a_certificate_for_a_request_and_downloads_it() {
    let (world, _home) = certified();
    for (language, done, lines) in [
        (
            "en",
            "The certificate has been issued.",
            "What goes into the configuration",
        ),
        (
            "de",
            "Das Zertifikat ist ausgestellt.",
            "Was in die Konfiguration gehört",
        ),
    ] {
        let look = Look {
            language,
            ..Look::DESKTOP
        };
        let browser = Browser::start(world.path(), look);
        browser.sign_in(&world.url("/"), "home", PASSWORD);
        let file = world.path().join("home.csr");
        std::fs::write(&file, request(&["home.example"])).unwrap();
        // Chosen as a file, it is read into the field.
        browser.fill("#csr-file", file.to_str().unwrap());
        until("the file in the field", PATIENCE, || {
            let read = browser.run("return document.getElementById('csr').value.length");
            (read.as_u64()? > 100).then_some(())
        });
        browser.click("#issue form button");
        browser.says(done);
        browser.click("#issue summary");
        browser.says(lines);
        browser.says("smtpd_tls_cert_file = /etc/ssl/mail/home.pem");
    }
    let listed = world.json(&["cert", "list", "home"]);
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    let audit = world.json(&["audit"]).to_string();
    assert!(audit.contains("member:home"), "{audit}");

    let (cookie, token) = signed_in(&world, "home");
    asks_for_a_certificate(&world, &cookie, &token);
    let chain = curl(&["-H", &cookie, &world.url("/certificate.pem")]);
    assert_eq!(
        chain.body.matches("BEGIN CERTIFICATE").count(),
        2,
        "{chain:?}"
    );
    let disposition = chain.header("content-disposition");
    assert!(disposition.contains("home.pem"), "{disposition}");
    let ca = curl(&["-H", &cookie, &world.url("/ca.pem")]);
    assert_eq!(ca.body.matches("BEGIN CERTIFICATE").count(), 1, "{ca:?}");
}

#[test]
fn a_request_is_looked_at_as_that_of_an_operator_and_only_so_often() {
    let (world, _home) = certified();
    let (cookie, token) = signed_in(&world, "home");
    let token = format!("csrf={token}");
    let url = world.url("/certificate");
    let post = |csr: &str, token: &str| {
        let csr = format!("csr={csr}");
        let data = ["--data-urlencode", &csr, "--data-urlencode", token, &url];
        curl(&[&["-H", cookie.as_str()][..], &data].concat()).status
    };
    let says = || curl(&["-H", &cookie, &world.url("/")]).body;
    assert_eq!(post(&request(&["home.example"]), "csrf=wrong"), 403);
    for (csr, answer) in [
        (request(&["other.example"]), "asks for another name"),
        ("no request".to_owned(), "This is no certificate request"),
        (
            request(&["home.example"]).replacen("A", "B", 40),
            "certificate request",
        ),
    ] {
        assert_eq!(post(&csr, &token), 303);
        assert!(says().contains(answer), "{answer}");
    }
    assert_eq!(post(&"A".repeat(20_000), &token), 413);
    assert_eq!(
        world
            .json(&["cert", "list", "home"])
            .as_array()
            .unwrap()
            .len(),
        0
    );
    // What was refused does not count.
    for _ in 0..10 {
        assert_eq!(post(&request(&["home.example"]), &token), 303);
    }
    assert!(says().contains("has been issued"));
    assert_eq!(post(&request(&["home.example"]), &token), 303);
    assert!(says().contains("too many certificates"));
    assert_eq!(
        world
            .json(&["cert", "list", "home"])
            .as_array()
            .unwrap()
            .len(),
        10
    );
}

#[test]
fn a_site_of_another_authority_is_offered_none() {
    let world = World::start();
    let _home = world.home("home", &[]);
    world.set_password("home", PASSWORD);
    let (cookie, token) = signed_in(&world, "home");
    let page = curl(&["-H", &cookie, &world.url("/")]).body;
    assert!(!page.contains("action=\"/certificate\""), "{page}");
    asks_for_a_certificate(&world, &cookie, &token);
    let page = curl(&["-H", &cookie, &world.url("/")]).body;
    assert!(page.contains("did not work"), "{page}");
}

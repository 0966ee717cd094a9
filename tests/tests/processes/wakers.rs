//! The clients that members have, as they speak: what routers, old scripts and mail programs send, byte for byte, and whether
//! what they are told makes them stop or go on.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dd_tests::http::curl;
use dd_tests::wait::PATIENCE;
use dd_tests::world::{MAIL_NAME, World};

const PASSWORD: &str = "correct horse battery";
const UMLAUT: &str = "gr\u{fc}n wie Gras";

/// Sends these bytes, and reads until the other end hangs up.
fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(bytes).expect("it reads");
    let mut seen = Vec::new();
    stream.read_to_end(&mut seen).expect("it hangs up");
    String::from_utf8_lossy(&seen).into_owned()
}

/// The status and the body of the last answer in it.
fn answer(said: &str) -> (u16, String) {
    let last = said.rfind("HTTP/1.").map_or("", |at| &said[at..]);
    let status = last.split(' ').nth(1).and_then(|it| it.parse().ok());
    let body = last.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status.unwrap_or_default(), body.to_owned())
}

fn basic(user_and_password: &[u8]) -> String {
    STANDARD.encode(user_and_password)
}

#[test]
fn requests_wake_the_site_however_old_or_odd_their_client() {
    let world = World::start();
    let _home = world.away("home", 1, PASSWORD);
    let _other = world.away("other", 1, UMLAUT);
    let right = basic(format!("home:{PASSWORD}").as_bytes());
    let latin1: Vec<u8> = UMLAUT.chars().map(|it| it as u8).collect();
    let with = |line: &str, more: &str| {
        format!("{line}\r\nHost: x\r\nConnection: close\r\n{more}\r\n").into_bytes()
    };
    let get = |credentials: &str| {
        with(
            "GET /etrn HTTP/1.1",
            &format!("Authorization: Basic {credentials}\r\n"),
        )
    };
    let signed = format!("Authorization: Basic {right}\r\n");
    let sent = |kind: &str, body: &str| {
        let head = format!(
            "{signed}Content-Type: {kind}\r\nContent-Length: {}\r\n",
            body.len()
        );
        [with("POST /etrn HTTP/1.1", &head), body.into()].concat()
    };
    let chunked = format!(
        "{signed}Content-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n"
    );
    let woken = "released, 1 waiting\n";
    let requests: Vec<(&str, Vec<u8>, u16, &str)> = vec![
        ("right", get(&right), 200, woken),
        ("wget --spider", with("HEAD /etrn HTTP/1.1", &signed), 200, ""),
        (
            "HTTP/1.0 without a host",
            format!("GET /etrn HTTP/1.0\r\n{signed}\r\n").into(),
            200,
            woken,
        ),
        (
            "HTTP/1.1 without a host",
            format!("GET /etrn HTTP/1.1\r\nConnection: close\r\n{signed}\r\n").into(),
            200,
            woken,
        ),
        (
            "line feeds alone",
            String::from_utf8_lossy(&get(&right)).replace('\r', "").into(),
            200,
            woken,
        ),
        (
            "through a proxy that leaves the URL whole",
            with("GET http://mail.provider.example/etrn HTTP/1.1", &signed),
            200,
            woken,
        ),
        (
            "small letters and two blanks",
            with("GET /etrn HTTP/1.1", &format!("authorization: basic  {right}\r\n")),
            200,
            woken,
        ),
        ("no padding", get(right.trim_end_matches('=')), 200, woken),
        (
            "echo user:password | base64",
            get(&basic(format!("home:{PASSWORD}\n").as_bytes())),
            200,
            woken,
        ),
        (
            "a form",
            sent("application/x-www-form-urlencoded", "wait=0"),
            200,
            woken,
        ),
        (
            "curl -F",
            sent("multipart/form-data; boundary=x", "--x\r\n\r\n1\r\n--x--\r\n"),
            200,
            woken,
        ),
        ("curl --json", sent("application/json", "{}"), 200, woken),
        (
            "a body in chunks",
            [
                with("POST /etrn HTTP/1.1", &chunked),
                b"6\r\nwait=0\r\n0\r\n\r\n".to_vec(),
            ]
            .concat(),
            200,
            woken,
        ),
        (
            "UTF-8",
            get(&basic(format!("other:{UMLAUT}").as_bytes())),
            200,
            woken,
        ),
        (
            "Latin-1",
            get(&basic(&[b"other:", &*latin1].concat())),
            200,
            woken,
        ),
        (
            "curl --digest",
            with("GET /etrn HTTP/1.1", "Authorization: Digest username=\"home\"\r\n"),
            401,
            "sign in",
        ),
        ("curl -T", with("PUT /etrn HTTP/1.1", &signed), 405, ""),
        (
            "a FRITZ!Box",
            format!(
                "GET /nic/update?hostname=home.example&myip=198.51.100.7,2001:db8::7 HTTP/1.0\r\nHost: mail.provider.example:8443\r\nConnection: close\r\nUser-Agent: Fritz!Box DDNS/1.0.1\r\n{signed}\r\n"
            )
            .into(),
            200,
            "good 198.51.100.7,2001:db8::7\n",
        ),
        (
            "a password in Latin-1 in the URL",
            with(
                "GET /nic/update?hostname=other.example&myip=192.0.2.7&user=other&password=gr%FCn+wie+Gras HTTP/1.1",
                "",
            ),
            200,
            "good 192.0.2.7\n",
        ),
    ];
    for (client, bytes, status, body) in requests {
        let (found, said) = answer(&raw(world.listeners().web, &bytes));
        assert_eq!(found, status, "{client}: {said}");
        assert!(said.contains(body), "{client}: {said}");
    }
    let (status, _) = answer(&raw(world.listeners().web, b"GET /etrn\r\n\r\n"));
    assert_eq!(status, 400, "HTTP/0.9");
}

#[test]
fn what_dyndns_clients_put_into_their_urls_is_passed_over_or_understood() {
    let world = World::start();
    let _home = world.away("home", 1, PASSWORD);
    let login = format!("home:{PASSWORD}");
    for (query, body) in [
        ("hostname=HOME.Example&myip=192.0.2.7", "good 192.0.2.7\n"),
        ("hostname=home.example.&myip=192.0.2.7", "nochg 192.0.2.7\n"),
        (
            "hostname=home.example%2Chome.dyn.example&myip=192.0.2.7",
            "nochg 192.0.2.7\nnochg 192.0.2.7\n",
        ),
        (
            "hostname=home.example+home.dyn.example&myip=192.0.2.7",
            "nochg 192.0.2.7\nnochg 192.0.2.7\n",
        ),
        ("hostname=www.home.example&myip=192.0.2.7", "nohost\n"),
        (
            "system=dyndns&hostname=home.example&myip=192.0.2.7&wildcard=OFF&mx=x&backmx=NO&offline=YES",
            "nochg 192.0.2.7\n",
        ),
        ("hostname=home.example&myip=", "good 127.0.0.1\n"),
    ] {
        let url = world.url(&format!("/nic/update?{query}"));
        assert_eq!(curl(&["-u", &login, &url]).body, body, "{query}");
    }
    let url = world.url("/nic/update?hostname=home.example");
    assert_eq!(curl(&["-u", &login, "-I", &url]).status, 200);
}

/// inadyn ends for good on a 4xx, and repeats where it sees no word of success.
#[test]
fn a_router_that_is_given_the_secret_url_is_told_nothing_that_makes_it_end() {
    let world = World::start();
    let _home = world.away("home", 1, PASSWORD);
    let secret = world.json(&["site", "wake-secret", "home"])["secret"].clone();
    let secret = secret.as_str().expect("a secret").to_owned();
    let router = format!("/wake/{secret}?h=home.dyn.example");
    let told = curl(&[&world.url(&router)]);
    assert_eq!(told.body, "home: released, 1 waiting\ngood\n");
    let _ = world.ddadm().run(&["site", "hold", "home"]).done();
    let told = curl(&[&world.url(&router)]);
    assert_eq!(told.status, 200, "{told:?}");
    assert!(told.body.ends_with("\ngood\n"), "{told:?}");
    let script = curl(&[&world.url(&format!("/wake/{secret}"))]);
    assert_eq!(
        script.status, 409,
        "a script asks for the truth: {script:?}"
    );
    let _ = world.ddadm().run(&["site", "resume", "home"]).done();
    let asks = format!("GET {router} HTTP/1.1\r\nHost: x\r\n\r\n").repeat(100);
    let refused = (0..20).find_map(|_| {
        let said = raw(world.listeners().web, asks.as_bytes());
        assert!(!said.contains("HTTP/1.1 4"), "{said}");
        let (_, refused) = said.split_once("HTTP/1.1 503")?;
        Some(refused.to_owned())
    });
    let refused = refused.expect("more than a site is woken for");
    let (head, body) = refused.split_once("\r\n\r\n").expect("an answer");
    assert!(body.starts_with("911\n"), "{body}");
    assert!(head.contains("Retry-After: "), "{head}");
}

/// curl speaks ETRN, and so does msmtp: with TLS and AUTH both are told the truth.
#[test]
fn curl_and_its_like_speak_etrn_in_clear_and_signed_in() {
    let world = World::start();
    let mut home = world.away("home", 2, PASSWORD);
    let smtp = world.listeners().smtp;
    let root = world.path().join("provider.pem");
    std::fs::write(&root, world.provider.root_pem()).expect("a file");
    let speak = |args: &[&str]| {
        let output = Command::new("curl")
            .args(["--silent", "--verbose", "--max-time", "60"])
            .args(["-X", "ETRN home.example"])
            .args(args)
            .output()
            .expect("curl can be run");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    home.resume();
    let (port, address) = (smtp.port(), smtp.ip());
    let said = speak(&[
        "--ssl-reqd",
        "--cacert",
        &root.display().to_string(),
        "--resolve",
        &format!("{MAIL_NAME}:{port}:{address}"),
        "--user",
        &format!("home:{PASSWORD}"),
        &format!("smtp://{MAIL_NAME}:{port}"),
    ]);
    assert!(said.contains("< 253 2.0.0 2 pending"), "{said}");
    home.received(2);
    let said = speak(&[&format!("smtp://{smtp}")]);
    assert!(said.contains("< 250 2.0.0 OK, queuing"), "{said}");
}

//! The doors over HTTP, by the clients that members have: wget, curl, fetchmail, ddclient.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

use dd_tests::http::curl;
use dd_tests::layout::Layout;
use dd_tests::loopback;
use dd_tests::scrape::Scrape;
use dd_tests::wait::{PATIENCE, until};
use dd_tests::world::World;

const PASSWORD: &str = "correct horse battery";
const LOGIN: &str = "home:correct horse battery";
/// Who asks is never who gets the mail.
const ASKER: &str = "127.0.0.9";

fn run(program: &str, args: &[&str]) -> Output {
    Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("{program} cannot be run: {error}; `make deps` installs it"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn wget_with_the_old_spelling_wakes_the_site_and_says_what_came_of_it() {
    let world = World::start();
    let mut home = world.away("home", 3, PASSWORD);
    home.resume();
    let url = world.url("/intern/etrn.cgi?wait=20");
    let password = format!("--http-passwd={PASSWORD}");
    let bind = format!("--bind-address={ASKER}");
    let args = ["-q", "-O", "-", "--http-user=home", &password, &bind, &url];
    let output = run("wget", &args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "home: 3 relayed\n");
    home.received(3);
    let asker: IpAddr = ASKER.parse().expect("an address");
    assert!(home.connections().iter().all(|seen| seen.peer != asker));
}

#[test]
fn curl_gets_statuses_that_a_script_can_test() {
    let world = World::start();
    let mut home = world.away("home", 1, PASSWORD);
    let url = world.url("/etrn?wait=30");
    let answer = curl(&["-u", LOGIN, &url]);
    assert_eq!(answer.status, 504, "{answer:?}");
    assert!(answer.body.starts_with("home: not reached: "), "{answer:?}");
    home.resume();
    let json = [
        "-u",
        LOGIN,
        "-d",
        "wait=30",
        "-H",
        "Accept: application/json",
    ];
    let answer = curl(&[&json[..], &[&world.url("/etrn")]].concat());
    assert_eq!(answer.status, 200, "{answer:?}");
    let expected = r#"{"site":"home","result":"done","waiting":1,"relayed":1,"deferred":0,"failed":0,"detail":null}"#;
    assert_eq!(answer.body, expected);
    assert_eq!(curl(&["-u", LOGIN, &url]).body, "home: nothing waiting\n");
    let _ = world.ddadm().run(&["site", "hold", "home"]).done();
    assert_eq!(curl(&["-u", LOGIN, &url]).status, 409);
}

#[test]
fn without_the_right_password_there_is_a_challenge_and_nothing_else() {
    let world = World::start();
    let _home = world.home("home", &[]);
    world.set_password("home", PASSWORD);
    let url = world.url("/etrn");
    let none = curl(&[&url]);
    assert_eq!(none.status, 401);
    assert!(none.header("www-authenticate").starts_with("Basic realm="));
    let wrong = curl(&["-u", "home:wrong password", &url]);
    let unknown = curl(&["-u", "nobody:wrong password", &url]);
    assert_eq!((wrong.status, &wrong.body), (401, &unknown.body));
    for bad in ["not base64!", "aG9tZQ==", "aG9tZQA6YWJjZGVmZ2g=", ""] {
        let header = format!("Authorization: Basic {bad}");
        assert_eq!(curl(&["-H", &header, &url]).status, 401, "{bad}");
    }
    let wait = format!("{url}?wait=20%0d%0aX-Evil:%20yes");
    let answer = curl(&["-u", LOGIN, &wait]);
    assert_eq!(answer.status, 400);
    assert_eq!(answer.header("x-evil"), "");
}

#[test]
fn ten_thousand_guesses_are_hashed_ten_times_and_the_member_still_gets_in() {
    let world = World::start();
    let _home = world.home("home", &[]);
    world.set_password("home", PASSWORD);
    let address = world.listeners().web;
    let stranger = thread::spawn(move || {
        let mut counts = [0_u32; 2];
        let mut left = 10_000;
        while left > 0 {
            // A connection has a hundred answers.
            let mut stream = dd_tests::secure::connect_from(ASKER.parse().expect("IP"), address);
            for _ in 0..left.min(100) {
                let status = guess(&mut stream);
                counts[usize::from(status == 429)] += 1;
                assert!(matches!(status, 401 | 429), "{status}");
                left -= 1;
            }
        }
        counts
    });
    let mut member = 0;
    while !stranger.is_finished() || member < 3 {
        assert_eq!(curl(&["-u", LOGIN, &world.url("/etrn")]).status, 200);
        member += 1;
    }
    let [hashed, refused] = stranger.join().expect("it counts");
    assert_eq!(hashed + refused, 10_000);
    // Ten, and one more for each ten seconds that it took.
    assert!((10..100).contains(&hashed), "{hashed}");
}

/// One wrong password on a connection that stays open; the status of the answer.
fn guess(stream: &mut TcpStream) -> u16 {
    let request = "GET /etrn HTTP/1.1\r\nHost: x\r\nAuthorization: Basic aG9tZTp3cm9uZyBwYXNzd29yZA==\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut seen = Vec::new();
    let mut buffer = [0; 2048];
    loop {
        let count = stream.read(&mut buffer).expect("it answers");
        assert!(count > 0, "hung up after {}", text(&seen));
        seen.extend_from_slice(&buffer[..count]);
        let answer = text(&seen);
        let Some((head, body)) = answer.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = length.and_then(|it| it.parse().ok()).expect("a length");
        if body.len() >= length {
            return head[9..12].parse().expect("a status");
        }
    }
}

#[test]
fn a_wake_secret_wakes_without_a_name_is_in_no_log_and_can_be_revoked() {
    let mut world = World::start();
    let mut home = world.away("home", 1, PASSWORD);
    let made = world.json(&["site", "wake-secret", "home"]);
    // A changed record is tried at once, and found down again.
    world.site_is("home", "waiting");
    home.resume();
    let secret = made["secret"].as_str().expect("a secret").to_owned();
    let url = world.url(&format!("/wake/{secret}?wait=30"));
    let answer = curl(&[&url]);
    assert_eq!((answer.status, &*answer.body), (200, "home: 1 relayed\n"));
    home.received(1);
    let router = world.url(&format!("/wake/{secret}?h=home.example"));
    assert_eq!(curl(&[&router]).body, "home: nothing waiting\ngood\n");
    assert_eq!(curl(&[&world.url("/wake/nonsense")]).status, 404);
    let _ = world
        .ddadm()
        .run(&["site", "wake-secret", "home", "--revoke"])
        .done();
    assert_eq!(curl(&[&url]).status, 404);
    world.controller().log_line("door=\"wake\"");
    assert!(world.controller().lines(&secret).is_empty());
}

#[test]
fn a_dyndns_client_tells_its_address_which_moves_no_mail() {
    let world = World::start();
    let mut home = world.away("home", 1, PASSWORD);
    home.resume();
    let url = |query: &str| world.url(&format!("/nic/update?{query}"));
    let update = |query: &str| curl(&["-u", LOGIN, &url(query)]).body;
    assert_eq!(
        update("hostname=home.example&myip=192.0.2.7"),
        "good 192.0.2.7\n"
    );
    home.received(1);
    assert_eq!(
        update("hostname=home.dyn.example&myip=192.0.2.7"),
        "nochg 192.0.2.7\n"
    );
    assert_eq!(update("hostname=other.example&myip=192.0.2.7"), "nohost\n");
    assert_eq!(
        update("hostname=home.example,other.example&myip=192.0.2.8"),
        "good 192.0.2.8\nnohost\n"
    );
    assert_eq!(
        update("hostname=home.example&myip=%3Cb%3E"),
        "good 127.0.0.1\n"
    );
    let bad = curl(&["-u", "home:wrong password", &url("hostname=home.example")]);
    assert_eq!((bad.status, &*bad.body), (401, "badauth\n"));
}

#[test]
fn routers_are_understood_however_they_spell_what_they_send() {
    let world = World::start();
    let _home = world.away("home", 1, PASSWORD);
    let long: Vec<String> = (0..25).map(|n| format!("h{n}.example")).collect();
    let long = format!(
        "/nic/update?hostname=home.example,{}&myip=192.0.2.7",
        long.join(",")
    );
    let nohosts = "nohost\n".repeat(25);
    let login: &[&str] = &["-u", LOGIN];
    for (more, path, body) in [
        (
            login,
            "/nic/update/?hostname=home.example&myip=192.0.2.7",
            "good 192.0.2.7\n",
        ),
        (
            login,
            "//nic/update?HOSTNAME=home.example&MyIP=192.0.2.7",
            "nochg 192.0.2.7\n",
        ),
        (
            login,
            "/nic/update%20https://dyn.example/?hostname=home.example&myip=192.0.2.7",
            "nochg 192.0.2.7\n",
        ),
        (
            login,
            "/nic/update?hostname=home.example&myip=192.0.2.7,2001:db8::1",
            "good 192.0.2.7,2001:db8::1\n",
        ),
        (
            login,
            "/nic/update?hostname=home.example&myip=192.0.2.7&myipv6=2001:db8::1/64",
            "nochg 192.0.2.7,2001:db8::1\n",
        ),
        (
            login,
            "/nic/update?hostname=x.example&hostname=home.example&myip=192.0.2.7",
            "nohost\ngood 192.0.2.7\n",
        ),
        (
            &["-u", LOGIN, "-d", "hostname=home.example&myip=192.0.2.7"],
            "/nic/update",
            "nochg 192.0.2.7\n",
        ),
        (
            &[],
            "/nic/update?hostname=home.example&myip=192.0.2.7&user=home&password=wrong",
            "badauth\n",
        ),
        (login, "/nic/update", "notfqdn\n"),
        (login, &long, &format!("nochg 192.0.2.7\n{nohosts}")),
        (login, "/etrn/x", "no such page\n"),
        (login, "/ETRN/", "home: released, 1 waiting\n"),
    ] {
        let mut args = more.to_vec();
        let url = world.url(path);
        args.extend(["--path-as-is", &url]);
        assert_eq!(curl(&args).body, body, "{path}");
    }
}

#[test]
fn a_failed_sign_in_leaves_a_line_and_what_passes_is_not_called_abuse() {
    let mut world = World::start();
    let _home = world.away("home", 1, PASSWORD);
    let url = world.url("/nic/update?hostname=home.example");
    let guess = || curl(&["-u", "home:guessed", &url]);
    let answers: Vec<_> = (0..12).map(|_| guess().status).collect();
    assert_eq!(answers[..10], [401; 10]);
    let later = guess();
    assert_eq!((later.status, &*later.body), (503, "911\n"));
    assert!(!later.header("retry-after").is_empty());
    world.controller().log_line("sign-in failed");
    let lines = world.controller().lines("sign-in failed");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("door=\"dyndns\""), "{lines:?}");
    let failed = |door| format!("dd_sign_ins_failed_total{{door=\"{door}\"}}");
    let scrape = Scrape::of(&world);
    assert_eq!(scrape.value(&failed("dyndns")), 13.0);
    assert_eq!(scrape.value(&failed("portal")), 0.0);
}

#[test]
fn the_outbound_addresses_are_public_and_tagged() {
    let world = World::start();
    let answer = curl(&[&world.url("/outbound.txt")]);
    assert_eq!(answer.body, "127.0.0.2\n192.0.2.0/27\n");
    let known = format!("If-None-Match: {}", answer.header("etag"));
    let again = curl(&["-H", &known, &world.url("/outbound.txt")]);
    assert_eq!((again.status, &*again.body), (304, ""));
    // Published before it works.
    let _ = world.token("out9", "127.0.0.40".parse().expect("IP"));
    let json = curl(&["-H", &known, &world.url("/outbound.json")]);
    let expected = r#"{"addresses":["127.0.0.2","127.0.0.40"],"networks":["192.0.2.0/27"]}"#;
    assert_eq!(json.body.trim_end(), expected);
    assert_eq!(
        curl(&["-H", &known, &world.url("/outbound.txt")]).status,
        200
    );
}

#[test]
fn heads_and_bodies_that_never_end_are_cut_off() {
    let world = World::start();
    let long = format!("Authorization: Basic {}\r\n", "A".repeat(1_000_000));
    let head = format!("GET /etrn HTTP/1.1\r\nHost: x\r\n{long}\r\n");
    assert_eq!(raw(world.listeners().web, &[&head]), "431");
    let form =
        "POST /etrn HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    let chunk = format!("4000\r\n{}\r\n", "a".repeat(0x4000));
    let endless = format!("{form}Transfer-Encoding: chunked\r\n\r\n{chunk}{chunk}");
    assert_eq!(raw(world.listeners().web, &[&endless]), "413");
    let slow = format!("{form}Content-Length: 100\r\n\r\nwait=");
    assert_eq!(raw(world.listeners().web, &[&slow]), "408");
}

/// The status that these bytes are answered with.
fn raw(address: SocketAddr, parts: &[&str]) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    for part in parts {
        // It may hang up while we write: that is an answer too.
        let _ = stream.write_all(part.as_bytes());
    }
    let mut seen = Vec::new();
    let _ = stream.read_to_end(&mut seen);
    text(&seen).split(' ').nth(1).unwrap_or_default().to_owned()
}

#[test]
fn fetchmail_wakes_the_site() {
    let world = World::start();
    let mut home = world.away("home", 2, PASSWORD);
    home.resume();
    let smtp = world.listeners().smtp;
    let (host, port) = (smtp.ip().to_string(), smtp.port().to_string());
    let output = Command::new("fetchmail")
        .args(["--fetchmailrc", "/dev/null", "--nosyslog", "--pidfile"])
        .arg(world.path().join("fetchmail.pid"))
        .args(["-v", "-p", "ETRN", "--service", &port])
        .args(["--fetchdomains", "home.example", &host])
        .env("HOME", world.path())
        .env("LC_ALL", "C")
        .output()
        .expect("`make deps` installs fetchmail");
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(said.contains("Queuing for home.example started"), "{said}");
    home.received(2);
}

/// The script of Debian's sendmail-base. It knows no other port than 25, and ends its lines in LF.
#[test]
fn sendmails_etrn_wakes_the_site() {
    let layout = Layout {
        smtp_port: 25,
        ..Layout::default()
    };
    let world = World::laid_out(layout, 1);
    let mut home = world.away("home", 2, PASSWORD);
    home.resume();
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../target/unpacked/sendmail-base/usr/sbin/etrn");
    assert!(script.exists(), "`make deps` unpacks sendmail-base");
    let output = Command::new("perl")
        .arg(&script)
        .arg("-v")
        .arg(world.listeners().smtp.ip().to_string())
        .arg("home.example")
        .output()
        .expect("Debian has perl");
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(said.contains("250 2.0.0 "), "{said}");
    assert!(output.status.success(), "{said}");
    home.received(2);
}

#[test]
fn ddclient_wakes_the_site() {
    let world = World::start();
    let mut home = world.away("home", 2, PASSWORD);
    home.resume();
    let config = world.path().join("ddclient.conf");
    let text_of_it = format!(
        "daemon=0\nssl=no\nuse=ip, ip=198.51.100.7\nprotocol=dyndns2\nserver={}\nlogin=home\npassword='{PASSWORD}'\nhome.example\n",
        world.listeners().web
    );
    private(&config, &text_of_it);
    let cache = world.path().join("ddclient.cache");
    let output = Command::new("ddclient")
        .args(["-daemon=0", "-force", "-verbose", "-noquiet", "-file"])
        .arg(&config)
        .arg("-cache")
        .arg(&cache)
        .output()
        .expect("`make deps` installs ddclient");
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(said.contains("good"), "{said}");
    home.received(2);
}

fn private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, text).expect("a file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("its mode");
}

#[test]
fn an_address_that_changed_a_second_ago_is_where_the_mail_goes() {
    let world = World::start();
    let mut old = world.away("home", 1, PASSWORD);
    let identity = world.ca.identity(&["home.example"]);
    let script = dd_tests::site::Script::with(&identity);
    // The same port at another address, as after a new dial-in.
    let moved = SocketAddr::from((loopback::fresh(), old.address().port()));
    let new = dd_tests::site::Site::start_at(moved, script);
    old.resume();
    old.behave(dd_tests::site::Script::plain());
    world.dns.set("home.dyn.example", &[moved.ip()]);
    let answer = curl(&["-u", LOGIN, &world.url("/etrn?wait=30")]);
    assert_eq!(answer.body, "home: 1 relayed\n");
    new.received(1);
    assert!(old.messages().is_empty());
    until("nothing to wait", PATIENCE, || {
        (world.show("home")["queued"]["messages"] == 0).then_some(())
    });
}

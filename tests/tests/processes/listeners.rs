//! What is listened on, and what `--check` finds before a start would.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};

use dd_tests::ddadm::Ddadm;
use dd_tests::layout::Layout;
use dd_tests::process::{Process, program};
use dd_tests::secure::connect_from;
use dd_tests::world::World;

/// A configuration that starts as it is, in `directory`.
fn whole(directory: &Path) -> String {
    format!(
        "hostname = \"mail.provider.example\"\n\
         state_dir = \"{0}/state\"\n\
         [intake]\n\
         smtp = [\"127.0.0.1:0\", \"[::1]:0\"]\n\
         [control]\n\
         listen = [\"127.0.0.1:0\", \"[::1]:0\"]\n\
         socket = \"{0}/run/dd-controller/admin.sock\"\n\
         [web]\n\
         listen = [\"127.0.0.1:0\", \"[::1]:0\"]\n\
         origin = \"https://wake.provider.example\"\n\
         [metrics]\n\
         listen = [\"127.0.0.1:0\", \"[::1]:0\"]\n\
         [notify]\n\
         smarthost = \"smtp.provider.example:25\"\n",
        directory.display()
    )
}

fn write(directory: &Path, text: &str) -> std::path::PathBuf {
    let path = directory.join("controller.toml");
    fs::write(&path, text).unwrap();
    path
}

fn check(name: &str, config: &Path) -> Output {
    let mut command = Command::new(program(name));
    command.arg("--config").arg(config).arg("--check");
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn each_door_listens_on_several_addresses_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let config = write(directory.path(), &whole(directory.path()));
    let checked = check("dd-controller", &config);
    assert_eq!(text(&checked.stdout), "ok\n", "{}", text(&checked.stderr));
    assert!(
        !directory.path().join("state").exists(),
        "a check makes nothing"
    );
    let mut command = Command::new(program("dd-controller"));
    let mut process = Process::start("dd-controller", command.arg("--config").arg(&config));
    let line = process.log_line("listening ");
    for door in ["smtp", "control", "web", "metrics"] {
        let begin = format!("{door}=127.0.0.1:");
        let word = line.split(' ').find(|it| it.starts_with(&begin));
        let word = word.unwrap_or_else(|| panic!("{door}: {line}"));
        let addresses = word.split_once('=').unwrap().1.split(',');
        let addresses: Vec<SocketAddr> = addresses.map(|it| it.parse().unwrap()).collect();
        assert_eq!(addresses.len(), 2, "{line}");
        for address in addresses {
            TcpStream::connect(address).unwrap();
        }
    }
    let socket = directory.path().join("run/dd-controller/admin.sock");
    let status = Ddadm::new(&socket).json(&["status"]);
    for door in ["smtp", "control", "web", "metrics"] {
        let listed = status["listeners"][door].as_array();
        assert_eq!(listed.map(Vec::len), Some(2), "{door}: {status}");
    }
    // Beside the controller that runs, its own ports are no trouble.
    let again = check("dd-controller", &config);
    assert_eq!(text(&again.stdout), "ok\n", "{}", text(&again.stderr));
    assert!(process.terminate().success());
}

/// Writes a certificate that has ended, and beside it its key; says where.
fn ended_certificate(directory: &Path) -> String {
    let names = vec!["mail.provider.example".to_owned()];
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    params.not_before = rcgen::date_time_ymd(2018, 1, 1);
    params.not_after = rcgen::date_time_ymd(2019, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let path = directory.join("ended.pem").display().to_string();
    fs::write(&path, params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(format!("{path}.key"), key.serialize_pem()).unwrap();
    path
}

#[test]
fn a_check_finds_what_a_start_would() {
    let directory = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let taken = taken.local_addr().unwrap();
    fs::write(directory.path().join("file"), "").unwrap();
    let file = directory.path().join("file").display().to_string();
    let ended = ended_certificate(directory.path());
    let state = format!("{}/state", directory.path().display());
    let smtp = "smtp = [\"127.0.0.1:0\", \"[::1]:0\"]";
    for (from, to, says) in [
        (
            smtp.to_owned(),
            format!("smtp = [\"{taken}\"]"),
            format!("cannot listen on {taken}: Address already in use"),
        ),
        (
            smtp.to_owned(),
            "smtp = [\"192.0.2.1:25\"]".to_owned(),
            "cannot listen on 192.0.2.1:25: Cannot assign requested address".to_owned(),
        ),
        (
            state,
            format!("{file}/state"),
            format!("the state directory {file}/state cannot be used: Not a directory"),
        ),
        (
            format!("{}/run", directory.path().display()),
            file.clone(),
            "cannot listen on the socket".to_owned(),
        ),
        (
            "smtp.provider.example:25".to_owned(),
            "127.0.0.1:4".to_owned(),
            "the smarthost is this controller's own listener 127.0.0.1:4".to_owned(),
        ),
        (
            "[intake]".to_owned(),
            format!("[intake]\ntls = {{ certificate = \"{file}\", key = \"{file}\" }}"),
            format!("{file}: it is empty: expected a certificate"),
        ),
        (
            "[intake]".to_owned(),
            format!("[intake]\ntls = {{ certificate = \"{ended}\", key = \"{ended}.key\" }}"),
            "ended on 2019-01-01T00:00:00Z".to_owned(),
        ),
        (
            "admin.sock".to_owned(),
            "s".repeat(120),
            "bytes long, at most 107: set `[control] socket` to a shorter one".to_owned(),
        ),
    ] {
        let mut config = whole(directory.path()).replace(&from, &to);
        if to == "127.0.0.1:4" {
            config = config.replace(smtp, "smtp = [\"127.0.0.1:4\"]");
        }
        let checked = check("dd-controller", &write(directory.path(), &config));
        let said = text(&checked.stderr);
        assert!(
            !checked.status.success() && checked.stdout.is_empty(),
            "{to}: {said}"
        );
        assert!(said.contains(&says), "{said}, not {says}");
        assert!(said.matches("(os error").count() <= 1, "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn who_a_proxy_asks_for_is_who_asked() {
    let layout = Layout {
        web: "proxy_protocol = [\"127.0.0.1/32\"]".to_owned(),
        ..Layout::default()
    };
    let mut world = World::laid_out(layout, 1);
    let _home = world.home("home", &[]);
    let secret = world.json(&["site", "wake-secret", "home"]);
    let secret = secret["secret"].as_str().unwrap().to_owned();
    let web = world.listeners().web;
    let request = format!("GET /wake/{secret} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let answer = |from: IpAddr, header: &str| {
        let mut stream = connect_from(from, web);
        stream
            .write_all(format!("{header}{request}").as_bytes())
            .unwrap();
        let mut answer = String::new();
        // What is no header ends the connection, with a reset where the request was not read.
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    let proxy = IpAddr::from([127, 0, 0, 1]);
    let said = answer(proxy, "PROXY TCP4 192.0.2.7 192.0.2.1 5 6\r\n");
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    let _ = world.controller().log_line("client=192.0.2.7");
    assert_eq!(answer(proxy, ""), "", "from a proxy there is a header");
    let other = IpAddr::from([127, 0, 0, 9]);
    let said = answer(other, "PROXY TCP4 192.0.2.8 192.0.2.1 5 6\r\n");
    assert!(said.starts_with("HTTP/1.1 400"), "{said}");
    let said = answer(other, "");
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    assert!(world.controller().lines("192.0.2.8").is_empty());
}

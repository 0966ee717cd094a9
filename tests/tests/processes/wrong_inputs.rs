//! What is wrong is refused with one sentence that says what is expected or what to do: on command lines, in both
//! configurations and in files that are applied. The golden file is the table; its sentences are what people read.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use dd_tests::process::program;
use dd_tests::world::World;

const CONTROLLER: &str = "hostname = \"mail.example.net\"\nstate_dir = \"DIR/state\"\n";
const AGENT: &str = "name = \"out1\"\nstate_dir = \"DIR/agent\"\ncontroller = \"https://c.example.net:7443\"\n\
    addresses = [\"192.0.2.10\"]\nhelo = \"out1.example.net\"\n";

/// Lines that are put below a configuration that is right, or (with a `-`) instead of the line that begins alike.
const WRONG_CONTROLLER: &[&str] = &[
    "-hostname = \"mail_x\"",
    "-hostname = \"\"",
    "-hostname = 25",
    "-state_dir = 1",
    "hostnam = \"x\"",
    "[intake]\nsmtp = [\"25\"]",
    "[intake]\ntrusted = [\"localhost\"]",
    "[intake]\nmax_message_bytes = -1",
    "[intake]\nmax_sessions = 0",
    "[intake]\nbuffer_bytes = \"lots\"",
    "[intake]\nstray_cr_lf = \"keep\"",
    "[intake]\ntls = { certificate = \"DIR/none.pem\", key = \"DIR/none.key\" }",
    "[intake]\ntls = { certificate = \"DIR/none.pem\" }",
    "[store]\nsegment_bytes = \"1\"",
    "[store]\nmin_free = \"80%\"",
    "[store]\nengine = \"paper\"",
    "[web]\nlisten = \"0.0.0.0:8443\"",
    "[web]\nlisten = \"127.0.0.1:0\"\noutbound_networks = [\"192.0.2.0/64\"]",
    "[metrics]",
    "[notify]\nsmarthost = \"smtp.example.net\"",
    "[notify]\npostmaster = \"post master\"",
    "[site_defaults]\nretry_interval = \"3\"",
    "[site_defaults]\nlifetime = 14",
    "[site_defaults]\nconnections = 100",
    "[history]\nkeep = \"1m\"",
    "[history]\nkeep = 14",
    "[intake",
    "[surprise]",
];

const WRONG_AGENT: &[&str] = &[
    "-name = \"out 1\"",
    "-name = 1",
    "-state_dir = []",
    "-controller = \"c.example.net:7443\"",
    "-controller = \"http://c.example.net:7443\"",
    "-addresses = []",
    "-addresses = \"192.0.2.10\"",
    "-addresses = [\"out1.example.net\"]",
    "-addresses = [192]",
    "-helo = \"a b\"",
    "slots = 0",
    "slots = \"many\"",
    "slots = -3",
    "probes = 2000000",
    "adresses = []",
    "[targets]\nallow = [\"everything\"]",
    "[targets]\nallow = \"127.0.0.0/8\"",
    "[dns]\nservers = [\"127.0.0.1\"]",
    "[dns]\nmax_ttl = \"60\"",
    "[dns]\nmax_ttl = 60",
    "[dns",
];

const WRONG_COMMANDS: &[&str] = &[
    "site add",
    "site add a",
    "site add a/b --domain a.example --host h.example --proof port --port 26",
    "site add a --domain a.example --host h.example --prof port",
    "site add a --domain a.example --host h.example --proof dane",
    "site add a --domain a.example --host h.example --proof port",
    "site add a --domain a.example --host h.example:99999 --proof port",
    "site add a --domain a..example --host h.example --proof static-ip",
    "site add a --domain a.example --host h.example --proof static-ip",
    "site add a --domain a.example --host h.example --proof certificate --authority nobody --cert-name a.example",
    "site add a --domain a.example --host h.example --proof certificate --authority own --cert-name a.elsewhere.example",
    "site add a --domain a.example --host h.example --proof fingerprint --fingerprint ab",
    "site add a --domain a.example --host h.example --proof static-ip --address h.example",
    "site add a --domain a.example --host 192.0.2.1 --proof static-ip --connections 50",
    "site add a --domain a.example --host 192.0.2.1 --proof static-ip --retry 5",
    "site add a --domain a.example --host 192.0.2.1 --proof static-ip --max-message big",
    "site add a --domain a.example --host 192.0.2.1 --proof static-ip --recipient me@elsewhere.example",
    "site add a --domain a.example --host 192.0.2.1 --proof static-ip --contact me",
    "site add a --domain a.example --host 192.0.2.1 --proof static-ip --agent nobody",
    "site add known --domain b.example --host 192.0.2.1 --proof static-ip",
    "site add b --domain known.example --host 192.0.2.1 --proof static-ip",
    "site set nobody --retry 1m",
    "site set known",
    "site set known --clear host",
    "site show nobody",
    "site hold known --until yesterday",
    "site hold known --until 2020-01-01",
    "site look known",
    "site set --all",
    "site set --all --domain a.example",
    "site set known --all --retry 1m",
    "site set --match k* --password-stdin",
    "site set --retry 1m",
    "site list --state asleep",
    "site list --why asleep",
    "site list --columns name,password",
    "site move-domain known.example",
    "site move-domain known.example --to nobody",
    "site move-domain known.example --to known",
    "site move-domain elsewhere.example --to known",
    "site move-domain a..example --to known",
    "etrn",
    "etrn nobody",
    "etrn known --wait 0s",
    "queue list nobody",
    "queue show 123",
    "queue show 0197f3a07a5b7c3e8d2f4a5b6c7d8e9f",
    "queue remove",
    "queue fail x --site known",
    "queue fail 0197f3a07a5b7c3e8d2f4a5b6c7d8e9f --match a@*",
    "queue list --state asleep",
    "queue list --older yesterday",
    "queue search --id 12",
    "queue search --site nobody",
    "queue search --since yesterday",
    "queue search --limit 0",
    "config known",
    "report --site nobody",
    "agent add out1 --address 192.0.2.77",
    "agent add out2 --address 127.0.0.2",
    "agent add out2 --address here",
    "agent add out2",
    "agent set out1",
    "agent set nobody --address 192.0.2.77",
    "agent token nobody",
    "agent drain nobody",
    "admin add anna",
    "admin add anna --role owner --out DIR/anna",
    "admin add root --out DIR/root",
    "admin remove nobody",
    "admin renew",
    "ca create own",
    "ca show nobody",
    "ca remove nobody",
    "ca rollover own --finish",
    "ca rollover own --force",
    "ca import new --certificate DIR/none.pem",
    "cert issue known --out DIR/tls",
    "cert list nobody",
    "cert revoke zz",
    "registry apply DIR/none.toml",
    "audit --last many",
    "status --output yaml",
    "--controller c.example.net status",
    "--controller https://127.0.0.1:1 --identity DIR/none status",
    "--identity DIR/none status",
];

const WRONG_FILES: &[&str] = &[
    "[site.x]",
    "[site.x]\ndomain = [\"x.example\"]\nhost = [\"h.example\"]\nproof = \"magic\"",
    "[site.x]\ndomain = \"x.example\"\nhosts = [\"h.example\"]",
    "[site.x]\ndomain = [\"known.example\"]\nhost = [\"192.0.2.1\"]\nproof = \"static-ip\"",
    "[site.x]\ndomain = [\"x.example\"]\nhost = [\"192.0.2.1\"]\nproof = \"static-ip\"\nretry = 3",
    "[agent.out9]",
    "[agent.out9]\naddress = [\"127.0.0.2\"]",
    "[agent.out9]\naddress = [\"nowhere\"]",
    "[authority.x]\ncertificate = [\"none\"]",
    "[route.x]",
    "[site",
];

/// One row: what was given, how it ended, and what was said.
fn row(table: &mut String, directory: &Path, given: &str, output: &Output) {
    let directory = directory.display().to_string();
    let said = String::from_utf8_lossy(&output.stderr).replace(&directory, "DIR");
    // Which keys there are is another test's; here it is how they are told.
    let said = match said.split_once("expected one of `") {
        None => said,
        Some((said, _)) => format!("{said}expected one of …"),
    };
    let given = given.replace('\n', " | ");
    let code = output.status.code().unwrap_or(-1);
    let _ = writeln!(table, "{given}\n  {code}: {}", said.trim_end());
    assert_ne!(code, 0, "{given} was taken");
    assert_eq!(
        said.trim_end().lines().count(),
        1,
        "not one line: {given}: {said}"
    );
    assert_said_once(given.as_str(), &said);
}

/// An error that names its cause itself and is printed with its causes says it twice.
fn assert_said_once(given: &str, said: &str) {
    let parts: Vec<&str> = said.trim().split(": ").collect();
    for (at, part) in parts.iter().enumerate() {
        let again = parts[at + 1..].contains(part);
        assert!(part.len() < 8 || !again, "said twice: {given}: {said}");
    }
}

fn changed(right: &str, wrong: &str) -> String {
    match wrong.strip_prefix('-') {
        None => format!("{right}{wrong}\n"),
        Some(line) => {
            let key = line.split(' ').next().unwrap();
            let kept = right.lines().filter(|it| it.split(' ').next() != Some(key));
            let kept: String = kept.map(|it| format!("{it}\n")).collect();
            format!("{line}\n{kept}")
        }
    }
}

fn configurations(directory: &Path, name: &str, right: &str, wrongs: &[&str]) -> String {
    let mut table = String::new();
    let here = directory.display().to_string();
    for wrong in wrongs {
        let path = directory.join(format!("{name}.toml"));
        std::fs::write(&path, changed(right, wrong).replace("DIR", &here)).unwrap();
        let mut checking = Command::new(program(&format!("dd-{name}")));
        let output = checking
            .arg("--check")
            .arg("--config")
            .arg(&path)
            .output()
            .unwrap();
        row(&mut table, directory, wrong, &output);
    }
    table
}

#[test]
fn wrong_configurations_have_one_sentence_each() {
    let directory = tempfile::tempdir().unwrap();
    let controller = configurations(directory.path(), "controller", CONTROLLER, WRONG_CONTROLLER);
    let agent = configurations(directory.path(), "agent", AGENT, WRONG_AGENT);
    insta::assert_snapshot!("wrong_controller_toml", controller);
    insta::assert_snapshot!("wrong_agent_toml", agent);
}

#[test]
fn wrong_command_lines_and_files_have_one_sentence_each() {
    let world = World::start();
    let directory = world.path();
    let ddadm = world.ddadm();
    let add = "site add known --domain known.example --host 192.0.2.1 --proof static-ip";
    let _ = ddadm.run(&add.split(' ').collect::<Vec<_>>()).done();
    let _ = ddadm
        .run(&["ca", "create", "own", "--permit", "members.example"])
        .done();
    let here = directory.display().to_string();
    let socket = world.listeners().socket.display().to_string();
    let mut table = String::new();
    for wrong in WRONG_COMMANDS {
        let line = wrong.replace("DIR", &here);
        let mut command = Command::new(program("ddadm"));
        let output = command
            .env("DDADM_SOCKET", &socket)
            .args(line.split(' '))
            .output();
        row(&mut table, directory, wrong, &output.unwrap());
    }
    insta::assert_snapshot!("wrong_command_lines", table);

    let mut table = String::new();
    for wrong in WRONG_FILES {
        let path = directory.join("registry.toml");
        std::fs::write(&path, format!("{wrong}\n")).unwrap();
        let mut command = Command::new(program("ddadm"));
        command
            .env("DDADM_SOCKET", &socket)
            .args(["registry", "apply"]);
        row(
            &mut table,
            directory,
            wrong,
            &command.arg(&path).output().unwrap(),
        );
    }
    insta::assert_snapshot!("wrong_registry_files", table);
}

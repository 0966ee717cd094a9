use super::*;

#[test]
fn the_definition_of_the_command_line_is_sound() {
    use clap::CommandFactory as _;
    Args::command().debug_assert();
}

#[test]
fn the_command_line_goes_before_the_environment() {
    use clap::{CommandFactory as _, FromArgMatches as _};
    let settled = |line: &str| {
        let matches = Args::command().get_matches_from(format!("ddadm {line}").split(' '));
        let mut connection = Args::from_arg_matches(&matches).unwrap().connection;
        // As if the environment had said the rest.
        let env = "https://environment.example:7443".to_owned();
        connection.controller.get_or_insert(env);
        connection.identity.get_or_insert("environment".into());
        let settled = connection.settle(&matches);
        settled.map(|()| (connection.controller, connection.identity))
    };
    let (env, here) = (
        "https://environment.example:7443",
        "https://here.example:7443",
    );
    let is =
        |controller: &str, identity: &str| Ok((Some(controller.to_owned()), Some(identity.into())));
    assert_eq!(settled("status"), is(env, "environment"));
    assert_eq!(settled("status --identity here"), is(env, "here"));
    assert_eq!(
        settled(&format!("status --controller {here}")),
        is(here, "environment")
    );
    assert_eq!(settled("status --socket a.sock"), Ok((None, None)));
    assert_eq!(settled("--socket a.sock status"), Ok((None, None)));
    assert!(settled(&format!("status --socket a.sock --controller {here}")).is_err());
    // An identity that is asked for by name is not dropped in silence.
    let both = settled("status --socket a.sock --identity here");
    assert_eq!(both, Ok((None, Some("here".into()))));
}

#[test]
fn what_is_not_a_command_line_is_refused() {
    for good in [
        "site add a --domain a.example b.example --host h --proof port --port 26",
        "site add a --domain a.example --domain b.example --host h --proof static-ip",
        "site add a --domain a.example,b.example --host h,[2001:db8::1]:26 --proof static-ip --address 192.0.2.1,2001:db8::1",
        "site set a --clear recipient quota-bytes",
        "site set a --clear recipient,quota-bytes --allow-target 10.0.0.0/8,fd00::/8 --agent out1 out2",
        "site hold a --until 2026-12-24T18:00",
        "etrn a --wait",
        "etrn a --wait 5m",
        "--output json etrn a",
        "queue list --output json",
        "queue retry 0197f3a07a5b7c3e8d2f4a5b6c7d8e9f --site a",
        "agent add out1 --address 192.0.2.1 2001:db8::1 --from 2026-12-24",
        "agent add out1 --address 192.0.2.1,2001:db8::1",
        "ca import ca --certificate a.pem b.pem",
        "ca import ca --certificate a.pem --crl a.crl",
        "ca crl ca --import a.crl",
        "ca create ca --permit a.example b.example",
        "ca rollover ca --finish",
        "ca rollover ca --finish --force",
        "ca remove ca",
        "registry apply registry.toml --dry-run",
        "etrn a b c",
        "site hold a b --until 2026-12-24T18:00",
        "site resume a b",
        "queue remove --site a",
        "queue retry -",
        "queue fail 0197f3a07a5b7c3e8d2f4a5b6c7d8e9f 0197f3a07a5b7c3e8d2f4a5b6c7d8e9e",
        "cert issue a --csr a.csr --days 90 --out dir",
        "cert list",
        "cert revoke 4a01",
        "site check a --agent out1",
        "agent remove out1",
        "agent set out1 --address 192.0.2.1",
        "agent set out1 --from 2026-12-24",
        "agent set out1 --at-once --address 192.0.2.1",
        "agent token out1",
        "admin add anna --out anna",
        "admin add anna --role reader --csr a.csr --out anna",
        "admin list",
        "admin remove anna",
        "admin renew",
        "agent drain out1",
        "agent resume out1",
        "site set a --agent out1,out2",
        "site set a --agent out1 --agent out2",
        "site set a --clear agent",
        "site add a --domain a.example --host h --proof public --cert-name a.example",
        "registry export",
        "watch",
        "watch a",
        "audit --last 3",
        "queue fail 0197f3a07a5b7c3e8d2f4a5b6c7d8e9f --site a",
        "clock confirm",
        "queue content 0197f3a07a5b7c3e8d2f4a5b6c7d8e9f",
        "completions fish",
        "man --out dir",
        "registry apply registry.toml",
    ] {
        let parsed = Args::try_parse_from(format!("ddadm {good}").split(' '));
        assert!(parsed.is_ok(), "{good}: {parsed:?}");
    }
    for bad in [
        "site add a --domain a.example --host h --proof dane",
        "site add a --domain a.example --host h --proof fingerprint --fingerprint ab",
        "site add a --domain a.example --host h --proof port --connections 21",
        "site add a --domain a.example --host h --proof port --retry 3",
        "site add a/b --domain a.example --host h --proof port",
        "site set a --clear domain",
        "site set a --port 26",
        "site remove a --fail --discard",
        "site hold a --until soon",
        "site look a",
        "queue show nonsense",
        "queue fail nonsense",
        "queue fail",
        "etrn",
        "site hold",
        "ca rollover ca --force",
        "clock",
        "clock set",
        "agent add out1",
        "agent set out1",
        "agent set out1 --from 2026-12-24 --at-once",
        "admin add anna",
        "admin add anna --role owner --out anna",
        "agent add out1 --address out1.example",
        "ca import ca",
        "etrn a --wait 0s",
        "status --output yaml",
        "completions csh",
    ] {
        let parsed = Args::try_parse_from(format!("ddadm {bad}").split(' '));
        assert!(parsed.is_err(), "{bad}: {parsed:?}");
    }
}

#[test]
fn without_a_word_the_socket_is_the_first_usual_one_that_is_there() {
    let [run, state] = SOCKETS.map(Path::new);
    assert_eq!(usual_socket(|_| true), run);
    assert_eq!(usual_socket(|path| path == state), state);
    assert_eq!(usual_socket(|_| false), run);
}

/// A terminal of 80 columns breaks longer lines. What was broken by hand before is broken twice then.
#[test]
fn help_is_wrapped_once() {
    use clap::CommandFactory as _;
    fn check(command: &clap::Command) {
        let help = command.get_after_help().map(ToString::to_string);
        let lines: Vec<String> = help
            .iter()
            .flat_map(|it| it.lines())
            .map(str::to_owned)
            .collect();
        for (at, line) in lines.iter().enumerate() {
            let next = lines.get(at + 1).map_or("", String::as_str);
            let is_prose = !line.starts_with(' ') && next.is_empty();
            let fits = line.chars().count() < 80;
            assert!(fits || is_prose, "{}: {line}", command.get_name());
        }
        command.get_subcommands().for_each(check);
    }
    check(&Args::command());
}

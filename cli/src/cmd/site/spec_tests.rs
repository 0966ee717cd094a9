//! Command lines, and the records they make.

use super::*;
use crate::args::site::SiteVerb;
use crate::args::{Args, Noun};
use clap::Parser as _;

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn verb(line: &str) -> SiteVerb {
    let line = format!("ddadm site {line}");
    match Args::try_parse_from(line.split(' ')).map(|args| args.noun) {
        Ok(Noun::Site { verb }) => verb,
        other => panic!("{line}: {other:?}"),
    }
}

/// The proof `site add home --domain home.example …` makes, as one word and its parameters.
fn added(rest: &str) -> Result<String, String> {
    let SiteVerb::Add(add) = verb(&format!("add home --domain home.example {rest}")) else {
        panic!("add is add");
    };
    new_proof(&add.flags)
        .map(|proof| shown(&proof))
        .map_err(|failure| failure.to_string())
}

/// The proof `site set home …` makes of the present one.
fn set(rest: &str, now: &pb::SiteSpec) -> Result<Option<String>, String> {
    let SiteVerb::Set(set) = verb(&format!("set home {rest}")) else {
        panic!("set is set");
    };
    check_change(&set).map_err(|failure| failure.to_string())?;
    changed_proof(&set.flags, now)
        .map(|proof| proof.map(|proof| shown(&proof)))
        .map_err(|failure| failure.to_string())
}

fn shown(proof: &pb::Proof) -> String {
    match proof.kind.as_ref().unwrap() {
        Kind::StaticIp(it) => {
            let certificate = it.certificate.iter();
            let certificate = certificate.map(|it| format!(" {} {}", it.authority, it.name));
            format!(
                "static-ip {}{}",
                it.addresses.join(" "),
                certificate.collect::<String>()
            )
        }
        Kind::Certificate(it) => format!("certificate {} {}", it.authority, it.name),
        Kind::Fingerprint(it) => format!("fingerprint {}", it.sha256.join(" ")),
        Kind::Public(it) => format!("public {}", it.name),
        Kind::Port(_) => "port".into(),
        Kind::Configured(_) => "configured".into(),
    }
}

fn record(kind: Kind, hosts: &[(&str, u32)]) -> pb::SiteSpec {
    pb::SiteSpec {
        proof: Some(pb::Proof { kind: Some(kind) }),
        hosts: hosts
            .iter()
            .map(|(host, port)| pb::Host {
                host: (*host).into(),
                port: *port,
            })
            .collect(),
        ..pb::SiteSpec::default()
    }
}

#[test]
fn a_new_site_is_complete_in_one_command() {
    for (rest, proof) in [
        ("--host 192.0.2.1 --proof static-ip", "static-ip 192.0.2.1"),
        (
            "--host h.example --proof static-ip --address 192.0.2.1 2001:db8::1",
            "static-ip 192.0.2.1 2001:db8::1",
        ),
        (
            "--host [2001:db8::1]:26 --proof static-ip --address 192.0.2.1",
            "static-ip 192.0.2.1 2001:db8::1",
        ),
        (
            "--host h.example --proof certificate --authority ca --cert-name n.example",
            "certificate ca n.example",
        ),
        ("--host h.example:2525 --proof port", "port"),
        (
            "--host 192.0.2.1 --proof static-ip --authority ca --cert-name n.example",
            "static-ip 192.0.2.1 ca n.example",
        ),
        (
            "--host h.example --proof public --cert-name n.example",
            "public n.example",
        ),
        (
            &format!("--host h.example --proof fingerprint --fingerprint {A} {B}"),
            &format!("fingerprint {A} {B}"),
        ),
        ("--host h.example --port 2525 --proof port", "port"),
    ] {
        assert_eq!(added(rest).as_deref(), Ok(proof), "{rest}");
    }
    for (rest, says) in [
        ("--host h.example", "needs --proof"),
        ("--proof port", "needs --host"),
        (
            "--host h.example --proof certificate --authority ca",
            "--cert-name",
        ),
        (
            "--host h.example --proof certificate --cert-name n.example",
            "--authority",
        ),
        (
            "--host h.example:26 --proof port --address 192.0.2.1",
            "goes with --proof static-ip",
        ),
        (
            "--host h.example:26 --proof port --cert-name n.example",
            "goes with --proof certificate or public or static-ip",
        ),
        (
            "--host 192.0.2.1 --proof static-ip --cert-name n.example",
            "needs --authority",
        ),
        ("--host h.example --proof public", "--cert-name"),
        (
            "--host h.example --proof public --authority ca --cert-name n.example",
            "goes with --proof certificate or static-ip",
        ),
        ("--host h.example --proof fingerprint", "--fingerprint"),
    ] {
        let error = added(rest).unwrap_err();
        assert!(error.contains(says), "{rest}: {error}");
    }
}

#[test]
fn a_change_of_part_of_a_proof_keeps_the_rest() {
    let certified = record(
        Kind::Certificate(pb::proof::Certificate {
            authority: "ca".into(),
            name: "n.example".into(),
        }),
        &[("h.example", 25)],
    );
    let listed = record(
        Kind::StaticIp(pb::proof::StaticIp {
            addresses: vec!["192.0.2.1".into(), "192.0.2.9".into()],
            certificate: None,
        }),
        &[("192.0.2.1", 25)],
    );
    let public = record(
        Kind::Public(pb::proof::Public {
            name: "n.example".into(),
        }),
        &[("h.example", 25)],
    );
    let pinned = record(
        Kind::Fingerprint(pb::proof::Fingerprint {
            sha256: vec![A.into()],
        }),
        &[("h.example", 25)],
    );
    let agreed = record(Kind::Port(pb::proof::Port {}), &[("h.example", 2525)]);
    for (rest, now, proof) in [
        ("--retry 1m", &certified, Ok(None)),
        ("--host k.example", &certified, Ok(None)),
        (
            "--cert-name m.example",
            &certified,
            Ok(Some("certificate ca m.example")),
        ),
        (
            "--authority cb",
            &certified,
            Ok(Some("certificate cb n.example")),
        ),
        ("--authority cb", &listed, Err("--cert-name")),
        (
            "--cert-name m.example",
            &public,
            Ok(Some("public m.example")),
        ),
        ("--host k.example", &public, Ok(None)),
        (
            &format!("--fingerprint {B}"),
            &pinned,
            Ok(Some(&format!("fingerprint {B}"))),
        ),
        (
            "--proof fingerprint",
            &pinned,
            Ok(Some(&format!("fingerprint {A}"))),
        ),
        (
            "--address 192.0.2.7",
            &listed,
            Ok(Some("static-ip 192.0.2.1 192.0.2.7")),
        ),
        (
            "--host 192.0.2.7",
            &listed,
            Ok(Some("static-ip 192.0.2.7 192.0.2.9")),
        ),
        ("--proof port", &agreed, Ok(Some("port"))),
        // Whether a record can be used is for the controller to say.
        ("--host k.example", &agreed, Ok(Some("port"))),
        ("--clear contact", &agreed, Ok(None)),
    ] {
        match (set(rest, now), proof) {
            (Ok(made), Ok(expected)) => assert_eq!(made.as_deref(), expected, "{rest}"),
            (Err(error), Err(says)) => assert!(error.contains(says), "{rest}: {error}"),
            (made, _) => panic!("{rest}: {made:?}"),
        }
    }
}

#[test]
fn a_change_of_nothing_is_a_mistake() {
    assert_eq!(set("--connections 3", &pb::SiteSpec::default()), Ok(None));
    let SiteVerb::Set(nothing) = verb("set home") else {
        panic!("set is set");
    };
    assert!(check_change(&nothing).is_err());
}

#[test]
fn every_flag_arrives_in_the_record() {
    let SiteVerb::Add(add) = verb(
        "add Home --domain a.example --domain B.example --host h.example [2001:db8::1]:26 --port 27 --proof port \
         --recipient x@a.example --connections 3 --retry 1m --lifetime 2d --delay-warning 4h --max-message 25M \
         --quota-messages 9 --quota-bytes 1G --contact me@a.example --allow-target 127.0.0.0/8 ::1 \
         --outage-notice never --language de --hand-over xforward --client-certificate=member-ca --tls-on-connect --lmtp --family 6 --agent out1,out2 --agent out3",
    ) else {
        panic!("add is add");
    };
    let expected = pb::SiteSpec {
        name: "home".into(),
        domains: vec!["a.example".into(), "b.example".into()],
        hosts: vec![
            pb::Host {
                host: "h.example".into(),
                port: 27,
            },
            pb::Host {
                host: "2001:db8::1".into(),
                port: 26,
            },
        ],
        recipients: vec!["x@a.example".into()],
        connections: Some(3),
        retry_ms: Some(60_000),
        lifetime_ms: Some(172_800_000),
        delay_warning_ms: Some(14_400_000),
        max_message_bytes: Some(25 << 20),
        quota_messages: Some(9),
        quota_bytes: Some(1 << 30),
        contact: Some("me@a.example".into()),
        outage_notice_ms: Some(0),
        language: Some("de".into()),
        hand_over: Some("xforward".into()),
        client_certificate: Some("member-ca".into()),
        tls_on_connect: Some(true),
        lmtp: Some(true),
        family: Some("6".into()),
        allow_targets: vec!["127.0.0.0/8".into(), "::1/128".into()],
        agents: vec!["out1".into(), "out2".into(), "out3".into()],
        ..pb::SiteSpec::default()
    };
    assert_eq!(plain(&add.name, &add.flags), expected);
    assert_eq!(
        cleared(&[Clear::QuotaBytes, Clear::Password, Clear::Shown]),
        ["quota-bytes", "password", "shown"]
    );
}

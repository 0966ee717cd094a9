//! A file comes back as it was written, and nonsense is refused where it stands.

use std::sync::Arc;
use std::time::Duration;

use dd_proto::id::SiteVersion;
use dd_proto::site::{
    Certified, Family, HandOver, Host, HostName, KnownRecipients, Language, Limits, Proof,
    Schedule, Site, Speaks, TlsBegins, Way,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

use super::*;
use crate::authority::client::AgentKey;
use crate::registry::agents::AgentRecord;
use crate::registry::authorities::{Authority, Origin};

fn certified() -> Certified {
    Certified {
        authority: "member-ca".parse().unwrap(),
        name: "home.example".parse().unwrap(),
    }
}

fn site() -> Site {
    Site {
        name: "home.de".parse().unwrap(),
        version: SiteVersion(7),
        domains: ["home.example".parse().unwrap()].into(),
        known: KnownRecipients::Only(["\"a\\\"b\"@home.example".parse().unwrap()].into()),
        hosts: vec![
            Host {
                name: HostName::Dns("dyn.example".parse().unwrap()),
                port: 2525.try_into().unwrap(),
            },
            Host {
                name: HostName::Address("2001:db8::1".parse().unwrap()),
                port: 25.try_into().unwrap(),
            },
        ],
        proof: Proof::Certificate(certified()),
        way: Way {
            hand_over: HandOver::XForward,
            client_certificate: Some("member-ca".parse().unwrap()),
            tls: TlsBegins::OnConnect,
            speaks: Speaks::Smtp,
            family: Family::Any,
            login: None,
        },
        limits: Limits {
            connections: 3,
            max_message_bytes: Some(1000),
            quota_messages: Some(7),
            quota_bytes: Some(1 << 30),
        },
        schedule: Schedule {
            retry_interval: Duration::from_secs(180),
            lifetime: Duration::from_secs(1_209_600),
            delay_warning: Duration::from_secs(86_401),
            outage_notice: Some(Duration::from_secs(3600)),
        },
        hold: Some(Hold {
            by: "an\"na\u{202e}\n".to_owned(),
            until: Some(Timestamp::from_second(1_800_000_000).unwrap()),
            since: Timestamp::from_second(1_700_000_000).unwrap(),
        }),
        held_before: [
            "2026-01-31T08:00:00Z/2026-02-01T08:00:00Z",
            "2026-03-01T08:00:00Z/2026-03-01T08:00:00.5Z",
        ]
        .map(|it| it.parse().unwrap())
        .into_iter()
        .collect(),
        closing: false,
        contact: Some("owner@example.net".parse().unwrap()),
        language: Some(Language::German),
        allow_targets: vec!["127.0.0.0/8".parse().unwrap()],
        agents: ["out1".parse().unwrap(), "out2".parse().unwrap()].into(),
        password_hash: Some(HASH.to_owned()),
        wake_hash: Some([0x7a; 32]),
    }
}

const HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$\
                    iWh06vD8Fy27wf9npn6FXWiCX4K6pW6Ue1Bnzz07Z8A";

fn certificate() -> Bytes {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    params.self_signed(&key).unwrap().der().to_vec().into()
}

#[test]
fn what_is_written_reads_back_as_the_same() {
    let mut plain = site();
    plain.name = "plain".parse().unwrap();
    plain.known = KnownRecipients::Any;
    plain.proof = Proof::StaticIp {
        addresses: ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()].into(),
        certificate: None,
    };
    (plain.hold, plain.contact) = (None, None);
    (plain.language, plain.schedule.outage_notice) = (None, None);
    (plain.password_hash, plain.wake_hash) = (None, None);
    let agent = AgentRecord {
        addresses: vec!["192.0.2.10".parse().unwrap()],
        from: Some(Timestamp::from_second(1_800_000_000).unwrap()),
        key: Some(AgentKey([7; 32])),
        ..AgentRecord::new("out1".parse().unwrap())
    };
    let authority = Authority {
        name: "member-ca".parse().unwrap(),
        version: 3,
        certificates: vec![certificate(), certificate()],
        revocation_lists: Vec::new(),
        origin: Origin::Own {
            permit: vec!["example".parse().unwrap()],
        },
    };
    let by = |name: &str, proof| Site {
        name: name.parse().unwrap(),
        proof,
        ..plain.clone()
    };
    let both = Proof::StaticIp {
        addresses: ["192.0.2.1".parse().unwrap()].into(),
        certificate: Some(certified()),
    };
    let pinned = Proof::Fingerprint {
        listed: [
            "ab".repeat(32).parse().unwrap(),
            "cd".repeat(32).parse().unwrap(),
        ]
        .into(),
    };
    let public = Proof::Public {
        name: "home.example".parse().unwrap(),
    };
    let sites = [
        by("both", both),
        by("pinned", pinned),
        by("public", public),
        site(),
        plain,
    ]
    .map(Arc::new);
    let text = write(
        &sites,
        &[Arc::new(agent.clone())],
        &[Arc::new(authority.clone())],
    );
    let visible = |c: char| c == '\n' || c.is_ascii_graphic() || c == ' ';
    assert!(text.chars().all(visible), "{text}");

    let file = read(&text).unwrap();
    for site in &sites {
        let entry = &file.sites[&site.name].value;
        assert_eq!(entry.change, pb::SiteSpec::from(&**site));
        assert_eq!(entry.password_hash, site.password_hash);
        assert_eq!(entry.wake_hash, site.wake_hash);
        assert_eq!(entry.hold, site.hold);
    }
    let said = &file.agents[&agent.name].value;
    assert_eq!((&said.addresses, said.from), (&agent.addresses, agent.from));
    assert_eq!(said.key, agent.key);
    let said = &file.authorities[&authority.name].value;
    assert_eq!(said.certificates, authority.certificates);
    assert_eq!(said.origin, authority.origin);
}

#[test]
fn a_flag_is_one_value_or_a_list_as_on_the_command_line() {
    let file = read(
        "[site.Home]\ndomain = \"home.example\"\nhost = [\"a.example\", \"[::1]:26\", \"b.example:27\"]\n\
         port = 2525\nmax-message = 1000\nquota-bytes = \"2K\"\ntake-mail = true\n",
    )
    .unwrap();
    let home = &file.sites[&"home".parse().unwrap()].value;
    assert!(home.take_mail);
    let change = &home.change;
    let hosts: Vec<(&str, u32)> = change
        .hosts
        .iter()
        .map(|host| (host.host.as_str(), host.port))
        .collect();
    assert_eq!(hosts, [("a.example", 2525), ("::1", 26), ("b.example", 27)]);
    assert_eq!(change.domains, ["home.example"]);
    assert_eq!(
        (change.max_message_bytes, change.quota_bytes),
        (Some(1000), Some(2048))
    );
    assert_eq!(change.proof, None);
}

#[test]
fn nonsense_is_refused_with_its_line_and_what_is_expected() {
    for (text, line, says) in [
        ("[site.a]\ndomain = [\"x.example\"\n", 2, "expected"),
        ("\n[site.a\n", 2, "expected"),
        (
            "[site.a]\ndomain = \"x.example\"\n[wide.b]\n",
            3,
            "unknown field `wide`",
        ),
        (
            "[site.a]\n\ndomains = \"x.example\"\n",
            3,
            "unknown field `domains`",
        ),
        (
            "[site.a]\ndomain = [\"x.example\", \"a..b\"]\n",
            2,
            "a domain such as",
        ),
        ("[site.a]\ndomain = 7\n", 2, "a domain such as"),
        ("[site.a]\nhost = \"h:0\"\n", 2, "HOST:PORT"),
        ("[site.a]\nport = 0\n", 2, "nonzero"),
        ("[site.a]\nretry = 3\n", 2, "string"),
        ("[site.a]\nretry = \"3\"\n", 2, "a duration such as"),
        ("[site.a]\nquota-bytes = \"many\"\n", 2, "512K"),
        ("[site.a]\nquota-messages = -1\n", 2, "expected u64"),
        ("[site.a]\npassword-hash = \"secret\"\n", 2, "$argon2id$"),
        ("[site.a]\nwake-secret-hash = \"12\"\n", 2, "64 hexadecimal"),
        (
            "[site.a]\nhold = { by = \"x\", since = \"then\" }\n",
            2,
            "a time such as",
        ),
        ("[site.a]\nproof = \"trust\"\n", 1, "is no proof"),
        (
            "\n[site.a]\naddress = \"192.0.2.1\"\n",
            2,
            "without `proof`",
        ),
        (
            "[site.a]\nproof = \"port\"\naddress = \"192.0.2.1\"\n",
            1,
            "does not go with",
        ),
        ("[site.\"a b\"]\nport = 25\n", 1, "is no name"),
        (
            "[site.home]\nport = 25\n[site.Home]\nport = 25\n",
            3,
            "a second time",
        ),
        ("[agent.a]\naddress = \"out1\"\n", 2, "an IP address"),
        (
            "[authority.a]\ncertificate = \"-----BEGIN\"\n",
            2,
            "PEM certificates",
        ),
        ("[authority.a]\n", 1, "missing field"),
        ("[site.a]\ndomain = \"\\u001b[2J\"\n", 2, "\\u{1b}"),
    ] {
        let error = read(text).unwrap_err();
        assert_eq!(error.line, line, "{text}: {error}");
        assert!(error.message.contains(says), "{text}: {error}");
        assert!(!error.message.contains(['\n', '\u{1b}']), "{error}");
    }
    let key = KeyPair::generate().unwrap().serialize_pem();
    let error = read(&format!("[authority.a]\ncertificate = \"\"\"{key}\"\"\"\n")).unwrap_err();
    assert!(!error.message.contains("MIG"), "{error}");
}

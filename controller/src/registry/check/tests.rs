//! What is refused, and what a change leaves alone.

use super::*;
use dd_proto::site::Proof;

type Spoil = fn(&mut pb::SiteSpec);

fn host(host: &str, port: u32) -> pb::Host {
    pb::Host {
        host: host.to_owned(),
        port,
    }
}

fn by_port() -> Option<pb::Proof> {
    Some(Proof::Port.into())
}

fn by_address(addresses: &[&str]) -> Option<pb::Proof> {
    let addresses = addresses.iter().map(ToString::to_string).collect();
    let kind = pb::proof::Kind::StaticIp(pb::proof::StaticIp {
        addresses,
        certificate: None,
    });
    Some(pb::Proof { kind: Some(kind) })
}

fn by_certificate(authority: &str, name: &str) -> Option<pb::Proof> {
    let (authority, name) = (authority.to_owned(), name.to_owned());
    let kind = pb::proof::Kind::Certificate(pb::proof::Certificate { authority, name });
    Some(pb::Proof { kind: Some(kind) })
}

fn by_fingerprint(listed: &[&str]) -> Option<pb::Proof> {
    let sha256 = listed.iter().map(ToString::to_string).collect();
    let kind = pb::proof::Kind::Fingerprint(pb::proof::Fingerprint { sha256 });
    Some(pb::Proof { kind: Some(kind) })
}

fn by_public(name: &str) -> Option<pb::Proof> {
    let name = name.to_owned();
    let kind = pb::proof::Kind::Public(pb::proof::Public { name });
    Some(pb::Proof { kind: Some(kind) })
}

#[test]
fn an_address_can_ask_for_a_certificate_too() {
    let mut asked = spec();
    let Some(pb::proof::Kind::StaticIp(mut both)) = by_address(&["192.0.2.9"]).unwrap().kind else {
        panic!("another proof");
    };
    both.certificate = Some(pb::proof::Certificate {
        authority: "member-ca".to_owned(),
        name: "home.example".to_owned(),
    });
    let kind = pb::proof::Kind::StaticIp(both.clone());
    asked.proof = Some(pb::Proof { kind: Some(kind) });
    let proof = checked(&asked).unwrap().proof;
    assert_eq!(proof.certified().unwrap().name.as_str(), "home.example");
    both.certificate.as_mut().unwrap().authority = "nobody".to_owned();
    let kind = pb::proof::Kind::StaticIp(both);
    asked.proof = Some(pb::Proof { kind: Some(kind) });
    assert!(checked(&asked).is_err());
}

fn spec() -> pb::SiteSpec {
    pb::SiteSpec {
        name: "home".to_owned(),
        domains: vec!["Home.example".to_owned()],
        hosts: vec![host("dyn.example", 2525)],
        proof: by_certificate("member-ca", "home.example"),
        ..pb::SiteSpec::default()
    }
}

fn checked(spec: &pb::SiteSpec) -> Result<Site, SiteError> {
    let owner =
        |domain: &Domain| (domain.as_str() == "taken.example").then(|| "other".parse().unwrap());
    check(
        spec,
        &Surroundings {
            defaults: SiteDefaults::default(),
            has_authority: &|name| name.as_str() == "member-ca",
            own_authorities: &BTreeSet::new,
            has_agent: &|name| name.as_str() != "nobody",
            owner: &owner,
        },
    )
}

#[test]
fn what_is_absent_takes_its_default() {
    let site = checked(&spec()).unwrap();
    assert_eq!(site.limits.connections, 2);
    assert_eq!(site.schedule.retry_interval, Duration::from_secs(180));
    assert_eq!(site.limits.quota_bytes, None);
    assert_eq!(site.known, KnownRecipients::Any);
}

#[test]
fn a_host_given_as_an_address_lists_itself() {
    let mut asked = spec();
    asked.hosts = vec![host("192.0.2.1", 25), host("2001:db8::1", 25)];
    asked.proof = by_address(&["192.0.2.9"]);
    let Proof::StaticIp { addresses, .. } = checked(&asked).unwrap().proof else {
        panic!("another proof");
    };
    assert_eq!(addresses.len(), 3);
}

#[test]
fn what_cannot_be_used_is_refused_with_what_to_do() {
    let refused: [(Spoil, &str); 26] = [
        (|s| s.name = "a b".to_owned(), "is no name"),
        (|s| s.domains.clear(), "add --domain"),
        (|s| s.domains.push("a..b".to_owned()), "is no mail domain"),
        (
            |s| s.domains.push("taken.example".to_owned()),
            "belongs to the site other",
        ),
        (|s| s.hosts.clear(), "add --host"),
        (|s| s.hosts.push(host("a b", 25)), "is no host"),
        (
            |s| s.hosts.push(host("b.example", 0)),
            "use one between 1 and 65535",
        ),
        (
            |s| s.hosts.push(host("b.example", 65536)),
            "use one between 1 and 65535",
        ),
        (|s| s.proof = None, "needs a proof"),
        (|s| s.proof = by_address(&[]), "add --address"),
        (|s| s.proof = by_address(&["home"]), "is no IP address"),
        (
            |s| s.proof = by_certificate("", "a.example"),
            "add --authority",
        ),
        (
            |s| s.proof = by_certificate("member-ca", ""),
            "add --cert-name",
        ),
        (|s| s.proof = by_fingerprint(&[]), "add --fingerprint"),
        (
            |s| s.proof = by_fingerprint(&["ab:cd"]),
            "expected a SHA-256",
        ),
        (|s| s.proof = by_public(""), "add --cert-name"),
        (|s| s.proof = by_public("a b"), "a b"),
        (
            |s| s.proof = by_certificate("nobody", "a.example"),
            "ddadm ca import nobody",
        ),
        (
            |s| {
                s.hosts.push(host("b.example", 25));
                s.proof = by_port();
            },
            "b.example:25 has 25: use --port",
        ),
        (
            |s| s.proof = Some(Proof::Configured.into()),
            "choose certificate",
        ),
        (
            |s| s.recipients.push("a@else.example".to_owned()),
            "none of the site's domains",
        ),
        (
            |s| s.connections = Some(0),
            "--connections must be between 1 and 20",
        ),
        (
            |s| s.connections = Some(21),
            "--connections must be between 1 and 20",
        ),
        (|s| s.retry_ms = Some(999), "--retry must be between 1s"),
        (
            |s| s.contact = Some("owner".to_owned()),
            "expected local-part@domain",
        ),
        (
            |s| s.allow_targets.push("192.0.2".to_owned()),
            "expected a network such as",
        ),
    ];
    for (spoil, says) in refused {
        let mut asked = spec();
        spoil(&mut asked);
        let error = checked(&asked).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        assert!(!error.contains('\n'));
    }
}

#[test]
fn a_change_leaves_alone_what_it_does_not_name() {
    let mut base = spec();
    base.recipients = vec!["a@home.example".to_owned()];
    base.quota_bytes = Some(5);
    let change = pb::SiteSpec {
        name: "home".to_owned(),
        connections: Some(4),
        clear: vec!["recipient".to_owned(), "quota-bytes".to_owned()],
        quota_messages: Some(9),
        ..pb::SiteSpec::default()
    };
    let merged = merge(base.clone(), &change).unwrap();
    let expected = pb::SiteSpec {
        recipients: Vec::new(),
        quota_bytes: None,
        connections: Some(4),
        quota_messages: Some(9),
        ..base.clone()
    };
    assert_eq!(merged, expected);
    let unknown = pb::SiteSpec {
        clear: vec!["colour".to_owned()],
        ..pb::SiteSpec::default()
    };
    assert!(matches!(merge(base, &unknown), Err(SiteError::Clear(_))));
}

#[test]
fn a_site_is_pinned_to_agents_that_there_are() {
    let pinned = |agents: &[&str]| pb::SiteSpec {
        agents: agents.iter().map(|it| (*it).to_owned()).collect(),
        ..spec()
    };
    assert!(checked(&pinned(&[])).unwrap().agents.is_empty());
    let both = checked(&pinned(&["out2", "out1"])).unwrap().agents;
    assert_eq!(
        both.iter().map(|it| it.as_str()).collect::<Vec<_>>(),
        ["out1", "out2"]
    );
    let unknown = checked(&pinned(&["out1", "nobody"]));
    assert_eq!(
        unknown,
        Err(SiteError::UnknownAgent("nobody".parse().unwrap()))
    );
    let mut change = spec();
    change.clear = vec!["agent".to_owned()];
    assert!(merge(pinned(&["out1"]), &change).unwrap().agents.is_empty());
}

#[test]
fn agents_show_a_certificate_of_the_proofs_own_authority_else_of_the_only_one() {
    let by_certificate = || by_certificate("member-ca", "home.example");
    type Row = (
        &'static [&'static str],
        Option<pb::Proof>,
        Option<&'static str>,
        Result<Option<&'static str>, SiteError>,
    );
    let rows: [Row; 8] = [
        (&[], by_certificate(), None, Ok(None)),
        (
            &["member-ca", "other"],
            by_certificate(),
            Some(""),
            Ok(Some("member-ca")),
        ),
        // Of an imported one nobody here can sign.
        (&["other"], by_certificate(), Some(""), Ok(Some("other"))),
        (&["other"], by_port(), Some(""), Ok(Some("other"))),
        (
            &["a", "b"],
            by_port(),
            Some(""),
            Err(SiteError::WhichAuthority),
        ),
        (&["a", "b"], by_port(), Some("b"), Ok(Some("b"))),
        (&[], by_port(), Some(""), Err(SiteError::NoOwnAuthority)),
        (
            &["other"],
            by_certificate(),
            Some("member-ca"),
            Err(SiteError::NotOwnAuthority("member-ca".parse().unwrap())),
        ),
    ];
    for (own, proof, asked, expected) in rows {
        let asked = pb::SiteSpec {
            proof,
            client_certificate: asked.map(str::to_owned),
            ..spec()
        };
        let own_authorities = || own.iter().map(|it| it.parse().unwrap()).collect();
        let around = Surroundings {
            defaults: SiteDefaults::default(),
            has_authority: &|_| true,
            own_authorities: &own_authorities,
            has_agent: &|_| true,
            owner: &|_| None,
        };
        let checked = check(&asked, &around).map(|site| site.way.client_certificate);
        let expected = expected.map(|it| it.map(|name| name.parse().unwrap()));
        assert_eq!(checked, expected, "{own:?}");
    }
    let mut stored = spec();
    stored.client_certificate = Some("member-ca".to_owned());
    let kept = merge(stored.clone(), &pb::SiteSpec::default()).unwrap();
    assert_eq!(kept.client_certificate.as_deref(), Some("member-ca"));
    let cleared = pb::SiteSpec {
        clear: vec!["client-certificate".to_owned()],
        ..pb::SiteSpec::default()
    };
    assert_eq!(merge(stored, &cleared).unwrap().client_certificate, None);
}

#[test]
fn lmtp_is_never_on_the_port_of_smtp() {
    let mut asked = spec();
    asked.lmtp = Some(true);
    let speaks = checked(&asked).unwrap().way.speaks;
    assert_eq!(speaks, dd_proto::site::Speaks::Lmtp);
    asked.hosts = vec![host("dyn.example", 24), host("dyn.example", 25)];
    assert!(matches!(checked(&asked), Err(SiteError::LmtpPort(_))));
}

#[test]
fn a_host_that_is_an_address_is_of_the_family_that_is_asked_for() {
    let mut asked = spec();
    for (family, expected) in [("4", Family::V4), ("6", Family::V6), ("any", Family::Any)] {
        asked.family = Some(family.to_owned());
        assert_eq!(checked(&asked).unwrap().way.family, expected);
    }
    asked.hosts = vec![host("dyn.example", 25), host("192.0.2.1", 25)];
    asked.family = Some("4".to_owned());
    assert!(checked(&asked).is_ok());
    asked.family = Some("6".to_owned());
    let refused = checked(&asked);
    assert!(matches!(refused, Err(SiteError::OtherFamily { .. })));
    asked.family = Some("5".to_owned());
    assert!(matches!(checked(&asked), Err(SiteError::Value(_))));
}

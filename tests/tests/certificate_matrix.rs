//! One table of certificates, each shown over real SMTP STARTTLS to the agent's own session, and to Postfix's
//! `posttls-finger -l secure` beside it. Whoever is refused gets not one byte inside TLS.

#![expect(clippy::print_stdout, reason = "the figures of a run")]

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use dd_agent::live;
use dd_agent::proof::{Seen, Terms};
use dd_agent::session::{AskTls, Opening};
use dd_agent::tls::Tls;
use dd_proto::site::{Certified, Host, HostName, Proof};
use dd_tests::ca::Identity;
use dd_tests::site::{Script, Site};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension, DnType,
    DnValue, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, RevokedCertParams,
    SanType, SerialNumber, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use tokio::sync::Semaphore;

const NAME: &str = "home.example";

type Change = fn(&mut CertificateParams);
type Der = CertificateDer<'static>;

fn params(subject: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2050, 1, 1);
    params
}

struct Ca {
    der: Der,
    issuer: Issuer<'static, KeyPair>,
    key: Vec<u8>,
}

fn ca_params(subject: &str) -> CertificateParams {
    let mut params = params(subject, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Ca {
    fn new(subject: &str, change: Change) -> Self {
        let mut params = ca_params(subject);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        Self::of(der, params, key)
    }

    fn of(der: Der, params: CertificateParams, key: KeyPair) -> Self {
        let secret = key.serialize_der();
        let issuer = Issuer::new(params, key);
        Self {
            der,
            issuer,
            key: secret,
        }
    }

    /// An intermediate.
    fn below(&self, subject: &str, change: Change) -> Self {
        let mut params = ca_params(subject);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let der = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Self::of(der, params, key)
    }

    /// The same key and name, certified by another.
    fn also_by(&self, other: &Self, subject: &str) -> Der {
        let key = KeyPair::try_from(&self.key[..]).unwrap();
        let params = ca_params(subject);
        params.signed_by(&key, &other.issuer).unwrap().der().clone()
    }

    fn leaf(&self, names: &[&str], change: Change) -> Shown {
        let mut params = params("server", names);
        params.serial_number = Some(SerialNumber::from(77_u64));
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let der = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Shown {
            chain: vec![der],
            key: key.serialize_der(),
        }
    }

    fn list(&self, year: i32, serials: &[u64]) -> CertificateRevocationListDer<'static> {
        let entry = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2021, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2021, 1, 1),
            next_update: date_time_ymd(year, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().der().clone()
    }
}

/// What a server presents.
#[derive(Clone)]
struct Shown {
    chain: Vec<Der>,
    key: Vec<u8>,
}

impl Shown {
    fn and(mut self, more: &[&Ca]) -> Self {
        self.chain.extend(more.iter().map(|ca| ca.der.clone()));
        self
    }

    fn and_der(mut self, more: Der) -> Self {
        self.chain.push(more);
        self
    }
}

/// What Postfix says to the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Postfix {
    Same,
    /// It says otherwise; why is in docs/verification.md.
    Differs,
    /// It cannot be asked: it knows no revocation lists.
    CannotSay,
}

struct Case {
    what: &'static str,
    shown: Shown,
    anchors: Vec<Der>,
    lists: Vec<CertificateRevocationListDer<'static>>,
    name: &'static str,
    /// `ok`, or the word of the refusal.
    verdict: &'static str,
    postfix: Postfix,
}

struct Table {
    ca: Ca,
    cases: Vec<Case>,
}

impl Table {
    fn add(&mut self, what: &'static str, shown: Shown, verdict: &'static str) -> &mut Case {
        let anchors = vec![self.ca.der.clone()];
        self.cases.push(Case {
            what,
            shown,
            anchors,
            lists: Vec::new(),
            name: NAME,
            verdict,
            postfix: Postfix::Same,
        });
        self.cases.last_mut().unwrap()
    }

    fn leaf(
        &mut self,
        what: &'static str,
        names: &[&str],
        change: Change,
        verdict: &'static str,
    ) -> &mut Case {
        let shown = self.ca.leaf(names, change);
        self.add(what, shown, verdict)
    }
}

fn nothing(_: &mut CertificateParams) {}

fn names(table: &mut Table) {
    let good = "ok";
    let bad = "NameMismatch";
    table.leaf("right", &[NAME], nothing, good);
    table.leaf(
        "right among others",
        &["a.example", NAME, "b.example"],
        nothing,
        good,
    );
    table.leaf("upper case", &["HOME.Example"], nothing, good);
    table.leaf("another member's", &["neighbour.example"], nothing, bad);
    table.leaf("two of others", &["a.example", "b.example"], nothing, bad);
    table.leaf("name as a prefix", &["home.example.net"], nothing, bad);
    table.leaf("name as a suffix", &["at.home.example"], nothing, bad);
    table.leaf("name glued in front", &["myhome.example"], nothing, bad);
    table.leaf("parent", &["example"], nothing, bad);
    table.leaf(
        "partial wildcard",
        &["ho*.example"],
        nothing,
        "NameMismatch",
    );
    table.leaf("wildcard of the top", &["*"], nothing, bad);
    table.leaf("wildcard below", &["*.home.example"], nothing, bad);
    table.leaf(
        "wildcard of a whole top level",
        &["*.example"],
        nothing,
        bad,
    );
    table
        .leaf("wildcard", &["*.home.example"], nothing, good)
        .name = "mail.home.example";
    table.leaf("double wildcard", &["*.*.example"], nothing, bad);
    table.leaf("IDN of another", &["xn--hme-lna.example"], nothing, bad);
    table.leaf(
        "an address only",
        &[],
        |p| {
            p.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
        },
        bad,
    );
    table.leaf(
        "a mail address only",
        &[],
        |p| {
            p.subject_alt_names = vec![SanType::Rfc822Name(NAME.try_into().unwrap())];
        },
        bad,
    );
    table.leaf(
        "a URI only",
        &[],
        |p| {
            p.subject_alt_names = vec![SanType::URI("https://home.example/".try_into().unwrap())];
        },
        bad,
    );
    table.leaf("no name at all", &[], nothing, bad);
    table
        .leaf(
            "common name only",
            &[],
            |p| {
                p.distinguished_name = rcgen::DistinguishedName::new();
                p.distinguished_name.push(DnType::CommonName, NAME);
            },
            "NameOnlyInCn",
        )
        .postfix = Postfix::Differs;
    table.leaf(
        "common name right, alternative wrong",
        &["neighbour.example"],
        |p| {
            p.distinguished_name.push(DnType::CommonName, NAME);
        },
        bad,
    );
    table.leaf(
        "common name wrong, alternative right",
        &[NAME],
        |p| {
            p.distinguished_name
                .push(DnType::CommonName, "neighbour.example");
        },
        good,
    );
    table.leaf(
        "trailing dot",
        &[],
        |p| p.custom_extensions = vec![san(b"home.example.")],
        bad,
    );
    table.leaf(
        "leading dot",
        &[],
        |p| p.custom_extensions = vec![san(b".home.example")],
        bad,
    );
    table.leaf(
        "NUL behind the name",
        &[],
        |p| {
            p.custom_extensions = vec![san(b"home.example\0.evil.example")];
        },
        bad,
    );
    table.leaf(
        "NUL in front",
        &[],
        |p| p.custom_extensions = vec![san(b"\0home.example")],
        bad,
    );
    table.leaf(
        "empty name",
        &[],
        |p| p.custom_extensions = vec![san(b"")],
        bad,
    );
    table.leaf(
        "empty list of names",
        &[],
        |p| {
            p.custom_extensions = vec![CustomExtension::from_oid_content(
                &[2, 5, 29, 17],
                vec![0x30, 0],
            )];
        },
        bad,
    );
    table.leaf(
        "space behind the name",
        &[],
        |p| p.custom_extensions = vec![san(b"home.example ")],
        bad,
    );
    table.leaf(
        "name of raw UTF-8",
        &[],
        |p| p.custom_extensions = vec![san("h\u{f6}me.example".as_bytes())],
        bad,
    );
    table
        .leaf("IDN right", &["xn--hme-sna.example"], nothing, good)
        .name = "xn--hme-sna.example";
    table.leaf(
        "BMP common name",
        &[NAME],
        |p| {
            p.distinguished_name.push(
                DnType::OrganizationName,
                DnValue::Utf8String("\u{202e}evil".into()),
            );
        },
        good,
    );
}

/// A subject alternative name with this dNSName, byte for byte.
fn san(name: &[u8]) -> CustomExtension {
    let len = |n: usize| u8::try_from(n).unwrap();
    let mut der = vec![0x30, len(name.len() + 2), 0x82, len(name.len())];
    der.extend_from_slice(name);
    CustomExtension::from_oid_content(&[2, 5, 29, 17], der)
}

fn leaves(table: &mut Table) {
    table.leaf(
        "expired",
        &[NAME],
        |p| p.not_after = date_time_ymd(2024, 1, 1),
        "Expired",
    );
    table.leaf(
        "not yet valid",
        &[NAME],
        |p| p.not_before = date_time_ymd(2049, 1, 1),
        "NotYetValid",
    );
    table.leaf(
        "ends before it begins",
        &[NAME],
        |p| {
            p.not_before = date_time_ymd(2030, 1, 1);
            p.not_after = date_time_ymd(2022, 1, 1);
        },
        "Expired",
    );
    table.leaf(
        "for clients only",
        &[NAME],
        |p| {
            p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        },
        "WrongPurpose",
    );
    table.leaf(
        "for servers",
        &[NAME],
        |p| {
            p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        },
        "ok",
    );
    table.leaf(
        "for servers and clients",
        &[NAME],
        |p| {
            p.extended_key_usages = vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ];
        },
        "ok",
    );
    table.leaf(
        "for signing code",
        &[NAME],
        |p| {
            p.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        },
        "WrongPurpose",
    );
    table.leaf(
        "for mail",
        &[NAME],
        |p| {
            p.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection];
        },
        "WrongPurpose",
    );
    table
        .leaf(
            "CA:TRUE",
            &[NAME],
            |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
            "CaUsedAsEndEntity",
        )
        .postfix = Postfix::Differs;
    table.leaf("CA:FALSE", &[NAME], |p| p.is_ca = IsCa::ExplicitNoCa, "ok");
    table.leaf(
        "unknown critical extension",
        &[NAME],
        |p| p.custom_extensions = vec![unknown_critical()],
        "CriticalExtension",
    );
    table.leaf(
        "unknown extension",
        &[NAME],
        |p| {
            p.custom_extensions = vec![CustomExtension::from_oid_content(
                &[1, 3, 6, 1, 4, 1, 99999, 1],
                vec![5, 0],
            )];
        },
        "ok",
    );
    for (what, algorithm) in [
        ("P-384", &PKCS_ECDSA_P384_SHA384),
        ("Ed25519", &PKCS_ED25519),
    ] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let params = params("server", &[NAME]);
        let der = params
            .signed_by(&key, &table.ca.issuer)
            .unwrap()
            .der()
            .clone();
        let shown = Shown {
            chain: vec![der],
            key: key.serialize_der(),
        };
        table.add(what, shown, "ok");
    }
    let own = Shown {
        chain: vec![table.ca.der.clone()],
        key: table.ca.key.clone(),
    };
    table
        .add("the authority's own certificate", own, "CaUsedAsEndEntity")
        .postfix = Postfix::Same;
    let lone = Ca::new("lone", |p| {
        p.is_ca = IsCa::NoCa;
        p.subject_alt_names = vec![SanType::DnsName(NAME.try_into().unwrap())];
    });
    let lone = Shown {
        chain: vec![lone.der.clone()],
        key: lone.key,
    };
    table.add("self-signed", lone, "SelfSigned");
}

fn unknown_critical() -> CustomExtension {
    let mut unknown = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 2], vec![5, 0]);
    unknown.set_criticality(true);
    unknown
}

fn chains(table: &mut Table) {
    let other = Ca::new("other", nothing);
    let twin = Ca::new("members", nothing);
    let middle = table.ca.below("middle", nothing);
    let leaf = |of: &Ca| of.leaf(&[NAME], nothing);
    table.add(
        "other authority",
        leaf(&other).and(&[&other]),
        "UnknownIssuer",
    );
    table.add(
        "other authority without its certificate",
        leaf(&other),
        "ChainIncomplete",
    );
    table.add("same subject, another key", leaf(&twin), "SameNameOtherKey");
    table.add(
        "same subject, another key, and its root",
        leaf(&twin).and(&[&twin]),
        "SameNameOtherKey",
    );
    table.add("root sent along", leaf(&table.ca).and(&[&table.ca]), "ok");
    table.add("intermediate", leaf(&middle).and(&[&middle]), "ok");
    table.add("intermediate missing", leaf(&middle), "ChainIncomplete");
    let second = middle.below("second", nothing);
    table.add(
        "two intermediates",
        leaf(&second).and(&[&second, &middle]),
        "ok",
    );
    table.add(
        "two intermediates, shuffled",
        leaf(&second).and(&[&middle, &second]),
        "ok",
    );
    table.add(
        "the upper one missing",
        leaf(&second).and(&[&second]),
        "ChainIncomplete",
    );
    table.add(
        "a stranger sent along",
        leaf(&table.ca).and(&[&other]),
        "ok",
    );
    let cross = other.also_by(&table.ca, "other");
    table.add("cross-signed", leaf(&other).and_der(cross), "ok");
    let no_ca = table.ca.below("no ca", |p| p.is_ca = IsCa::ExplicitNoCa);
    table.add(
        "intermediate without CA:TRUE",
        leaf(&no_ca).and(&[&no_ca]),
        "ChainNotAllowed",
    );
    let no_sign = table.ca.below("no sign", |p| {
        p.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    });
    table.add(
        "intermediate that may not sign",
        leaf(&no_sign).and(&[&no_sign]),
        "ChainNotAllowed",
    );
    let old = table
        .ca
        .below("old", |p| p.not_after = date_time_ymd(2024, 1, 1));
    table.add("intermediate expired", leaf(&old).and(&[&old]), "Expired");
    let short = table.ca.below("short", |p| {
        p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    });
    let too_low = short.below("too low", nothing);
    table.add(
        "path length exceeded",
        leaf(&too_low).and(&[&too_low, &short]),
        "ChainNotAllowed",
    );
    table.add("path length kept", leaf(&short).and(&[&short]), "ok");
    let critical = table.ca.below("critical", |p| {
        p.custom_extensions = vec![unknown_critical()];
    });
    table.add(
        "intermediate with an unknown critical extension",
        leaf(&critical).and(&[&critical]),
        "CriticalExtension",
    );
    let mut lowest = table.ca.below("step 0", nothing);
    let mut chain = vec![lowest.der.clone()];
    for step in 1..100 {
        lowest = lowest.below(&format!("step {step}"), nothing);
        chain.insert(0, lowest.der.clone());
    }
    let mut long = leaf(&lowest);
    long.chain.extend(chain);
    table.add("a chain of 100", long, "ChainNotAllowed");
    for (what, permitted, excluded, verdict) in [
        ("name permitted", "example", None, "ok"),
        (
            "name not permitted",
            "elsewhere.example",
            None,
            "NameNotPermitted",
        ),
        ("name excluded", "example", Some(NAME), "NameNotPermitted"),
    ] {
        let mut params = ca_params("constrained");
        let subtree = |name: &str| GeneralSubtree::DnsName(name.to_owned());
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![subtree(permitted)],
            excluded_subtrees: excluded.map(subtree).into_iter().collect(),
        });
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        let ca = Ca::of(der, params, key);
        let shown = leaf(&ca);
        table.add(what, shown, verdict).anchors = vec![ca.der];
    }
    let ended = Ca::new("ended", |p| p.not_after = date_time_ymd(2024, 1, 1));
    table
        .add("anchor expired", leaf(&ended), "AnchorExpired")
        .anchors = vec![ended.der.clone()];
    let coming = Ca::new("coming", |p| p.not_before = date_time_ymd(2049, 1, 1));
    table
        .add("anchor not yet valid", leaf(&coming), "AnchorNotYetValid")
        .anchors = vec![coming.der.clone()];
    let shown = leaf(&other);
    let both = vec![table.ca.der.clone(), other.der.clone()];
    table.add("the second of two anchors", shown, "ok").anchors = both;
}

fn revocation(table: &mut Table) {
    let stranger = Ca::new("stranger", nothing);
    let old = |year, serials: &[u64]| vec![table.ca.list(year, serials)];
    let lists = [
        ("not revoked", old(2040, &[5]), "ok"),
        ("revoked", old(2040, &[5, 77]), "Revoked"),
        (
            "revoked, by a list that is old",
            old(2022, &[77]),
            "Revoked",
        ),
        ("not revoked, by a list that is old", old(2022, &[]), "ok"),
        (
            "list of another issuer",
            vec![stranger.list(2040, &[77])],
            "RevocationUnknown",
        ),
        (
            "list that cannot be read",
            vec![CertificateRevocationListDer::from(vec![0x30, 0])],
            "BadRevocationList",
        ),
    ];
    for (what, lists, verdict) in lists {
        let case = table.leaf(what, &[NAME], nothing, verdict);
        case.lists = lists;
        case.postfix = match verdict {
            "ok" => Postfix::Same,
            _ => Postfix::CannotSay,
        };
    }
}

/// Signed in ways that no library here makes any more.
fn unsafe_signatures(table: &mut Table, directory: &std::path::Path) {
    let file = |name: &str| directory.join(name);
    let openssl = |args: &str| {
        let ran = Command::new("openssl")
            .args(args.split(' '))
            .current_dir(directory)
            .output()
            .expect("openssl is there");
        assert!(
            ran.status.success(),
            "{}",
            String::from_utf8_lossy(&ran.stderr)
        );
    };
    let key = KeyPair::try_from(&table.ca.key[..]).unwrap();
    std::fs::write(file("ca.key"), key.serialize_pem()).unwrap();
    std::fs::write(file("ca.pem"), pem(&table.ca.der)).unwrap();
    std::fs::write(file("ca.ext"), "basicConstraints=critical,CA:TRUE\n").unwrap();
    std::fs::write(file("leaf.ext"), format!("subjectAltName=DNS:{NAME}\n")).unwrap();
    let leaf = KeyPair::generate().unwrap();
    std::fs::write(file("leaf.key"), leaf.serialize_pem()).unwrap();
    openssl("req -new -key leaf.key -subj /CN=server -out leaf.csr");
    let der = |name: &str| CertificateDer::from(std::fs::read(file(name)).unwrap());
    let key = leaf.serialize_der();
    openssl(
        "x509 -req -sha1 -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile leaf.ext -days 9 \
         -outform der -out sha1.der",
    );
    let shown = Shown {
        chain: vec![der("sha1.der")],
        key: key.clone(),
    };
    table.add("signed with SHA-1", shown, "UnsafeSignature");
    // MD5 goes with RSA only, so an intermediate signs.
    for (what, bits, digest, verdict) in [
        ("issued by RSA 2048", 2048, "sha256", "ok"),
        ("signed with MD5", 2048, "md5", "UnsafeSignature"),
        ("issued by RSA 1024", 1024, "sha256", "WeakKey"),
    ] {
        openssl(&format!(
            "req -new -newkey rsa:{bits} -nodes -keyout rsa.key -subj /CN=rsa -out rsa.csr"
        ));
        openssl(
            "x509 -req -in rsa.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile ca.ext -days 9 -out rsa.pem",
        );
        openssl("x509 -in rsa.pem -outform der -out rsa.der");
        openssl(&format!(
            "x509 -req -{digest} -in leaf.csr -CA rsa.pem -CAkey rsa.key -CAcreateserial -extfile leaf.ext -days 9 \
             -outform der -out leaf.der"
        ));
        let shown = Shown {
            chain: vec![der("leaf.der"), der("rsa.der")],
            key: key.clone(),
        };
        table.add(what, shown, verdict).postfix = match bits {
            1024 => Postfix::Differs,
            _ => Postfix::Same,
        };
    }
}

/// Whoever speaks no TLS that is safe gets nothing either: an alert, TLS 1.1, and a server that hangs up.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_a_safe_tls_gets_not_one_byte_more() {
    // A ServerHello of TLS 1.1: version 3.2, 32 random bytes, no session, RSA with AES-128-CBC, no compression.
    let mut hello = vec![0x16, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 0x2f, 0]);
    for (answer, reason) in [
        (vec![0x15, 3, 1, 0, 2, 2, 70], "TlsTooOld"),
        (hello, "TlsTooOld"),
        (vec![0x15, 3, 3, 0, 2, 1, 0], "HandshakeFailed"),
        (Vec::new(), "HandshakeFailed"),
        (b"500 what\r\n".to_vec(), "HandshakeFailed"),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut heard = vec![0; 4096];
            stream.write_all(b"220 home ESMTP\r\n").await.unwrap();
            let _ = stream.read(&mut heard).await.unwrap();
            stream
                .write_all(b"250-home\r\n250 STARTTLS\r\n")
                .await
                .unwrap();
            let _ = stream.read(&mut heard).await.unwrap();
            stream.write_all(b"220 go\r\n").await.unwrap();
            let _ = stream.read(&mut heard).await.unwrap();
            stream.write_all(&answer).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            rest
        });
        let mut table = Table {
            ca: Ca::new("members", nothing),
            cases: Vec::new(),
        };
        table.leaf("whatever", &[NAME], nothing, reason);
        let said = verdict(&Tls::default(), &table.cases[0], address).await;
        assert_eq!(said, reason);
        let rest = serving.await.unwrap();
        // An alert at most, or the rest of the ClientHello that was not read.
        assert!(!String::from_utf8_lossy(&rest).contains("EHLO"), "{rest:?}");
    }
}

fn pem(der: &[u8]) -> String {
    dd_proto::pem::certificate(der)
}

/// What the agent's own session makes of whoever answers at `address`.
async fn verdict(tls: &Tls, case: &Case, address: SocketAddr) -> String {
    let terms = Arc::new(Terms {
        proof: Proof::Certificate(Certified {
            authority: "members".parse().unwrap(),
            name: case.name.parse().unwrap(),
        }),
        anchors: case.anchors.clone(),
        revocation_lists: case.lists.clone(),
    });
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let host = Host {
        name: HostName::Address(address.ip()),
        port: address.port().try_into().unwrap(),
    };
    let seen = Seen::new(host, address, "127.0.0.1".parse().unwrap());
    let opening = Opening::new(
        terms.clone(),
        "agent.example".into(),
        AskTls::WhereOffered,
        seen,
    );
    let slots = Arc::new(Semaphore::new(1));
    let probe = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
    match live::open(stream, opening, tls, &terms, &slots, probe).await {
        Ok(live) => {
            live.quit().await;
            "ok".to_owned()
        }
        Err(unproved) => {
            let refusal = unproved.failure.refusal.expect("a refusal");
            assert!(refusal.to_string().len() > 20, "{}: {refusal}", case.what);
            refusal.reason().to_owned()
        }
    }
}

/// Whether Postfix takes the same certificate for verified.
fn postfix_verifies(directory: &std::path::Path, case: &Case, address: SocketAddr) -> bool {
    let anchors = directory.join("anchors.pem");
    let all: String = case.anchors.iter().map(|der| pem(der)).collect();
    std::fs::write(&anchors, all).unwrap();
    let output = Command::new("/usr/sbin/posttls-finger")
        .env("MAIL_CONFIG", directory)
        .args(["-c", "-t", "10", "-T", "10", "-l", "secure", "-F"])
        .arg(&anchors)
        .arg(format!("[{}]:{}", address.ip(), address.port()))
        .arg(case.name)
        .output()
        .expect("`make deps` installs Postfix");
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("fatal"), "{}: {said}", case.what);
    said.contains("Verified TLS connection")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_certificate_of_the_table_gets_its_verdict_and_a_refused_one_not_one_byte() {
    let mut table = Table {
        ca: Ca::new("members", nothing),
        cases: Vec::new(),
    };
    names(&mut table);
    leaves(&mut table);
    chains(&mut table);
    revocation(&mut table);
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("main.cf"),
        "compatibility_level = 3.6\n",
    )
    .unwrap();
    std::fs::write(directory.path().join("master.cf"), "").unwrap();
    unsafe_signatures(&mut table, directory.path());
    let tls = Tls::default();
    let (mut wrong, mut refused, mut asked, mut differ) = (Vec::new(), 0, 0, 0);
    for case in &table.cases {
        let chain: Vec<&[u8]> = case.shown.chain.iter().map(AsRef::as_ref).collect();
        let site = Site::start(Script::presenting(&Identity::of(&chain, &case.shown.key)));
        let said = verdict(&tls, case, site.address()).await;
        if said != case.verdict {
            wrong.push(format!("{}: {said}, not {}", case.what, case.verdict));
        }
        let seen = site.saw("the agent to hang up", |seen| seen.ended);
        if said != "ok" {
            refused += 1;
            assert_eq!(seen.secured, b"", "{}", case.what);
        }
        if case.postfix == Postfix::CannotSay {
            continue;
        }
        asked += 1;
        let same = postfix_verifies(directory.path(), case, site.address()) == (said == "ok");
        let expected = case.postfix == Postfix::Same;
        differ += usize::from(!same);
        if same != expected {
            wrong.push(format!(
                "{}: {said}; Postfix says the same: {same}",
                case.what
            ));
        }
    }
    println!(
        "{} certificates: {} proved, {refused} refused with 0 bytes; posttls-finger asked {asked} times, {differ} differ",
        table.cases.len(),
        table.cases.len() - refused
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(table.cases.len() >= 60, "{}", table.cases.len());
}

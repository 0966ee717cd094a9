//! What the tests of sessions share: terms, handshakes and envelopes from a word.

use std::sync::LazyLock;

use dd_agent::proof::{Asked, Checked, Refusal, Seen, Terms, TlsSeen, TlsUp};
use dd_proto::client::{Client, Spoken};
use dd_proto::domain::Domain;
use dd_proto::envelope::{Body, Encoding, Envelope, Recipient, Ret};
use dd_proto::id::RecipientNumber;
use dd_proto::site::{Certified, Host, HostName, Proof};
use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls_pki_types::CertificateDer;

pub(crate) const HELO: &str = "out1.example.net";
pub(crate) const NAME: &str = "home.example";

/// Within the validity of every certificate made here.
#[expect(non_snake_case, reason = "reads like the constant it is")]
pub(crate) fn NOW() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

/// A certificate authority of a test.
pub(crate) struct Authority {
    pub(crate) der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    key: Vec<u8>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        Self {
            der,
            key: key.serialize_der(),
            issuer: Issuer::new(params, key),
        }
    }

    /// The authority's own certificate, as a home server may present it by mistake.
    pub(crate) fn itself(&self) -> (CertificateDer<'static>, KeyPair) {
        (self.der.clone(), KeyPair::try_from(&self.key[..]).unwrap())
    }

    pub(crate) fn issue(&self, name: &str) -> (CertificateDer<'static>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let der = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        (der, key)
    }
}

static AUTHORITY: LazyLock<(Authority, CertificateDer<'static>)> = LazyLock::new(|| {
    let authority = Authority::new();
    let leaf = authority.issue(NAME).0;
    (authority, leaf)
});

pub(crate) fn seen() -> Seen {
    let host = Host {
        name: HostName::Dns("home.dyndns.example".parse().unwrap()),
        port: 2525.try_into().unwrap(),
    };
    Seen::new(
        host,
        "192.0.2.7:2525".parse().unwrap(),
        "192.0.2.1".parse().unwrap(),
    )
}

pub(crate) fn certificate_proof() -> Proof {
    Proof::Certificate(Certified {
        authority: "member-ca".parse().unwrap(),
        name: NAME.parse().unwrap(),
    })
}

pub(crate) fn terms(kind: &str) -> Terms {
    let listed = |ip: &str| Proof::StaticIp {
        addresses: [ip.parse().unwrap()].into(),
        certificate: None,
    };
    let proof = match kind {
        "certificate" => certificate_proof(),
        "port" => Proof::Port,
        "configured" => Proof::Configured,
        "static-ip" => listed("192.0.2.7"),
        "static-ip-elsewhere" => listed("192.0.2.8"),
        other => panic!("{other}"),
    };
    Terms {
        proof,
        anchors: vec![AUTHORITY.0.der.clone()],
        revocation_lists: Vec::new(),
    }
}

pub(crate) fn handshake(word: &str) -> TlsSeen {
    let up = |checked| {
        TlsSeen::Up(TlsUp {
            version: "TLSv1.3".to_owned(),
            cipher: String::new(),
            chain: vec![AUTHORITY.1.clone()],
            checked,
            asked: Asked::No,
        })
    };
    let named = |name: &str| Checked::AgainstAnchors {
        name: name.parse::<Domain>().unwrap(),
        anchors: vec![AUTHORITY.0.der.clone()],
    };
    let failed = |refusal| TlsSeen::Failed {
        refusal,
        chain: Vec::new(),
    };
    match word {
        "ok" => up(named(NAME)),
        "ok-other-name" => up(named("other.example")),
        "ok-unchecked" => up(Checked::OnlyRecorded),
        "UnknownIssuer" => failed(Refusal::UnknownIssuer),
        "Expired" => failed(Refusal::Expired),
        "HandshakeFailed" => failed(Refusal::HandshakeFailed("reset".to_owned())),
        other => panic!("{other}"),
    }
}

/// From `[8bit ][utf8 ][NAME ADDRESS HELO | ][dsn ]reverse-path -> forward-path, …`; the words in front of `|` are those of
/// the client from whom the feeder had it.
pub(crate) fn envelope(text: &str) -> Envelope {
    let (mut body, mut encoding, mut rest) = (Body::SevenBit, Encoding::Ascii, text);
    if let Some(more) = rest.strip_prefix("8bit ") {
        (body, rest) = (Body::EightBitMime, more);
    }
    if let Some(more) = rest.strip_prefix("utf8 ") {
        (encoding, rest) = (Encoding::Utf8, more);
    }
    let mut client = None;
    if let Some((words, more)) = rest.split_once(" | ") {
        let words: Vec<&str> = words.split(' ').collect();
        client = Some(Box::new(Client {
            name: Some(words[0].to_owned()),
            address: Some(words[1].parse().unwrap()),
            port: None,
            helo: Some(words[2].to_owned()),
            protocol: Some(Spoken::Esmtp),
        }));
        rest = more;
    }
    let (mut ret, mut envid, mut notify) = (None, None, None);
    if let Some(more) = rest.strip_prefix("dsn ") {
        (ret, envid, rest) = (Some(Ret::Headers), Some("q+2B1".to_owned()), more);
        notify = Some("SUCCESS,DELAY".to_owned());
    }
    let (from, to) = rest.split_once("->").unwrap();
    let recipient = |(number, path): (usize, &str)| Recipient {
        number: RecipientNumber(u16::try_from(number).unwrap()),
        path: path.trim().parse().unwrap(),
        orcpt: notify
            .as_ref()
            .map(|_| format!("rfc822;was+2B{}", path.trim())),
        notify: notify.clone(),
    };
    Envelope {
        reverse_path: from.trim().parse().unwrap(),
        body,
        encoding,
        ret,
        envid,
        recipients: to.split(',').enumerate().map(recipient).collect(),
        client,
    }
}

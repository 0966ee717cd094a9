use super::super::Tls;
use super::*;
use crate::proof::{Seen, Terms, TlsSeen, proof_for};
use dd_proto::fingerprint::Fingerprint;
use dd_proto::site::{Host, HostName};
use jiff::Timestamp;
use rcgen::{CertificateParams, KeyPair, PublicKeyData as _};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{SignatureAlgorithm, SupportedProtocolVersion, version};
use rustls_pki_types::PrivateKeyDer;
use sha2::{Digest as _, Sha256};

/// The parts of a value's contents, each with its head; only short forms and lengths of one or two octets.
fn parts(mut contents: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while !contents.is_empty() {
        let (head, length) = head(contents);
        let (one, rest) = contents.split_at(head + length);
        all.push(one.to_vec());
        contents = rest;
    }
    all
}

fn head(value: &[u8]) -> (usize, usize) {
    match value[1] {
        0x81 => (3, usize::from(value[2])),
        0x82 => (4, usize::from(value[2]) << 8 | usize::from(value[3])),
        short => (2, usize::from(short)),
    }
}

fn contents(value: &[u8]) -> &[u8] {
    &value[head(value).0..]
}

fn value(tag: u8, parts: &[Vec<u8>]) -> Vec<u8> {
    let contents = parts.concat();
    let length = u16::try_from(contents.len()).unwrap().to_be_bytes();
    [&[tag, 0x82, length[0], length[1]][..], &contents].concat()
}

const VERSION: usize = 0;
const SERIAL: usize = 1;
const ALGORITHM: usize = 2;
const ISSUER: usize = 3;
const VALIDITY: usize = 4;
const SUBJECT: usize = 5;
const EXTENSIONS: usize = 7;

/// A certificate of which something was changed after it was signed: nobody here reads its signature.
fn changed(key: &KeyPair, change: impl FnOnce(&mut Vec<Vec<u8>>)) -> CertificateDer<'static> {
    let params = CertificateParams::new(vec!["home.example".to_owned()]).unwrap();
    let made = params.self_signed(key).unwrap();
    let whole = parts(contents(made.der()));
    let mut signed = parts(contents(&whole[0]));
    change(&mut signed);
    let signed = value(0x30, &signed);
    value(0x30, &[signed, whole[1].clone(), whole[2].clone()]).into()
}

/// As old and as odd tools make them.
fn odd(key: &KeyPair) -> Vec<(&'static str, CertificateDer<'static>)> {
    let extension = |der: Vec<u8>| value(0xa3, &[value(0x30, &[der])]);
    let set = |part: usize, to: Vec<u8>| changed(key, |parts| parts[part] = to);
    let unknown = [0x30, 0x0c, 6, 3, 0x2a, 3, 4, 1, 1, 0xff, 4, 2, 5, 0].to_vec();
    let long = [&[2, 40][..], &[0x11; 40]].concat();
    vec![
        ("as it should be", changed(key, |_| {})),
        (
            "version 1",
            changed(key, |parts| drop((parts.pop(), parts.remove(VERSION)))),
        ),
        (
            "version 1 with extensions",
            changed(key, |parts| drop(parts.remove(VERSION))),
        ),
        ("version 2", set(VERSION, vec![0xa0, 3, 2, 1, 1])),
        ("version 8", set(VERSION, vec![0xa0, 3, 2, 1, 7])),
        ("serial number 0", set(SERIAL, vec![2, 1, 0])),
        ("negative serial number", set(SERIAL, vec![2, 2, 0x80, 1])),
        ("long serial number", set(SERIAL, long)),
        (
            "unknown critical extension",
            set(EXTENSIONS, extension(unknown)),
        ),
        (
            "damaged extension",
            set(EXTENSIONS, extension(vec![0x30, 3, 1, 1, 1])),
        ),
        ("no issuer", set(ISSUER, vec![0x30, 0])),
        ("no subject", set(SUBJECT, vec![0x30, 0])),
        (
            "no such day",
            set(VALIDITY, vec![0x30, 4, 0x17, 0, 0x17, 0]),
        ),
        (
            "no such signature",
            set(ALGORITHM, vec![0x30, 3, 6, 1, 0x2a]),
        ),
    ]
}

#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesServerCert for Shows {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// A key that signs with nonsense, under any scheme.
#[derive(Debug, Clone, Copy)]
struct Nonsense(SignatureScheme);

impl SigningKey for Nonsense {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered
            .contains(&self.0)
            .then(|| Box::new(*self) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for Nonsense {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        Ok(vec![7; 64])
    }

    fn scheme(&self) -> SignatureScheme {
        self.0
    }
}

fn real(key: &KeyPair) -> Arc<dyn SigningKey> {
    let der = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    rustls::crypto::aws_lc_rs::sign::any_supported_type(&der).unwrap()
}

/// What a handshake over this certificate proves: the proof's kind, or the refusal's word.
async fn proved(
    proof: Proof,
    certificate: &CertificateDer<'static>,
    key: Arc<dyn SigningKey>,
    version: &'static SupportedProtocolVersion,
) -> &'static str {
    let shows = Shows(Arc::new(CertifiedKey::new(vec![certificate.clone()], key)));
    let server = rustls::ServerConfig::builder_with_provider(dd_pki::provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(shows));
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let (near, far) = tokio::io::duplex(1 << 16);
    let terms = Terms {
        proof,
        anchors: Vec::new(),
        revocation_lists: Vec::new(),
    };
    let tls = Tls::default();
    let name = HostName::Address([127, 0, 0, 1].into());
    let securing = tls.secure(near, &terms, &name, &None);
    let (_served, (tls, _)) = tokio::join!(acceptor.accept(far), securing);
    if let TlsSeen::Failed { refusal, .. } = &tls {
        return refusal.reason();
    }
    let host = Host {
        name: HostName::Dns("home.example".parse().unwrap()),
        port: std::num::NonZeroU16::new(2525).unwrap(),
    };
    let peer = "192.0.2.7:2525".parse().unwrap();
    let mut seen = Seen::new(host, peer, "192.0.2.1".parse().unwrap());
    seen.tls = tls;
    match proof_for(&terms).rule(&terms, &seen, Timestamp::UNIX_EPOCH) {
        Ok(verified) => verified.proof(),
        Err(refusal) => refusal.reason(),
    }
}

fn fingerprint(of: &[u8]) -> Proof {
    let listed = [Fingerprint(Sha256::digest(of).into())].into();
    Proof::Fingerprint { listed }
}

fn static_ip() -> Proof {
    Proof::StaticIp {
        addresses: ["192.0.2.7".parse().unwrap()].into(),
        certificate: None,
    }
}

#[tokio::test]
async fn of_a_certificate_only_the_key_is_asked_where_only_that_counts() {
    let key = KeyPair::generate().unwrap();
    for (name, certificate) in odd(&key) {
        for version in [&version::TLS12, &version::TLS13] {
            for (proof, expected) in [
                (fingerprint(&certificate), "fingerprint"),
                (fingerprint(&key.subject_public_key_info()), "fingerprint"),
                (fingerprint(b"another"), "FingerprintNotListed"),
                (static_ip(), "static-ip"),
                (Proof::Port, "port"),
            ] {
                let proved = proved(proof, &certificate, real(&key), version).await;
                assert_eq!(proved, expected, "{name}, {version:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_certificate_whose_key_the_far_end_does_not_hold_is_refused() {
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    for (_, certificate) in odd(&key) {
        for version in [&version::TLS12, &version::TLS13] {
            for proof in [fingerprint(&certificate), static_ip(), Proof::Port] {
                let proved = proved(proof, &certificate, real(&other), version).await;
                assert_eq!(proved, "HandshakeFailed");
            }
        }
    }
}

#[tokio::test]
async fn a_key_that_nobody_here_can_verify_serves_only_where_it_proves_nothing() {
    let key = KeyPair::generate().unwrap();
    let ed448 = [
        &[0x30, 0x43, 0x30, 5, 6, 3, 0x2b, 0x65, 0x71, 3, 0x3a, 0][..],
        &[9; 57],
    ]
    .concat();
    let certificate = changed(&key, |parts| parts[6] = ed448);
    let short = include_str!("../../tests/data/rsa1024-cert.pem");
    let short = dd_proto::pem::read_one(short.as_bytes(), dd_proto::pem::Kind::Certificate);
    let short = CertificateDer::from(short.unwrap());
    for (certificate, scheme, by_print) in [
        (&certificate, SignatureScheme::ED448, "HandshakeFailed"),
        (&short, SignatureScheme::RSA_PSS_SHA256, "WeakKey"),
    ] {
        let nonsense = || Arc::new(Nonsense(scheme)) as Arc<dyn SigningKey>;
        for (proof, expected) in [
            (static_ip(), "static-ip"),
            (Proof::Port, "port"),
            (fingerprint(certificate), by_print),
        ] {
            let proved = proved(proof, certificate, nonsense(), &version::TLS13).await;
            assert_eq!(proved, expected);
        }
    }
}

//! What a host that asks for a certificate is shown, and who is shown nothing.

use super::*;
use dd_proto::fingerprint::Fingerprint;
use dd_proto::site::Certified;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{SupportedProtocolVersion, version};
use rustls_pki_types::PrivateKeyDer;
use sha2::{Digest as _, Sha256};

/// A members' authority, and what an agent has of it.
struct Member {
    root: CertificateDer<'static>,
    shown: Arc<CertifiedKey>,
}

impl Member {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().der().clone();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::default().signed_by(&key, &issuer);
        let leaf = leaf.unwrap().der().clone();
        Self {
            root,
            shown: Arc::new(CertifiedKey::new(vec![leaf], signing(&key))),
        }
    }
}

fn signing(key: &KeyPair) -> Arc<dyn rustls::sign::SigningKey> {
    let der = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    rustls::crypto::aws_lc_rs::sign::any_supported_type(&der).unwrap()
}

/// A handshake with a host that asks for a certificate of the authority: whether it came about, and what the host saw.
async fn seen_by_the_host(
    member: &Member,
    shown: &Shown,
    is_the_site: bool,
    version: &'static SupportedProtocolVersion,
) -> (bool, Option<CertificateDer<'static>>) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["home.example".to_owned()]).unwrap();
    let own = params.self_signed(&key).unwrap().der().clone();
    let mut roots = RootCertStore::empty();
    roots.add(member.root.clone()).unwrap();
    let asks = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), dd_pki::provider());
    let server = rustls::ServerConfig::builder_with_provider(dd_pki::provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(asks.allow_unauthenticated().build().unwrap())
        .with_single_cert(
            vec![own.clone()],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        );
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server.unwrap()));
    let (near, far) = tokio::io::duplex(1 << 16);
    let listed = [Fingerprint(Sha256::digest(&own).into())].into();
    let proof = match is_the_site {
        true => Proof::Fingerprint { listed },
        false => Proof::Certificate(Certified {
            authority: "member-ca".parse().unwrap(),
            name: "home.example".parse().unwrap(),
        }),
    };
    let terms = Terms {
        proof,
        anchors: vec![member.root.clone()],
        revocation_lists: Vec::new(),
    };
    let (tls, name) = (Tls::default(), HostName::Address([127, 0, 0, 1].into()));
    let securing = tls.secure(near, &terms, &name, shown);
    let (accepted, (seen, _stream)) = tokio::join!(acceptor.accept(far), securing);
    let certificate = accepted.ok().and_then(|stream| {
        let certificates = stream.get_ref().1.peer_certificates();
        certificates.and_then(<[_]>::first).cloned()
    });
    (matches!(seen, TlsSeen::Up(_)), certificate)
}

#[tokio::test]
async fn a_host_that_asks_sees_the_certificate_that_its_plan_wants_shown_and_nobody_else_does() {
    let member = Member::new();
    let leaf = member.shown.cert[0].clone();
    let shown = Some(Arc::clone(&member.shown));
    for version in [&version::TLS12, &version::TLS13] {
        let with = seen_by_the_host(&member, &shown, true, version).await;
        assert_eq!(with, (true, Some(leaf.clone())), "{version:?}");
        let without = seen_by_the_host(&member, &None, true, version).await;
        assert_eq!(without, (true, None), "{version:?}");
        // Whoever does not show the chain that is the proof is told nothing.
        let stranger = seen_by_the_host(&member, &shown, false, version).await;
        assert_eq!(stranger, (false, None), "{version:?}");
    }
}

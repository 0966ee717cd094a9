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

#[derive(Clone, Copy)]
struct Host {
    version: &'static SupportedProtocolVersion,
    is_the_site: bool,
    /// Whoever shows none is refused.
    insists: bool,
}

/// A handshake with a host that asks for a certificate of the authority: what came of it, and what the host saw.
async fn seen_by_the_host(
    member: &Member,
    shown: &Shown,
    Host {
        version,
        is_the_site,
        insists,
    }: Host,
) -> (TlsSeen, Option<CertificateDer<'static>>) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["home.example".to_owned()]).unwrap();
    let own = params.self_signed(&key).unwrap().der().clone();
    let mut roots = RootCertStore::empty();
    roots.add(member.root.clone()).unwrap();
    let asks = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), dd_pki::provider());
    let asks = match insists {
        true => asks,
        false => asks.allow_unauthenticated(),
    };
    let server = rustls::ServerConfig::builder_with_provider(dd_pki::provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(asks.build().unwrap())
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
    (seen, certificate)
}

/// What the agent knows of having been asked; None: the handshake failed.
fn asked(seen: &TlsSeen) -> Option<Asked> {
    match seen {
        TlsSeen::Up(up) => Some(up.asked),
        _ => None,
    }
}

#[tokio::test]
async fn a_host_that_asks_sees_the_certificate_that_its_plan_wants_shown_and_nobody_else_does() {
    let member = Member::new();
    let leaf = member.shown.cert[0].clone();
    let shown = Some(Arc::clone(&member.shown));
    for version in [&version::TLS12, &version::TLS13] {
        let host = |is_the_site| Host {
            version,
            is_the_site,
            insists: false,
        };
        let (seen, with) = seen_by_the_host(&member, &shown, host(true)).await;
        assert_eq!(
            (asked(&seen), with),
            (Some(Asked::Shown), Some(leaf.clone()))
        );
        let (seen, without) = seen_by_the_host(&member, &None, host(true)).await;
        assert_eq!((asked(&seen), without), (Some(Asked::ShownNothing), None));
        // Whoever does not show the chain that is the proof is told nothing.
        let (seen, stranger) = seen_by_the_host(&member, &shown, host(false)).await;
        assert_eq!((asked(&seen), stranger), (None, None), "{version:?}");
    }
}

#[tokio::test]
async fn a_host_that_refuses_the_handshake_for_our_certificate_is_told_apart_by_what_was_shown() {
    let (member, foreign) = (Member::new(), Member::new());
    let host = Host {
        version: &version::TLS12,
        is_the_site: true,
        insists: true,
    };
    for (shown, says) in [
        (None, "has none to show"),
        (Some(Arc::clone(&foreign.shown)), "does not take that one"),
    ] {
        let (seen, _) = seen_by_the_host(&member, &shown, host).await;
        let TlsSeen::Failed { refusal, .. } = seen else {
            panic!("{seen:?}");
        };
        assert!(refusal.to_string().contains(says), "{refusal}");
    }
}

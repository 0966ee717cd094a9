//! The sites that the tests of intake know, and its settings.

use std::sync::Arc;
use std::time::Duration;

use dd_controller::intake::Settings;
use dd_controller::intake::policy::Usage;
use dd_proto::domain::Domain;
use dd_proto::hold::HoldPeriods;
use dd_proto::id::SiteVersion;
use dd_proto::name::SiteName;
use dd_proto::site::{HandOver, Host, HostName, KnownRecipients, Limits, Proof, Schedule, Site};
use dd_proto::smtp::data::StrayCrLf;

/// `home.example` takes anything, `other.example` too, `small.example` at most 100 bytes, `listed.example` only anna,
/// `roomy.example` at most 500,000 bytes, `full.example` is over its quota, `tight.example` has room for 100 bytes,
/// `closing.example` is being removed, `told.example` is told of clients.
pub(crate) fn site_for(domain: &Domain) -> Option<Arc<Site>> {
    let name = domain.as_str().strip_suffix(".example")?;
    let mut site = site(name, domain);
    match name {
        "home" | "other" => {}
        "small" => site.limits.max_message_bytes = Some(100),
        "roomy" => site.limits.max_message_bytes = Some(500_000),
        "tight" => site.limits.quota_bytes = Some(1100),
        "told" => site.way.hand_over = HandOver::XForward,
        "full" => site.limits.quota_messages = Some(3),
        "closing" => site.closing = true,
        "listed" => {
            site.known = KnownRecipients::Only(["anna@listed.example".parse().unwrap()].into());
        }
        _ => return None,
    }
    Some(Arc::new(site))
}

pub(crate) fn usage(_: &SiteName) -> Usage {
    Usage {
        messages: 3,
        bytes: 1000,
    }
}

fn site(name: &str, domain: &Domain) -> Site {
    Site {
        name: name.parse().unwrap(),
        version: SiteVersion(1),
        domains: [domain.clone()].into(),
        known: KnownRecipients::Any,
        hosts: vec![Host {
            name: HostName::Dns(domain.clone()),
            port: 2525.try_into().unwrap(),
        }],
        proof: Proof::Port,
        way: dd_proto::site::Way::default(),
        limits: Limits {
            connections: 2,
            max_message_bytes: None,
            quota_messages: None,
            quota_bytes: None,
        },
        schedule: Schedule {
            retry_interval: Duration::from_secs(180),
            lifetime: Duration::from_secs(86400),
            delay_warning: Duration::from_secs(3600),
            outage_notice: None,
        },
        hold: None,
        held_before: HoldPeriods::default(),
        closing: false,
        contact: None,
        language: None,
        allow_targets: Vec::new(),
        agents: Default::default(),
        password_hash: None,
        wake_hash: None,
    }
}

pub(crate) fn settings() -> Settings {
    Settings {
        hostname: "mail.example.net".parse().unwrap(),
        smtp: vec!["127.0.0.1:0".parse().unwrap()],
        lmtp: vec!["127.0.0.1:0".parse().unwrap()],
        trusted: vec!["127.0.0.0/8".parse().unwrap()],
        max_message_bytes: 1_000_000,
        max_sessions: 100,
        max_sessions_per_client: 3,
        buffer_bytes: 1 << 20,
        stray_cr_lf: StrayCrLf::Refuse,
        authserv_ids: std::sync::Arc::new([]),
        tls: None,
    }
}

fn identity() -> rcgen::CertifiedKey<rcgen::KeyPair> {
    rcgen::generate_simple_self_signed(vec!["mail.example.net".to_owned()]).unwrap()
}

pub(crate) fn server_tls() -> Arc<rustls::ServerConfig> {
    tls_pair().0
}

/// A server's configuration and that of a client which trusts it.
pub(crate) fn tls_pair() -> (Arc<rustls::ServerConfig>, Arc<rustls::ClientConfig>) {
    let identity = identity();
    let certificate = identity.cert.der().clone();
    let key = rustls_pki_types::PrivateKeyDer::try_from(identity.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.unwrap())
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), Arc::new(client))
}

//! The whole control plane over real sockets: who gets in, and what each may do.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dd_controller::store::RebuildIndex;
use dd_proto::pb::agents_client::AgentsClient;
use dd_proto::pb::delivery_client::DeliveryClient;
use dd_proto::pb::enrollment_client::EnrollmentClient;
use dd_proto::pb::registry_client::RegistryClient;
use dd_proto::pb::sites_client::SitesClient;
use dd_proto::pb::watch_client::WatchClient;
use dd_proto::pb::{self, agent_event::Event, order};
use dd_proto::token::JoinToken;
use dd_service::sockets::Passed;
use rcgen::{CertificateParams, KeyPair};
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};

/// A running controller; dropped, it is gone.
struct World {
    directory: tempfile::TempDir,
    _controller: JoinSet<()>,
}

impl World {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("controller.toml");
        let state = directory.path().join("state");
        let text = format!(
            "hostname = \"mail.provider.example\"\nstate_dir = {state:?}\n\
             [intake]\nsmtp = [\"127.0.0.1:0\"]\nlmtp = [\"127.0.0.1:0\"]\n\
             [store]\nsegment_bytes = \"1M\"\nmin_free = \"0\"\n\
             [control]\nlisten = \"127.0.0.1:0\"\n[metrics]\nlisten = \"127.0.0.1:0\"\n[web]\nlisten = \"127.0.0.1:0\"\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut controller = JoinSet::new();
        controller.spawn(async move {
            dd_controller::run(&config, RebuildIndex::No, Passed::default())
                .await
                .unwrap();
        });
        let world = Self {
            directory,
            _controller: controller,
        };
        // It answers once all is made that it makes at a start.
        let mut watch = WatchClient::new(world.local().await);
        watch.status(pb::StatusRequest {}).await.unwrap();
        world
    }

    fn state(&self, name: &str) -> PathBuf {
        self.directory.path().join("state").join(name)
    }

    /// Over the local socket, as soon as it is there.
    async fn local(&self) -> Channel {
        let path = self.state("admin.sock");
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        for _ in 0..500 {
            tick.tick().await;
            let path = path.clone();
            let connect = tower::service_fn(move |_| {
                let path = path.clone();
                async {
                    UnixStream::connect(path)
                        .await
                        .map(hyper_util::rt::TokioIo::new)
                }
            });
            let endpoint = Endpoint::from_static("http://controller.invalid");
            if let Ok(channel) = endpoint.connect_with_connector(connect).await {
                return channel;
            }
        }
        panic!("the controller does not open {}", path.display());
    }

    /// Over TLS, with an identity or without.
    async fn remote(&self, identity: Option<Identity>) -> Channel {
        let status = WatchClient::new(self.local().await)
            .status(pb::StatusRequest {})
            .await
            .unwrap()
            .into_inner();
        let authority = std::fs::read(self.state("admin/authority.pem")).unwrap();
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(authority))
            .domain_name("dd-controller.control.invalid");
        let tls = match identity {
            Some(identity) => tls.identity(identity),
            None => tls,
        };
        let address = status.listeners.unwrap().control;
        Endpoint::from_shared(format!("https://{address}"))
            .unwrap()
            .tls_config(tls)
            .unwrap()
            .connect()
            .await
            .unwrap()
    }

    async fn admin(&self) -> Channel {
        let read = |name: &str| std::fs::read(self.state("admin").join(name)).unwrap();
        let identity = Identity::from_pem(read("admin.pem"), read("admin.key"));
        self.remote(Some(identity)).await
    }

    async fn token(&self, agent: &str) -> JoinToken {
        // Each has an address of its own.
        let number: u8 = agent.trim_start_matches("out").parse().unwrap();
        let request = pb::AddAgentRequest {
            name: agent.to_owned(),
            addresses: vec![format!("127.0.0.{}", number + 1)],
            from_ms: 0,
        };
        let mut agents = AgentsClient::new(self.local().await);
        let added = agents.add(request).await.unwrap().into_inner();
        JoinToken::parse(&added.token).unwrap()
    }

    async fn join(&self, token: &JoinToken, key: &KeyPair) -> Result<pb::Credentials, Status> {
        let params = CertificateParams::new(Vec::new()).unwrap();
        let csr = params.serialize_request(key).unwrap().der().to_vec();
        let request = pb::JoinRequest {
            name: token.name.to_string(),
            secret: token.secret.clone().into(),
            csr: csr.into(),
        };
        let mut enrollment = EnrollmentClient::new(self.remote(None).await);
        enrollment
            .join(request)
            .await
            .map(tonic::Response::into_inner)
    }

    async fn agent(&self, name: &str) -> Channel {
        let (token, key) = (self.token(name).await, KeyPair::generate().unwrap());
        let credentials = self.join(&token, &key).await.unwrap();
        let chain: String = credentials.chain.iter().map(|der| pem(der)).collect();
        self.remote(Some(Identity::from_pem(chain, key.serialize_pem())))
            .await
    }
}

fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

fn home() -> pb::SiteSpec {
    pb::SiteSpec {
        name: "home".to_owned(),
        domains: vec!["home.example".to_owned()],
        hosts: vec![pb::Host {
            host: "127.0.0.9".to_owned(),
            port: 2525,
        }],
        proof: Some(dd_proto::site::Proof::Port.into()),
        password: Some("12345678".to_owned()),
        ..pb::SiteSpec::default()
    }
}

fn hello(name: &str) -> Vec<pb::AgentEvent> {
    let hello = pb::Hello {
        name: name.to_owned(),
        kinds: vec!["smtp".to_owned()],
        slots: 4,
        probes: 4,
        ..pb::Hello::default()
    };
    [Event::Hello(hello), Event::HelloEnd(pb::HelloEnd {})]
        .map(|event| pb::AgentEvent { event: Some(event) })
        .into()
}

async fn add(channel: Channel, spec: pb::SiteSpec) -> Result<pb::SiteStatus, Status> {
    let request = pb::AddSiteRequest {
        spec: Some(spec),
        take_mail: false,
    };
    let added = SitesClient::new(channel).add(request).await;
    added.map(tonic::Response::into_inner)
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_is_added_once_changed_and_shown_without_its_secret() {
    let world = World::start().await;
    assert_eq!(mode(&world.state("admin.sock")), 0o660);
    let channel = world.local().await;
    let added = add(channel.clone(), home()).await.unwrap();
    let first = added.site.unwrap();
    assert_eq!(first.password_hash, "");
    assert_eq!(first.spec.as_ref().unwrap().connections, Some(2));
    let again = add(channel.clone(), home()).await.unwrap_err();
    assert_eq!(again.code(), Code::AlreadyExists);
    let other = pb::SiteSpec {
        name: "other".to_owned(),
        ..home()
    };
    let taken = add(channel.clone(), other).await.unwrap_err();
    assert_eq!(taken.code(), Code::InvalidArgument);
    assert!(taken.message().contains("belongs to the site home"));

    let mut sites = SitesClient::new(channel);
    let change = pb::SiteSpec {
        name: "home".to_owned(),
        connections: Some(5),
        ..pb::SiteSpec::default()
    };
    let changed = sites.set(change).await.unwrap().into_inner().site.unwrap();
    assert!(changed.version > first.version);
    let name = pb::SiteName {
        name: "HOME".to_owned(),
    };
    let shown = sites.show(name).await.unwrap().into_inner();
    let spec = shown.site.unwrap().spec.unwrap();
    assert_eq!((spec.connections, spec.domains.len()), (Some(5), 1));
    let absent = pb::SiteName {
        name: "absent".to_owned(),
    };
    assert_eq!(sites.show(absent).await.unwrap_err().code(), Code::NotFound);
    let audit = std::fs::read_to_string(world.state("audit.log")).unwrap();
    assert!(audit.contains("site home added") && audit.contains("connections 2 → 5"));
    assert!(!audit.contains("12345678"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_wakes_a_site_up_is_shown_once_and_kept_hashed() {
    let world = World::start().await;
    let channel = world.local().await;
    let spec = pb::SiteSpec {
        password: None,
        ..home()
    };
    let added = add(channel.clone(), spec).await.unwrap();
    assert!(!added.has_password && !added.has_wake_secret);
    let mut sites = SitesClient::new(channel);
    let ask = |password: &str| pb::SitePasswordRequest {
        name: "home".to_owned(),
        password: password.to_owned(),
    };
    let made = sites.password(ask("")).await.unwrap().into_inner().password;
    assert_eq!(made.len(), 24);
    let given = sites.password(ask("12345678")).await.unwrap().into_inner();
    assert_eq!(given.password, "");
    let short = sites.password(ask("1234567")).await.unwrap_err();
    assert_eq!(short.code(), Code::InvalidArgument);

    let change = |change: i32| pb::WakeSecretRequest {
        name: "home".to_owned(),
        change,
    };
    let wake = sites.wake_secret(change(0)).await.unwrap().into_inner();
    assert!(wake.url.starts_with("http://127.0.0.1:"), "{}", wake.url);
    assert!(wake.url.ends_with(&format!("/wake/{}", wake.secret)));
    let name = pb::SiteName {
        name: "home".to_owned(),
    };
    let shown = sites.show(name.clone()).await.unwrap().into_inner();
    assert!(shown.has_password && shown.has_wake_secret);
    let record = shown.site.unwrap();
    assert!(record.wake_hash.is_empty() && record.password_hash.is_empty());
    sites.wake_secret(change(1)).await.unwrap();
    let shown = sites.show(name).await.unwrap().into_inner();
    assert!(!shown.has_wake_secret);

    let secrets = [made.as_bytes(), b"12345678", wake.secret.as_bytes()];
    for file in everything_in(&world.directory.path().join("state")) {
        let bytes = std::fs::read(&file).unwrap();
        for secret in secrets {
            let found = bytes.windows(secret.len()).any(|it| it == secret);
            assert!(!found, "{} is in {}", secret.escape_ascii(), file.display());
        }
    }
}

async fn export(channel: Channel) -> String {
    let mut registry = RegistryClient::new(channel);
    let exported = registry.export(pb::ExportRequest {}).await;
    let mut parts = exported.unwrap().into_inner();
    let mut text = Vec::new();
    while let Some(part) = parts.message().await.unwrap() {
        text.extend_from_slice(&part.text);
    }
    String::from_utf8(text).unwrap()
}

async fn apply(channel: Channel, text: &str) -> Result<pb::Applied, Status> {
    let parts = text.as_bytes().chunks(1000).map(|part| pb::RegistryPart {
        text: part.to_vec().into(),
        dry_run: false,
    });
    let parts: Vec<_> = parts.collect();
    let mut registry = RegistryClient::new(channel);
    loop {
        match registry.apply(tokio_stream::iter(parts.clone())).await {
            // A start reads its queue in the background, an empty one too.
            Err(status) if status.message().contains("not all known yet") => {
                tokio::task::yield_now().await;
            }
            applied => return applied.map(tonic::Response::into_inner),
        }
    }
}

fn ca_pem() -> String {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    params.self_signed(&key).unwrap().pem()
}

/// 500 sites that prove themselves by a certificate, their authority and an agent.
fn many() -> String {
    let mut text = format!(
        "[agent.out1]\naddress = [\"192.0.2.10\"]\n[authority.ca]\ncertificate = \"\"\"\n{}\"\"\"\n",
        ca_pem()
    );
    for number in 0..500 {
        text += &format!(
            "[site.s{number}]\ndomain = \"s{number}.example\"\nhost = \"s{number}.dyn.example\"\n\
             proof = \"certificate\"\nauthority = \"ca\"\ncert-name = \"s{number}.example\"\n"
        );
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_makes_a_fresh_controller_the_same() {
    let first = World::start().await;
    let channel = first.local().await;
    add(channel.clone(), home()).await.unwrap();
    let wake = pb::WakeSecretRequest {
        name: "home".to_owned(),
        change: 0,
    };
    let mut sites = SitesClient::new(channel.clone());
    sites.wake_secret(wake).await.unwrap();
    let hold = pb::HoldSiteRequest {
        name: "home".to_owned(),
        until_ms: 4_000_000_000_000,
    };
    sites.hold(hold).await.unwrap();
    let held = "held-before = [\"2026-01-31T08:00:00Z/2026-02-01T08:00:00Z\"]";
    let before = format!("[site.home]\n{held}\n");
    let applied = apply(channel.clone(), &before).await.unwrap();
    assert_eq!(applied.changed, ["site home: held-before"]);
    let applied = apply(channel.clone(), &many()).await.unwrap();
    assert_eq!((applied.added.len(), applied.unchanged), (502, 0));
    assert_eq!(applied.lacks, ["site home"]);
    let exported = export(channel.clone()).await;
    assert!(exported.contains(held), "{exported}");

    let second = World::start().await;
    let applied = apply(second.local().await, &exported).await.unwrap();
    assert_eq!((applied.added.len(), applied.lacks.len()), (503, 0));
    assert_eq!(export(second.local().await).await, exported);
    let again = apply(second.local().await, &exported).await.unwrap();
    assert_eq!((again.added.len(), again.changed.len()), (0, 0));
    assert_eq!(again.unchanged, 503);

    let shorter = "[site.home]\nretry = \"90s\"\n";
    let applied = apply(second.local().await, shorter).await.unwrap();
    assert_eq!(applied.changed, ["site home: retry"]);
    assert_eq!(applied.lacks.len(), 502);
    let changed = export(second.local().await).await;
    let (before, after) = (exported.lines(), changed.lines());
    let differs = before.zip(after).filter(|(before, after)| before != after);
    let differs: Vec<_> = differs.collect();
    assert_eq!(differs, [("retry = \"3m\"", "retry = \"90s\"")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_refused_changes_nothing() {
    let world = World::start().await;
    add(world.local().await, home()).await.unwrap();
    let before = export(world.local().await).await;
    let good = "[site.new]\ndomain = \"new.example\"\nhost = \"h.example:26\"\nproof = \"port\"\n";
    for (bad, says) in [
        (
            "[site.b]\nhost = \"h\"\n",
            "line 5: site b: the site needs a domain",
        ),
        (
            "[site.b]\ndomain = \"new.example\"\nhost = \"h:26\"\nproof = \"port\"\n",
            "line 1: site new: the domain new.example belongs to the site b",
        ),
        (
            "[site.b]\ndomain = \"home.example\"\nhost = \"h:26\"\nproof = \"port\"\n",
            "line 5: site b: the domain home.example belongs to the site home",
        ),
        (
            "[site.home]\nproof = \"certificate\"\nauthority = \"ca\"\ncert-name = \"a.example\"\n",
            "line 5: site home: there is no authority `ca`",
        ),
        (
            "[site.home]\nconnections = 21\n",
            "line 5: site home: --connections",
        ),
        (
            "[agent.out1]\n",
            "line 5: agent out1: it needs its outbound",
        ),
        ("[site.home]\nretry = \"soon\"\n", "line 6: `soon`"),
        ("[[site]]\n", "line 5: "),
        ("\u{0}", "line 5: "),
    ] {
        let refused = apply(world.local().await, &format!("{good}{bad}")).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{bad}");
        let said = refused.message();
        assert!(said.starts_with(says), "{bad}: {said}");
        assert_eq!(export(world.local().await).await, before, "{bad}");
    }
    // What moves from one site to another in one file is in nobody's way.
    let moved = "[site.home]\ndomain = \"other.example\"\n[site.new]\ndomain = \"home.example\"\n\
                 host = \"h.example:26\"\nproof = \"port\"\n";
    let applied = apply(world.local().await, moved).await.unwrap();
    assert_eq!(applied.added, ["site new"]);
    assert_eq!(applied.changed, ["site home: domain"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registry_lies_beside_the_state_as_it_is_exported() {
    let world = World::start().await;
    let path = world.state("registry.toml");
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    let mut patience = 500;
    while !path.exists() {
        tick.tick().await;
        patience -= 1;
        assert!(patience > 0, "no {}", path.display());
    }
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, export(world.local().await).await);
    assert_eq!(mode(&path), 0o600);
}

/// Every regular file below.
fn everything_in(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files.extend(everything_in(&entry.path()));
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_without_mail_is_removed_and_its_domain_is_free() {
    let world = World::start().await;
    let channel = world.local().await;
    add(channel.clone(), home()).await.unwrap();
    let request = pb::RemoveSiteRequest {
        name: "home".to_owned(),
        mail: 0,
    };
    let mut sites = SitesClient::new(channel.clone());
    assert_eq!(
        sites.remove(request).await.unwrap().into_inner().messages,
        0
    );
    let other = pb::SiteSpec {
        name: "other".to_owned(),
        ..home()
    };
    add(channel, other).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_works_for_one_agent_and_one_key_until_it_attaches() {
    let world = World::start().await;
    let (token, key) = (world.token("out1").await, KeyPair::generate().unwrap());
    assert!(world.join(&token, &key).await.is_ok());
    let other = KeyPair::generate().unwrap();
    let refused = world.join(&token, &other).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("another key"));
    assert!(world.join(&token, &key).await.is_ok());
    world.token("out2").await;
    for (name, secret) in [
        ("out2", token.secret.clone()),
        ("out1", vec![0; 32]),
        ("out9", vec![0; 32]),
    ] {
        let wrong = JoinToken {
            name: name.parse().unwrap(),
            secret,
            authority: token.authority.clone(),
        };
        let refused = world.join(&wrong, &key).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_caller_gets_what_is_its_own() {
    let world = World::start().await;
    let list = async |channel| {
        let listed = SitesClient::new(channel)
            .list(pb::ListSitesRequest {})
            .await;
        listed.map(drop).map_err(|status| status.code())
    };
    let attach = async |channel, name| {
        let events = tokio_stream::iter(hello(name));
        let attached = DeliveryClient::new(channel).attach(events).await;
        attached.map_err(|status| status.code())
    };
    let denied = Some(Code::PermissionDenied);
    assert_eq!(list(world.admin().await).await, Ok(()));
    assert_eq!(attach(world.admin().await, "out1").await.err(), denied);
    let unknown = Some(Code::Unauthenticated);
    assert_eq!(list(world.remote(None).await).await.err(), unknown);
    let stranger = world.remote(None).await;
    assert_eq!(attach(stranger, "out1").await.err(), unknown);
    let agent = world.agent("out1").await;
    assert_eq!(list(agent.clone()).await.err(), denied);
    assert_eq!(attach(agent.clone(), "out2").await.err(), denied);

    let mut orders = attach(agent.clone(), "out1").await.unwrap().into_inner();
    let first = orders.message().await.unwrap().unwrap();
    let Some(order::Order::Welcome(welcome)) = first.order else {
        panic!("{first:?}");
    };
    assert_eq!(welcome.lease_ms, 30_000);
    // Its own address, and where the controller listens.
    assert_eq!(welcome.forbidden_networks, ["127.0.0.2/32", "127.0.0.1/32"]);
    let lease = pb::Lease {
        message_id: vec![1; 16].into(),
        site: "home".to_owned(),
        generation: Some(pb::Generation::default()),
    };
    let request = pb::FetchContentRequest { lease: Some(lease) };
    let fetched = DeliveryClient::new(agent).fetch_content(request).await;
    assert_eq!(fetched.err().map(|status| status.code()), denied);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_certificate_gets_no_connection_and_costs_nobody_else() {
    let world = World::start().await;
    let foreign = rcgen::generate_simple_self_signed(vec!["dd.example".to_owned()]).unwrap();
    let identity = Identity::from_pem(foreign.cert.pem(), foreign.signing_key.serialize_pem());
    let status = WatchClient::new(world.local().await)
        .status(pb::StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    let authority = std::fs::read(world.state("admin/authority.pem")).unwrap();
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(authority))
        .domain_name("dd-controller.control.invalid")
        .identity(identity);
    let address = status.listeners.unwrap().control;
    let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
    let channel = endpoint.tls_config(tls).unwrap().connect_lazy();
    let listed = SitesClient::new(channel)
        .list(pb::ListSitesRequest {})
        .await;
    assert!(listed.is_err());
    let admin = world.admin().await;
    assert!(
        SitesClient::new(admin)
            .list(pb::ListSitesRequest {})
            .await
            .is_ok()
    );
}

//! Whole command lines against a controller that answers from a script, over its socket and over mutual TLS.

use std::path::Path;
use std::pin::Pin;

use dd_proto::pb;
use dd_proto::pb::release_outcome::Result as Came;
use dd_proto::pb::sites_server::{Sites, SitesServer};
use ddadm::failure::Exit;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_stream::Stream;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::Routes;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

use super::scripted::{self, ran};

/// Knows the site `home`, refuses, and releases in as many ways as there are names.
struct Scripted;

fn home() -> pb::SiteStatus {
    pb::SiteStatus {
        site: Some(pb::Site {
            version: 1,
            spec: Some(pb::SiteSpec {
                name: "home".into(),
                domains: vec!["home.example".into()],
                ..pb::SiteSpec::default()
            }),
            ..pb::Site::default()
        }),
        state: "idle".into(),
        complete: true,
        ..pb::SiteStatus::default()
    }
}

type Answer<T> = Result<Response<T>, Status>;

fn known(name: &str) -> Answer<pb::SiteStatus> {
    match name {
        "home" => Ok(Response::new(home())),
        name => Err(Status::not_found(format!(
            "no site `{name}`\n\x1b[2J; see `ddadm site list`"
        ))),
    }
}

#[tonic::async_trait]
impl Sites for Scripted {
    type ListStream = Pin<Box<dyn Stream<Item = Result<pb::SiteStatus, Status>> + Send>>;

    /// Echoes the record, so that a test sees what was sent.
    async fn add(&self, request: Request<pb::AddSiteRequest>) -> Answer<pb::SiteStatus> {
        let mut spec = request.into_inner().spec.unwrap_or_default();
        match spec.password.take().as_deref() {
            None | Some("correct horse") => {}
            Some(_) => return Err(Status::invalid_argument("another password")),
        }
        if spec.name == "home" {
            return Err(Status::already_exists(
                "there is a site `home`: use `ddadm site set`",
            ));
        }
        let mut status = home();
        status.site = Some(pb::Site {
            version: 2,
            spec: Some(spec),
            ..pb::Site::default()
        });
        Ok(Response::new(status))
    }

    async fn set(&self, request: Request<pb::SiteSpec>) -> Answer<pb::SiteStatus> {
        known(&request.into_inner().name)
    }

    async fn show(&self, request: Request<pb::SiteName>) -> Answer<pb::SiteStatus> {
        known(&request.into_inner().name)
    }

    async fn list(&self, _: Request<pb::ListSitesRequest>) -> Answer<Self::ListStream> {
        // Breaks off in the middle: nothing may be printed of it.
        let items = vec![
            Ok(home()),
            Err(Status::unavailable("not all known yet, try again")),
        ];
        Ok(Response::new(Box::pin(tokio_stream::iter(items))))
    }

    async fn remove(&self, _: Request<pb::RemoveSiteRequest>) -> Answer<pb::RemoveSiteResponse> {
        Err(Status::failed_precondition(
            "`home` has 3 messages: use --fail or --discard",
        ))
    }

    async fn hold(&self, request: Request<pb::HoldSiteRequest>) -> Answer<pb::SiteStatus> {
        known(&request.into_inner().name)
    }

    async fn resume(&self, request: Request<pb::SiteName>) -> Answer<pb::SiteStatus> {
        known(&request.into_inner().name)
    }

    async fn password(
        &self,
        request: Request<pb::SitePasswordRequest>,
    ) -> Answer<pb::SitePassword> {
        let request = request.into_inner();
        let password = match request.password.as_str() {
            "" => "made-up-one".to_owned(),
            _ => String::new(),
        };
        let name = request.name;
        Ok(Response::new(pb::SitePassword { name, password }))
    }

    async fn wake_secret(
        &self,
        _: Request<pb::WakeSecretRequest>,
    ) -> Answer<pb::WakeSecretResponse> {
        Err(Status::failed_precondition("nothing serves wake-up URLs"))
    }

    async fn release(&self, request: Request<pb::ReleaseRequest>) -> Answer<pb::ReleaseOutcome> {
        let request = request.into_inner();
        let (result, detail) = match request.name.as_str() {
            _ if request.wait_ms == 0 => (Came::Unspecified, ""),
            "home" => (Came::Done, ""),
            "away" => (Came::NotReached, "home.dyndns.example: connection refused"),
            "impostor" => (Came::NotProved, "the certificate is another's"),
            "held" => (Came::Held, "root"),
            name => return Err(Status::not_found(format!("no site `{name}`"))),
        };
        Ok(Response::new(pb::ReleaseOutcome {
            waiting: 3,
            result: result.into(),
            relayed: if result == Came::Done { 3 } else { 0 },
            detail: detail.into(),
            ..pb::ReleaseOutcome::default()
        }))
    }

    async fn check(&self, request: Request<pb::CheckSiteRequest>) -> Answer<pb::SiteChecks> {
        let proved = request.into_inner().name == "home";
        let agent = pb::AgentCheck {
            agent: "out1".into(),
            proved,
            sentence: "what was seen".into(),
            ..pb::AgentCheck::default()
        };
        Ok(Response::new(pb::SiteChecks {
            agents: vec![agent],
        }))
    }

    async fn move_domain(
        &self,
        request: Request<pb::MoveDomainRequest>,
    ) -> Answer<pb::DomainMoved> {
        let asked = request.into_inner();
        Ok(Response::new(pb::DomainMoved {
            domain: asked.domain,
            from: "home".into(),
            to: asked.to,
            waiting: 0,
        }))
    }
}

fn on_a_socket() -> (TempDir, String) {
    scripted::on_a_socket(Routes::new(SitesServer::new(Scripted)))
}

#[tokio::test]
async fn a_command_ends_with_the_code_of_the_contract() {
    let (_directory, socket) = on_a_socket();
    let new = "site add new --domain a.example --proof static-ip";
    for (line, exit, stdout, stderr) in [
        ("site show home", Exit::Done, "home (version 1)", ""),
        (
            "site show nobody",
            Exit::NoSuchThing,
            "",
            "no site `nobody`",
        ),
        ("site show a/b", Exit::Usage, "", "is no name"),
        ("site frobnicate", Exit::Usage, "", "frobnicate"),
        ("site set home", Exit::Usage, "", "nothing to change"),
        (
            "site remove home",
            Exit::Failed,
            "",
            "use --fail or --discard",
        ),
        ("site list", Exit::Failed, "", "not all known yet"),
        (
            "site add home --domain a.example --host 192.0.2.1 --proof static-ip",
            Exit::Failed,
            "",
            "use `ddadm site set`",
        ),
        (
            &format!("{new} --host 192.0.2.1"),
            Exit::Done,
            "static-ip 192.0.2.1",
            "",
        ),
        ("site add new --host h.example", Exit::Usage, "", "--domain"),
        (
            "site hold home --until 2026-12-24T18:00",
            Exit::Done,
            "home (version 1)",
            "",
        ),
        ("site password home", Exit::Done, "made-up-one\n", ""),
        (
            "site password home --password-stdin",
            Exit::Usage,
            "",
            "8 or more",
        ),
        (
            "site wake-secret home",
            Exit::Failed,
            "",
            "nothing serves wake-up URLs",
        ),
        ("etrn home", Exit::Done, "home: released, 3 waiting", ""),
        ("etrn home --wait", Exit::Done, "home: 3 relayed", ""),
        (
            "etrn away --wait 5s",
            Exit::SiteNotReached,
            "away: not reached: home.dyndns",
            "",
        ),
        (
            "etrn impostor --wait",
            Exit::SiteNotReached,
            "impostor: wrong host: the cert",
            "",
        ),
        ("etrn held --wait", Exit::Failed, "held: held by root", ""),
        ("status", Exit::Failed, "", "does not know the command"),
    ] {
        let ran = ran(line, "", &["--socket", &socket]).await;
        assert_eq!(ran.exit, exit, "{line}: {}", ran.stderr);
        assert!(ran.stdout.contains(stdout), "{line}: {}", ran.stdout);
        assert!(ran.stderr.contains(stderr), "{line}: {}", ran.stderr);
        let lines = ran.stderr.lines().count();
        assert_eq!(
            lines,
            usize::from(!stderr.is_empty()),
            "{line}: {}",
            ran.stderr
        );
        assert!(
            !format!("{}{}", ran.stdout, ran.stderr).contains('\x1b'),
            "{line}"
        );
    }
}

#[tokio::test]
async fn with_json_standard_output_is_one_value_or_nothing() {
    let (_directory, socket) = on_a_socket();
    let way = ["--socket", &socket, "--output", "json"];
    for line in ["site show home", "etrn home --wait", "etrn away --wait"] {
        let ran = ran(line, "", &way).await;
        let value: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        assert!(value.is_object(), "{line}: {value}");
    }
    for line in [
        "site show nobody",
        "site list",
        "site remove home",
        "site frobnicate",
    ] {
        assert_eq!(ran(line, "", &way).await.stdout, "", "{line}");
    }
    let away = ran("etrn away --wait", "", &way).await;
    assert!(away.stderr.contains("not reached"), "{}", away.stderr);
}

#[tokio::test]
async fn a_password_comes_from_standard_input() {
    let (_directory, socket) = on_a_socket();
    let line =
        "site add new --domain a.example --host 192.0.2.1 --proof static-ip --password-stdin";
    for (stdin, exit) in [
        ("correct horse\n", Exit::Done),
        ("battery staple\n", Exit::Failed),
        ("short\n", Exit::Usage),
    ] {
        let ran = ran(line, stdin, &["--socket", &socket]).await;
        assert_eq!(ran.exit, exit, "{stdin}");
    }
}

#[tokio::test]
async fn a_controller_that_is_not_there_is_not_reachable() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("admin.sock");
    let ran = ran("site list", "", &["--socket", socket.to_str().unwrap()]).await;
    assert_eq!(ran.exit, Exit::Unreachable);
    let says = ran.stderr.contains("No such file")
        && ran.stderr.contains("`ddadm --socket STATE_DIR/admin.sock`");
    assert!(says, "{}", ran.stderr);
    assert_eq!(ran.stderr.lines().count(), 1);
}

#[tokio::test]
async fn a_socket_s_path_that_is_too_long_is_named_with_its_length() {
    let socket = format!("/{}", "s".repeat(107));
    let ran = ran("site list", "", &["--socket", &socket]).await;
    assert_eq!(ran.exit, Exit::Unreachable);
    let says = "the socket's path is 108 bytes long, at most 107; set `[control] socket`";
    assert!(ran.stderr.contains(says), "{}", ran.stderr);
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate and its key, PEM.
fn issued(authority: &Authority, name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn write_identity(directory: &Path, authority: &Authority, trusted: &str) {
    let (certificate, key) = issued(authority, "admin.control.invalid");
    std::fs::write(directory.join("admin.pem"), certificate).unwrap();
    std::fs::write(directory.join("admin.key"), key).unwrap();
    std::fs::write(directory.join("authority.pem"), trusted).unwrap();
}

/// A scripted controller with mutual TLS; answers its URL.
async fn elsewhere(authority: &Authority) -> String {
    let (certificate, key) = issued(authority, "dd-controller.control.invalid");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(certificate, key))
        .client_ca_root(Certificate::from_pem(authority.pem()));
    tokio::spawn(
        Server::builder()
            .tls_config(tls)
            .unwrap()
            .add_service(SitesServer::new(Scripted))
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    url
}

#[tokio::test]
async fn elsewhere_both_ends_prove_who_they_are() {
    let (ours, strange) = (authority(), authority());
    let url = elsewhere(&ours).await;
    let directory = tempfile::tempdir().unwrap();
    let way = [
        "--controller",
        &url,
        "--identity",
        directory.path().to_str().unwrap(),
    ];

    let without = ran("site show home", "", &way).await;
    assert_eq!(without.exit, Exit::Failed, "{}", without.stderr);
    assert!(
        without.stderr.contains("admin.pem cannot be read"),
        "{}",
        without.stderr
    );
    for (by, trusted, exit) in [
        (&ours, ours.pem(), Exit::Done),
        (&ours, strange.pem(), Exit::Unreachable),
        (&strange, ours.pem(), Exit::Unreachable),
    ] {
        write_identity(directory.path(), by, &trusted);
        let ran = ran("site show home", "", &way).await;
        assert_eq!(ran.exit, exit, "{}", ran.stderr);
    }
    for half in [&way[..2], &way[2..]] {
        assert_eq!(ran("site show home", "", half).await.exit, Exit::Usage);
    }
}

#[tokio::test]
async fn every_noun_has_help_with_examples() {
    for line in [
        "--help",
        "site --help",
        "etrn --help",
        "queue --help",
        "agent --help",
        "ca --help",
        "status --help",
    ] {
        let ran = ran(line, "", &[]).await;
        assert_eq!(ran.exit, Exit::Done, "{line}");
        assert!(ran.stdout.contains("Example"), "{line}: {}", ran.stdout);
        assert_eq!(ran.stderr, "");
    }
    let nothing = ran("site", "", &[]).await;
    assert_eq!((nothing.exit, nothing.stdout.as_str()), (Exit::Usage, ""));
}

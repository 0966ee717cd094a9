//! What a check of a site says, step by step.

use std::net::SocketAddr;
use std::sync::Arc;

use dd_agent::check::all_hosts;
use dd_agent::plan::Plan;
use dd_agent::session::AskTls;
use dd_proto::pb;
use dd_proto::pb::check_step::Result as Step;
use dd_proto::site::{Family, Host, HostName, Proof, TlsBegins};
use hickory_resolver::proto::op::ResponseCode;
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use super::lanes::{host_at, plan};
use super::loopback::{Bench, bench, bench_asking};
use super::name_service::{A, AAAA, NameService, Says, says};
use super::support::{Authority, NAME, certificate_proof};

const HOME: &str = "home.dyndns.example";
const NO_SERVICE: &str = "554 5.3.2 no service here\r\n";

async fn check(bench: &Bench, plan: &Plan) -> pb::HostCheck {
    let mut hosts = all_hosts(&bench.agent, plan, AskTls::WhereOffered).await;
    assert_eq!(hosts.len(), 1, "{hosts:?}");
    hosts.remove(0)
}

fn steps(check: &pb::HostCheck) -> Vec<(&str, Step)> {
    let steps = check.steps.iter();
    steps.map(|it| (it.name.as_str(), it.result())).collect()
}

/// Says these lines to whoever connects, one for each that it hears, and hangs up behind the last.
async fn says_lines(stream: impl AsyncRead + AsyncWrite + Unpin, lines: &[&str]) {
    let mut stream = BufReader::new(stream);
    for (said, line) in lines.iter().enumerate() {
        let mut heard = String::new();
        if said > 0 && stream.read_line(&mut heard).await.unwrap() == 0 {
            return;
        }
        stream.write_all(line.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
    }
}

async fn in_tls(listener: TcpListener, authority: &Authority, lines: &[&str]) {
    let (certificate, key) = authority.issue(NAME);
    let config = rustls::ServerConfig::builder_with_provider(dd_pki::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        );
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config.unwrap()));
    let (stream, _) = listener.accept().await.unwrap();
    says_lines(acceptor.accept(stream).await.unwrap(), lines).await;
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[tokio::test]
async fn a_proof_that_stood_is_good_whatever_the_site_says_behind_it() {
    use Step::{Bad, Good};
    let authority = Authority::new();
    for (lines, last) in [
        (&[NO_SERVICE][..], "banner"),
        (&["220 home\r\n", NO_SERVICE], "ehlo"),
        // It hangs up where it should answer.
        (&["220 home\r\n", ""], "ehlo"),
    ] {
        let (listener, address) = listener().await;
        let anchors = vec![authority.der.clone()];
        let mut plan = plan(vec![host_at(address)], certificate_proof(), anchors);
        plan.way.tls = TlsBegins::OnConnect;
        let bench = bench(4);
        let looking = check(&bench, &plan);
        let (check, ()) = tokio::join!(looking, in_tls(listener, &authority, lines));
        let mut expected = vec![
            ("resolve", Good),
            ("connect", Good),
            ("starttls", Good),
            ("chain", Good),
            ("name", Good),
            ("expiry", Good),
            ("banner", Good),
            ("proof", Good),
            (last, Bad),
        ];
        if last == "banner" {
            expected.retain(|it| *it != ("banner", Good));
        }
        assert_eq!(steps(&check), expected, "{check:?}");
        assert!(!check.proved, "no mail gets there");
    }
    // The same where it is the address that proves.
    let (listener, address) = listener().await;
    let proof = Proof::StaticIp {
        addresses: [address.ip()].into(),
        certificate: None,
    };
    let plan = plan(vec![host_at(address)], proof, Vec::new());
    let bench = bench(4);
    let greets = async { says_lines(listener.accept().await.unwrap().0, &[NO_SERVICE]).await };
    let (check, ()) = tokio::join!(check(&bench, &plan), greets);
    let expected = [
        ("resolve", Good),
        ("connect", Good),
        ("proof", Good),
        ("banner", Bad),
    ];
    assert_eq!(steps(&check), expected, "{check:?}");
}

#[tokio::test]
async fn a_certificate_that_is_not_there_yet_is_asked_for_before_a_probe_is_taken() {
    let bench = bench(4);
    let taken: Vec<_> = std::iter::from_fn(|| bench.agent.probes.take_now()).collect();
    let (_listener, address) = listener().await;
    let mut plan = plan(vec![host_at(address)], Proof::Port, Vec::new());
    plan.way.client_certificate = Some("member-ca".parse().unwrap());
    let check = check(&bench, &plan).await;
    assert!(check.sentence.contains("certificate"), "{check:?}");
    drop(taken);
}

#[tokio::test]
async fn a_family_that_could_not_be_looked_up_is_named_beside_the_addresses_of_the_other() {
    let dns = NameService::start().await;
    dns.set(HOME, A, says(&["127.0.0.1"]));
    dns.set(HOME, AAAA, Says::Code(ResponseCode::ServFail));
    let (listener, address) = listener().await;
    let host = Host {
        name: HostName::Dns(HOME.parse().unwrap()),
        port: address.port().try_into().unwrap(),
    };
    let plan = plan(vec![host], Proof::Port, Vec::new());
    let bench = bench_asking(dns.address, 4);
    let greets = async { says_lines(listener.accept().await.unwrap().0, &[NO_SERVICE]).await };
    let (check, ()) = tokio::join!(check(&bench, &plan), greets);
    let resolve = &check.steps[0];
    assert_eq!(resolve.result(), Step::Good);
    let says = "127.0.0.1; the other family of addresses cannot be looked up: the name server ";
    assert!(resolve.detail.starts_with(says), "{check:?}");
    assert!(resolve.detail.contains("SERVFAIL"), "{check:?}");
}

#[tokio::test]
async fn that_a_host_has_no_address_of_the_family_is_said_only_where_the_name_service_has_said_so()
{
    for (answer, says_what) in [
        (Says::Nothing, "has no IPv6 address, and the site is set"),
        (
            Says::Code(ResponseCode::ServFail),
            "the IPv6 addresses of home.dyndns.example cannot be looked up: ",
        ),
        (
            Says::Code(ResponseCode::NXDomain),
            "home.dyndns.example does not exist",
        ),
    ] {
        let dns = NameService::start().await;
        dns.set(HOME, A, says(&["127.0.0.1"]));
        dns.set(HOME, AAAA, answer);
        let host = Host {
            name: HostName::Dns(HOME.parse().unwrap()),
            port: 25.try_into().unwrap(),
        };
        let mut plan = plan(vec![host], Proof::Port, Vec::new());
        plan.way.family = Family::V6;
        let check = check(&bench_asking(dns.address, 4), &plan).await;
        assert_eq!(steps(&check), [("resolve", Step::Bad)]);
        assert!(check.sentence.contains(says_what), "{check:?}");
    }
}

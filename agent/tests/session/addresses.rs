//! What is tried is an address: whoever answers at the first one and is not the site costs the second one nothing.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use dd_agent::agent::{Agent, now};
use dd_agent::attempt;
use dd_agent::live::Live;
use dd_agent::plan::Plan;
use dd_agent::resolve::Freshness;
use dd_agent::session::AskTls;
use dd_agent::tried::Missed;
use dd_proto::report::Outcome;
use dd_proto::site::{Family, Host, HostName, Proof};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::lanes;
use super::loopback::{Bench, Site, bench_asking, serve};
use super::name_service::{A, AAAA, NameService, Says};
use super::support::{Authority, HELO, NAME, certificate_proof};

const HOME: &str = "home.dyndns.example";

/// Who is at the first address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    WithoutTls,
    OtherCertificate,
    Greets(&'static str),
    Silent,
    HangsUp,
}

const FIRSTS: [First; 6] = [
    First::WithoutTls,
    First::OtherCertificate,
    First::Greets("554 5.7.1 no service here\r\n"),
    First::Greets("421 4.3.2 too busy\r\n"),
    First::Silent,
    First::HangsUp,
];

/// Two loopback addresses with one free port.
async fn two() -> [TcpListener; 2] {
    loop {
        let first = TcpListener::bind("127.81.0.1:0").await.unwrap();
        let port = first.local_addr().unwrap().port();
        if let Ok(second) = TcpListener::bind(("127.81.0.2", port)).await {
            return [first, second];
        }
    }
}

/// Everything that was sent to whoever is there, over and over.
async fn stand(listener: TcpListener, first: First, stranger: Arc<Authority>) -> Vec<String> {
    match first {
        First::WithoutTls => serve(listener, Site::Clear).await,
        First::OtherCertificate => {
            let (certificate, key) = stranger.issue("neighbour.example");
            serve(listener, Site::Tls(certificate, key)).await
        }
        First::Greets(_) | First::Silent | First::HangsUp => {
            let (mut stream, _) = listener.accept().await.unwrap();
            if let First::Greets(greeting) = first {
                stream.write_all(greeting.as_bytes()).await.unwrap();
            }
            let mut heard = String::new();
            if first != First::HangsUp {
                stream.read_to_string(&mut heard).await.unwrap();
            }
            heard.lines().map(str::to_owned).collect()
        }
    }
}

struct Sites {
    dns: NameService,
    bench: Bench,
    authority: Authority,
    certificate: rustls_pki_types::CertificateDer<'static>,
    port: u16,
    addresses: [IpAddr; 2],
    strangers: JoinHandle<Vec<String>>,
    home: JoinHandle<Vec<String>>,
}

/// A stranger at the first address and the site at the second; both in the DNS.
async fn sites(first: First) -> Sites {
    let [stranger, home] = two().await;
    let addresses = [&stranger, &home].map(|it| it.local_addr().unwrap().ip());
    let port = home.local_addr().unwrap().port();
    let dns = NameService::start().await;
    dns.set(HOME, A, Says::Addresses(addresses.to_vec(), 60));
    dns.set(HOME, AAAA, Says::Nothing);
    let authority = Authority::new();
    let (certificate, key) = authority.issue(NAME);
    let other = Arc::new(Authority::new());
    Sites {
        bench: bench_asking(dns.address, 4),
        strangers: tokio::spawn(stand(stranger, first, other)),
        home: tokio::spawn(serve(home, Site::Tls(certificate.clone(), key))),
        dns,
        authority,
        certificate,
        port,
        addresses,
    }
}

impl Sites {
    fn plan(&self, proof: Proof) -> Plan {
        self.plan_with(&[HOME], proof)
    }

    fn plan_with(&self, hosts: &[&str], proof: Proof) -> Plan {
        let host = |name: &&str| Host {
            name: HostName::Dns(name.parse().unwrap()),
            port: self.port.try_into().unwrap(),
        };
        let hosts = hosts.iter().map(host).collect();
        lanes::plan(hosts, proof, vec![self.authority.der.clone()])
    }

    fn fingerprint(&self) -> Proof {
        let digest = dd_proto::fingerprint::Fingerprint(Sha256::digest(&self.certificate).into());
        Proof::Fingerprint {
            listed: [digest].into(),
        }
    }

    fn listed(&self, addresses: &[IpAddr]) -> Proof {
        Proof::StaticIp {
            addresses: addresses.iter().copied().collect(),
            certificate: None,
        }
    }

    async fn open(&self, plan: &Plan, freshness: Freshness) -> Result<Live, Missed> {
        open(&self.bench.agent, plan, freshness).await
    }
}

async fn open(agent: &Agent, plan: &Plan, freshness: Freshness) -> Result<Live, Missed> {
    Box::pin(attempt::open(agent, plan, freshness, AskTls::WhereOffered)).await
}

fn has_no_envelope(heard: &[String]) -> bool {
    let of_the_session = ["EHLO", "HELO", "STARTTLS", "QUIT"];
    heard
        .iter()
        .all(|line| of_the_session.iter().any(|word| line.starts_with(word)))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_address_is_tried_whoever_is_at_the_first() {
    for first in FIRSTS {
        for kind in ["certificate", "fingerprint", "static-ip"] {
            let sites = sites(first).await;
            let turns_away = !matches!(first, First::WithoutTls | First::OtherCertificate);
            let plan = sites.plan(match kind {
                "certificate" => certificate_proof(),
                "fingerprint" => sites.fingerprint(),
                // Who is at a listed address is the site; there it can only turn us away or be silent.
                _ if turns_away => sites.listed(&sites.addresses),
                _ => sites.listed(&sites.addresses[1..]),
            });
            let live = sites.open(&plan, Freshness::Cached).await;
            let live = live.unwrap_or_else(|missed| panic!("{first:?} {kind}: {missed:?}"));
            assert_eq!(live.session.seen().peer.ip(), sites.addresses[1]);
            live.quit().await;
            if kind == "static-ip" && !turns_away {
                // An address that is not listed cannot be proved: it is not even connected to.
                assert!(!sites.strangers.is_finished());
                continue;
            }
            let heard = sites.strangers.await.unwrap();
            assert!(has_no_envelope(&heard), "{first:?} {kind}: {heard:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_no_good_comes_last_the_next_time() {
    let sites = sites(First::Silent).await;
    let plan = sites.plan(certificate_proof());
    sites
        .open(&plan, Freshness::Cached)
        .await
        .unwrap()
        .quit()
        .await;
    sites.home.await.unwrap();
    // The home has gone; nobody listens there any more. It is asked first all the same: the other one was silent.
    let missed = open(&sites.bench.agent, &plan, Freshness::Fresh)
        .await
        .unwrap_err();
    let home = SocketAddr::new(sites.addresses[1], sites.port).to_string();
    assert!(missed.detail.starts_with(&home), "{}", missed.detail);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_host_is_put_behind_the_site_s_others() {
    let sites = sites(First::Silent).await;
    let (silent, home) = ("silent.example", "other.example");
    for (name, address) in [(silent, sites.addresses[0]), (home, sites.addresses[1])] {
        sites.dns.set(name, A, Says::Addresses(vec![address], 60));
        sites.dns.set(name, AAAA, Says::Nothing);
    }
    let plan = sites.plan_with(&[silent, home], certificate_proof());
    let live = sites.open(&plan, Freshness::Cached).await.unwrap();
    assert_eq!(live.session.seen().peer.ip(), sites.addresses[1]);
    let order = sites.bench.agent.visits.order_hosts(&plan.hosts, now());
    assert_eq!(order[0], plan.hosts[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_refusals_are_told_and_the_most_telling_decides() {
    let mut sites = sites(First::WithoutTls).await;
    sites.home.abort();
    let _ = (&mut sites.home).await;
    let plan = sites.plan(certificate_proof());
    let missed = sites.open(&plan, Freshness::Cached).await.unwrap_err();
    assert_eq!(missed.outcome, Outcome::WrongHost);
    assert_eq!(missed.observed.refusal.unwrap().reason, "NoStartTls");
    for address in sites.addresses {
        let peer = SocketAddr::new(address, sites.port).to_string();
        assert!(missed.detail.contains(&peer), "{}", missed.detail);
    }
}

/// The address of a name has changed, and the agent has yesterday's in its cache.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_from_the_cache_that_is_no_good_is_asked_for_anew() {
    for first in FIRSTS {
        let sites = sites(first).await;
        let plan = sites.plan(certificate_proof());
        let [old, new] = sites.addresses.map(|it| Says::Addresses(vec![it], 3600));
        sites.dns.set(HOME, A, old);
        let name = &plan.hosts[0].name;
        let resolver = &sites.bench.agent.resolver;
        resolver
            .addresses(name, Family::Any, Freshness::Cached)
            .await
            .unwrap();
        sites.dns.set(HOME, A, new);
        let live = sites.open(&plan, Freshness::Cached).await;
        let live = live.unwrap_or_else(|missed| panic!("{first:?}: {missed:?}"));
        assert_eq!(
            live.session.seen().peer.ip(),
            sites.addresses[1],
            "{first:?}"
        );
        live.quit().await;
        assert!(has_no_envelope(&sites.strangers.await.unwrap()));
        // And that is what the next one goes to.
        let known = resolver
            .addresses(name, Family::Any, Freshness::Cached)
            .await
            .unwrap();
        assert_eq!(known.addresses, [sites.addresses[1]]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_family_that_answers_late_is_tried_when_the_other_was_not_the_site() {
    let sites = sites(First::WithoutTls).await;
    sites.dns.set(HOME, A, Says::Held(vec![sites.addresses[0]]));
    // The site's own address stands in the answer that comes late.
    sites.dns.set(HOME, A, Says::Held(vec![sites.addresses[1]]));
    sites.dns.set(
        HOME,
        AAAA,
        Says::Addresses(vec!["::1".parse().unwrap()], 60),
    );
    let mut plan = sites.plan(certificate_proof());
    plan.allow_targets.push("::1/128".parse().unwrap());
    let opening = sites.open(&plan, Freshness::Cached);
    let releasing = async {
        while sites.dns.asked().len() < 3 {
            tokio::task::yield_now().await;
        }
        sites.dns.release();
    };
    let (live, ()) = tokio::join!(opening, releasing);
    assert_eq!(live.unwrap().session.seen().peer.ip(), sites.addresses[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_asked_for_its_own_name_where_no_other_is_defined() {
    for named in [true, false] {
        let [_, listener] = two().await;
        let port = listener.local_addr().unwrap().port();
        let dns = NameService::start().await;
        dns.set(
            HOME,
            A,
            Says::Addresses(vec![listener.local_addr().unwrap().ip()], 60),
        );
        dns.set(HOME, AAAA, Says::Nothing);
        let bench = bench_asking(dns.address, 4);
        let authority = Authority::new();
        let (certificate, key) = authority.issue(HOME);
        let asked_for = tokio::spawn(name_asked_for(listener, certificate.clone(), key));
        let digest = dd_proto::fingerprint::Fingerprint(Sha256::digest(&certificate).into());
        let host = Host {
            name: match named {
                true => HostName::Dns(HOME.parse().unwrap()),
                false => HostName::Address("127.81.0.2".parse().unwrap()),
            },
            port: port.try_into().unwrap(),
        };
        let proof = Proof::Fingerprint {
            listed: [digest].into(),
        };
        let plan = lanes::plan(vec![host], proof, Vec::new());
        let live = open(&bench.agent, &plan, Freshness::Cached).await;
        assert_eq!(live.is_ok(), named, "{live:?}");
        assert_eq!(asked_for.await.unwrap(), named.then(|| HOME.to_owned()));
        if let Err(missed) = live {
            assert_eq!(missed.outcome, Outcome::WrongHost, "{missed:?}");
        }
    }
}

/// A server with one certificate, which it shows to those only who ask for its name; returns the name it was asked for.
async fn name_asked_for(
    listener: TcpListener,
    certificate: rustls_pki_types::CertificateDer<'static>,
    key: rcgen::KeyPair,
) -> Option<String> {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut line = [0; 64];
    stream.write_all(b"220 home\r\n").await.unwrap();
    let ehlo = format!("EHLO {HELO}\r\n");
    stream.read_exact(&mut line[..ehlo.len()]).await.unwrap();
    stream
        .write_all(b"250-home\r\n250 STARTTLS\r\n")
        .await
        .unwrap();
    stream
        .read_exact(&mut line[.."STARTTLS\r\n".len()])
        .await
        .unwrap();
    stream.write_all(b"220 go\r\n").await.unwrap();
    let start = tokio_rustls::LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream);
    let start = start.await.unwrap();
    let name = start.client_hello().server_name().map(str::to_owned);
    let (certificate, key) = match name.as_deref() {
        Some(HOME) => (certificate, key),
        _ => Authority::new().issue("default.example"),
    };
    let key = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    if let Ok(mut stream) = start.into_stream(Arc::new(config)).await
        && stream.read(&mut line).await.is_ok_and(|bytes| bytes > 0)
    {
        let _ = stream.write_all(b"250 home\r\n").await;
    }
    name
}

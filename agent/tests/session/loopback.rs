//! The whole way from an assignment to a report, over sockets and real TLS, against a scripted site.

use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use dd_agent::agent::{Agent, now};
use dd_agent::deliver::kind_for;
use dd_agent::journal::Journal;
use dd_agent::lease::{Boottime, Leases};
use dd_agent::places::Places;
use dd_agent::plan::{Assignment, Content};
use dd_agent::resolve::{Freshness, Resolver};
use dd_agent::visits::{Patience, Visits};
use dd_proto::id::{DeliveryId, Generation, Lease, MessageId, SiteVersion};
use dd_proto::pb;
use dd_proto::pb::agent_event::Event;
use dd_proto::targets::TargetRules;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;

use super::lanes::{host_at, plan};
use super::support::{Authority, HELO, NAME, certificate_proof, envelope};

/// What the scripted site offers.
pub(crate) enum Site {
    Tls(CertificateDer<'static>, rcgen::KeyPair),
    Clear,
}

/// Serves one connection; returns every line the agent wrote behind EHLO and STARTTLS.
pub(crate) async fn serve(listener: TcpListener, site: Site) -> Vec<String> {
    let (mut stream, _) = listener.accept().await.unwrap();
    stream.write_all(b"220 home\r\n").await.unwrap();
    let mut line = String::new();
    BufReader::with_capacity(1, &mut stream)
        .read_line(&mut line)
        .await
        .unwrap();
    assert_eq!(line, format!("EHLO {HELO}\r\n"));
    let Site::Tls(certificate, key) = site else {
        stream.write_all(b"250-home\r\n250 SIZE\r\n").await.unwrap();
        return converse(stream).await;
    };
    stream
        .write_all(b"250-home\r\n250 STARTTLS\r\n")
        .await
        .unwrap();
    line.clear();
    BufReader::with_capacity(1, &mut stream)
        .read_line(&mut line)
        .await
        .unwrap();
    assert_eq!(line, "STARTTLS\r\n");
    stream.write_all(b"220 go\r\n").await.unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor: TlsAcceptor = Arc::new(config).into();
    match acceptor.accept(stream).await {
        Ok(stream) => converse(stream).await,
        Err(_) => Vec::new(),
    }
}

async fn converse(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
) -> Vec<String> {
    let mut stream = BufReader::new(stream);
    let (mut lines, mut in_data) = (Vec::new(), false);
    loop {
        let mut line = String::new();
        match stream.read_line(&mut line).await {
            Ok(n) if n > 0 => {}
            _ => return lines,
        }
        let line = line.trim_end().to_owned();
        let answer = match line.as_str() {
            "DATA" => {
                in_data = true;
                "354 go\r\n"
            }
            "." => {
                in_data = false;
                "250 2.0.0 taken\r\n"
            }
            _ if in_data => "",
            "QUIT" => "221 bye\r\n",
            _ => "250-home\r\n250 PIPELINING\r\n",
        };
        lines.push(line);
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
    }
}

pub(crate) struct Bench {
    pub(crate) agent: Arc<Agent>,
    pub(crate) events: mpsc::UnboundedReceiver<Event>,
    _state: tempfile::TempDir,
}

/// An agent with so many slots, as far as sessions need one.
pub(crate) fn bench(slots: u32) -> Bench {
    bench_asking("127.0.0.1:9".parse().unwrap(), slots)
}

/// An agent that asks this name server, and is in a hurry.
pub(crate) fn bench_asking(name_server: SocketAddr, slots: u32) -> Bench {
    let state = tempfile::tempdir().unwrap();
    let (events, told) = mpsc::unbounded_channel();
    let (work, mut started) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(work) = started.recv().await {
            tokio::spawn(work);
        }
    });
    let agent = Agent {
        sources: vec!["127.0.0.1".parse().unwrap()],
        helo: HELO.to_owned(),
        resolver: Resolver::new(&[name_server], Duration::from_secs(60)).unwrap(),
        visits: Visits::with(Patience {
            while_others_are_left: Duration::from_secs(1),
            at_least: Duration::from_millis(500),
            ..Patience::default()
        }),
        tls: dd_agent::tls::Tls::default(),
        certificates: Default::default(),
        rules: RwLock::new(Arc::new(TargetRules::default())),
        slots: Places::slots(slots),
        probes: Places::probes(64),
        leases: Leases::default(),
        journal: Arc::new(Journal::open(state.path()).unwrap()),
        trouble: Default::default(),
        untold: Default::default(),
        controller: watch::Sender::new(None),
        events,
        work,
        sessions: AtomicU64::new(1),
        service: Default::default(),
    };
    let now = Boottime::now();
    agent.leases.welcome(&[], Duration::from_secs(30), now, now);
    Bench {
        agent: Arc::new(agent),
        events: told,
        _state: state,
    }
}

pub(crate) const CONTENT: &[u8] = b"Subject: x\r\n\r\nhello\r\n";

struct Attempted {
    proved: Option<pb::Proved>,
    report: pb::Report,
    /// What the site got to read.
    lines: Vec<String>,
}

/// One message to the scripted site.
async fn attempt(authority: &Authority, site: Site) -> Attempted {
    let mut bench = bench(4);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(serve(listener, site));
    let anchors = vec![authority.der.clone()];
    let plan = plan(vec![host_at(address)], certificate_proof(), anchors);
    let lease = Lease {
        delivery: DeliveryId {
            message: MessageId::from_bytes([1; 16]),
            site: "home".parse().unwrap(),
        },
        generation: Generation {
            start: 1,
            counter: 1,
        },
    };
    bench.agent.leases.take(lease.clone(), Boottime::now());
    let lane = kind_for(&plan)
        .unwrap()
        .lane(Arc::clone(&bench.agent), Arc::new(plan));
    let received: Instant = now();
    lane.assign(Assignment {
        lease,
        version: SiteVersion(1),
        envelope: Arc::new(envelope("a@b.example -> c@home.example")),
        content_bytes: CONTENT.len() as u64,
        content: Content::Inline(CONTENT.into()),
        tls: dd_agent::session::AskTls::WhereOffered,
        together: dd_agent::session::Together::default(),
        freshness: Freshness::Cached,
        received,
    });
    let mut proved = None;
    let report = loop {
        match bench.events.recv().await.unwrap() {
            Event::Proved(told) => proved = Some(*told),
            Event::Report(report) => break *report,
            Event::GivenBack(given) => panic!("{given:?}"),
            _ => {}
        }
    };
    assert!(bench.agent.leases.is_empty() && !bench.agent.journal.is_empty());
    lane.close();
    Attempted {
        proved,
        report,
        lines: serving.await.unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_certificate_gets_the_message() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue(NAME);
    let Attempted {
        proved,
        report,
        lines,
    } = attempt(&authority, Site::Tls(certificate, key)).await;
    assert_eq!(report.outcome(), pb::Outcome::Transacted, "{report:?}");
    assert_eq!(report.recipients[0].disposition(), pb::Disposition::Relayed);
    let proved = proved.unwrap();
    assert_eq!(proved.session, report.session);
    let (observed, in_short) = (proved.observed.unwrap(), report.observed.unwrap());
    let short_of = |it: &pb::Observed| (it.peer.clone(), it.local.clone(), it.proof.clone());
    assert_eq!(short_of(&in_short), short_of(&observed));
    assert_eq!(in_short.certificate, None);
    assert_eq!(observed.tls_version, "TLSv1.3");
    assert_eq!(observed.certificate.unwrap().names, [NAME]);
    assert!(lines.starts_with(&[format!("EHLO {HELO}"), "MAIL FROM:<a@b.example>".to_owned()]));
    assert!(lines.contains(&"hello".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_name_another_authority_or_no_tls_get_not_one_byte() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (other_name, other_key) = authority.issue("other.example");
    let (foreign, foreign_key) = stranger.issue(NAME);
    for (site, reason) in [
        (Site::Tls(other_name, other_key), "NameMismatch"),
        (Site::Tls(foreign, foreign_key), "SameNameOtherKey"),
        (Site::Clear, "NoStartTls"),
    ] {
        let Attempted {
            proved,
            report,
            lines,
        } = attempt(&authority, site).await;
        assert_eq!(proved, None);
        assert_eq!(report.outcome(), pb::Outcome::WrongHost, "{report:?}");
        assert_eq!(report.observed.unwrap().refusal.unwrap().reason, reason);
        assert!(lines.is_empty(), "{lines:?}");
        assert!(!report.dot_sent);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_authoritys_own_certificate_is_told_apart() {
    let authority = Authority::new();
    let (certificate, key) = authority.itself();
    let Attempted { report, lines, .. } = attempt(&authority, Site::Tls(certificate, key)).await;
    let reason = report.observed.unwrap().refusal.unwrap().reason;
    assert_eq!(reason, "CaUsedAsEndEntity");
    assert!(lines.is_empty());
}

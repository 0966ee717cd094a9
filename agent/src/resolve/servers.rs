//! The name servers: each is asked by a resolver of its own, in the order of the configuration.
//!
//! A server that does not answer soon is overtaken by the next, one that answers with an error is followed by it at
//! once, as every stub resolver has it (RFC 1035 §7.2). Only an answer ends the question: addresses, that there are
//! none, or that the name does not exist.
//!
//! # Not here
//! What is kept of the answers: [`super::cache`].

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dd_proto::domain::Domain;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;

use super::ResolverSetupError;
use crate::agent::now;
use crate::race;

/// How long one server is waited for; within it the question is sent several times.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A server that has not answered by then is overtaken by the next one, and comes behind the others for a while.
const OVERTAKEN: Duration = Duration::from_millis(300);
const BEHIND: Duration = Duration::from_secs(60);
/// That there is nothing is remembered for so long at most.
const NEGATIVE_TTL: Duration = Duration::from_secs(5);

/// Which addresses are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4 = 0,
    V6 = 1,
}

/// What a name server knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// Empty: there are none of this family.
    pub(super) addresses: Vec<IpAddr>,
    pub(super) ttl: Duration,
    pub(super) name: Exists,
}

impl Answer {
    /// One that was kept.
    pub(super) fn known(addresses: Vec<IpAddr>) -> Self {
        Self {
            addresses,
            ttl: Duration::ZERO,
            name: Exists::Yes,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exists {
    Yes,
    /// NXDOMAIN.
    No,
}

/// Why a name server was of no help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    #[error("does not answer")]
    Silent,
    #[error("cannot be reached ({0})")]
    Unreachable(std::io::ErrorKind),
    #[error("refuses to answer (REFUSED); does it serve this machine?")]
    Refused,
    #[error(
        "cannot find it out (SERVFAIL); the domain's own name servers may be down, or its signatures wrong"
    )]
    ServFail,
    #[error("answers with the error {0}")]
    Code(u16),
    #[error("gives no answer that can be used")]
    Unusable,
}

/// No server has answered; what was the matter with each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unanswered(pub(super) Vec<(SocketAddr, Trouble)>);

pub(super) struct Servers(Vec<Arc<Server>>);

struct Server {
    address: SocketAddr,
    resolver: TokioResolver,
    /// It was overtaken: until then it is asked behind the others.
    behind: Mutex<Option<Instant>>,
}

impl Servers {
    /// `configured`, or the system's.
    pub(super) fn new(configured: &[SocketAddr]) -> Result<Self, ResolverSetupError> {
        let configs = match configured {
            [] => {
                let system = read_system_conf().map_err(|e| ResolverSetupError(Box::new(e)))?;
                system.0.name_servers().to_vec()
            }
            servers => servers.iter().map(name_server).collect(),
        };
        let servers = configs.into_iter().map(|it| Server::new(it).map(Arc::new));
        Ok(Self(servers.collect::<Result<_, _>>()?))
    }

    pub(super) async fn ask(&self, name: &Domain, family: Family) -> Result<Answer, Unanswered> {
        let mut order = self.0.clone();
        let began = now();
        order.sort_by_key(|server| server.is_behind(began));
        let contenders = order.iter().enumerate().map(|(place, server)| {
            let (server, name) = (Arc::clone(server), name.clone());
            async move {
                let answered = server.ask(&name, family).await;
                answered
                    .map(|it| (place, it))
                    .map_err(|trouble| (server.address, trouble))
            }
        });
        let contenders: Vec<_> = contenders.collect();
        let finish = race::first(contenders, OVERTAKEN).await;
        let Some((place, answer)) = finish.winner else {
            return Err(Unanswered(finish.failed));
        };
        for overtaken in &order[..place] {
            overtaken.set_behind(Some(now() + BEHIND));
        }
        order[place].set_behind(None);
        Ok(answer)
    }
}

impl Server {
    fn new(config: NameServerConfig) -> Result<Self, ResolverSetupError> {
        let port = config.connections.first().map_or(53, |it| it.port);
        let address = SocketAddr::new(config.ip, port);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![config]);
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        options(builder.options_mut());
        let resolver = builder
            .build()
            .map_err(|e| ResolverSetupError(Box::new(e)))?;
        Ok(Self {
            address,
            resolver,
            behind: Mutex::default(),
        })
    }

    async fn ask(&self, name: &Domain, family: Family) -> Result<Answer, Trouble> {
        let record = match family {
            Family::V4 => RecordType::A,
            Family::V6 => RecordType::AAAA,
        };
        let name = in_full(name).ok_or(Trouble::Unusable)?;
        let limited = tokio::time::timeout(2 * TIMEOUT, self.resolver.lookup(name, record)).await;
        match limited.unwrap_or(Err(NetError::Timeout)) {
            Ok(lookup) => Ok(positive(&lookup)),
            Err(error) => negative(error),
        }
    }

    fn is_behind(&self, now: Instant) -> bool {
        let behind = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        behind.is_some_and(|until| until > now)
    }

    fn set_behind(&self, until: Option<Instant>) {
        *self.behind.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

/// The name as the wire has it: in hickory's own reading an underscore may stand at the beginning of a label only. The
/// dot at its end keeps the machine's search list out of it.
fn in_full(name: &Domain) -> Option<Name> {
    let labels = name.as_str().split('.').map(str::as_bytes);
    let mut name = Name::from_labels(labels).ok()?;
    name.set_fqdn(true);
    Some(name)
}

fn positive(lookup: &Lookup) -> Answer {
    let address = |data: &RData| match data {
        RData::A(ip) => Some(IpAddr::from(ip.0)),
        RData::AAAA(ip) => Some(IpAddr::from(ip.0)),
        _ => None,
    };
    let answers = lookup.answers();
    let ttl = answers.iter().map(|record| record.ttl).min();
    Answer {
        addresses: answers.iter().filter_map(|it| address(&it.data)).collect(),
        ttl: Duration::from_secs(ttl.unwrap_or(0).into()),
        name: Exists::Yes,
    }
}

fn negative(error: NetError) -> Result<Answer, Trouble> {
    let none = |name, ttl: Option<u32>| Answer {
        addresses: Vec::new(),
        ttl: ttl.map_or(Duration::ZERO, |s| {
            NEGATIVE_TTL.min(Duration::from_secs(s.into()))
        }),
        name,
    };
    match error {
        NetError::Dns(DnsError::NoRecordsFound(nothing)) => match nothing.response_code {
            ResponseCode::NXDomain => Ok(none(Exists::No, nothing.negative_ttl)),
            // RFC 2308 §2.2: a referral is no answer; the server does not serve the name.
            ResponseCode::NoError if nothing.soa.is_none() && nothing.ns.is_some() => {
                Err(Trouble::Unusable)
            }
            ResponseCode::NoError => Ok(none(Exists::Yes, nothing.negative_ttl)),
            code => Err(trouble_of(code)),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => Err(trouble_of(code)),
        NetError::Timeout => Err(Trouble::Silent),
        NetError::Io(error) => Err(Trouble::Unreachable(error.kind())),
        _ => Err(Trouble::Unusable),
    }
}

fn trouble_of(code: ResponseCode) -> Trouble {
    match code {
        ResponseCode::Refused => Trouble::Refused,
        ResponseCode::ServFail => Trouble::ServFail,
        other => Trouble::Code(other.into()),
    }
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let at_port = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    let connections = vec![
        at_port(ConnectionConfig::udp()),
        at_port(ConnectionConfig::tcp()),
    ];
    NameServerConfig::new(address.ip(), true, connections)
}

/// The same for the system's servers and for configured ones.
fn options(options: &mut ResolverOpts) {
    // What is kept is kept by `super::cache`, and an entry in the hosts file is looked up by `super`.
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    // Decision 67: a host's addresses fit into an answer without EDNS, and where they do not, TCP is asked.
    options.edns0 = false;
    options.timeout = TIMEOUT;
    options.attempts = 0;
    options.num_concurrent_reqs = 1;
}

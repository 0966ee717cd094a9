//! A host's addresses, asked from DNS.
//!
//! These are DynDNS names: an answer older than a minute may name somebody else's machine. So TTLs are capped, nothing
//! stale is served, and a fresh question goes past the cache.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use dd_proto::site::HostName;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;

/// At most this many addresses of one host are tried.
const MAX_ADDRESSES: usize = 16;
const NEGATIVE_TTL: Duration = Duration::from_secs(5);

/// Whether an answer from the cache will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    Cached,
    /// Ask anew.
    Fresh,
}

/// Why a host has no address.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ResolveError {
    #[error("the name {host} has no address: {why}")]
    NoAddress { host: String, why: String },
}

/// Why there is no resolver.
#[derive(Debug, thiserror::Error)]
#[error("the system's name servers cannot be read; set `servers` under [dns]")]
pub struct ResolverSetupError(#[source] Box<dyn std::error::Error + Send + Sync>);

/// Asks DNS.
pub struct Resolver {
    cached: TokioResolver,
    fresh: TokioResolver,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

impl Resolver {
    /// # Errors
    /// `servers` is empty and the system's configuration cannot be read.
    pub fn new(servers: &[SocketAddr], max_ttl: Duration) -> Result<Self, ResolverSetupError> {
        Ok(Self {
            cached: build(servers, max_ttl, 4096)?,
            fresh: build(servers, max_ttl, 0)?,
        })
    }

    /// The host's addresses, IPv6 and IPv4, in the order of the answer. An address stands for itself.
    ///
    /// # Errors
    /// There is none, or DNS does not answer: both are temporary.
    pub async fn addresses(
        &self,
        host: &HostName,
        freshness: Freshness,
    ) -> Result<Vec<IpAddr>, ResolveError> {
        let name = match host {
            HostName::Address(ip) => return Ok(vec![*ip]),
            HostName::Dns(name) => name,
        };
        let resolver = match freshness {
            Freshness::Cached => &self.cached,
            Freshness::Fresh => &self.fresh,
        };
        // The trailing dot keeps the machine's search list out of it.
        let answer = resolver.lookup_ip(format!("{name}.")).await;
        let error = |why: String| ResolveError::NoAddress {
            host: name.to_string(),
            why,
        };
        let answer = answer.map_err(|e| error(crate::proof::printable(&e.to_string())))?;
        let addresses: Vec<IpAddr> = answer.iter().take(MAX_ADDRESSES).collect();
        if addresses.is_empty() {
            return Err(error("the answer is empty".to_owned()));
        }
        Ok(addresses)
    }
}

fn build(
    servers: &[SocketAddr],
    max_ttl: Duration,
    cache: u64,
) -> Result<TokioResolver, ResolverSetupError> {
    let mut builder = if servers.is_empty() {
        TokioResolver::builder_tokio().map_err(|e| ResolverSetupError(Box::new(e)))?
    } else {
        let servers = servers.iter().map(name_server).collect();
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    options(builder.options_mut(), max_ttl, cache);
    builder.build().map_err(|e| ResolverSetupError(Box::new(e)))
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

fn options(options: &mut ResolverOpts, max_ttl: Duration, cache: u64) {
    options.cache_size = cache;
    options.positive_max_ttl = Some(max_ttl);
    options.negative_max_ttl = Some(NEGATIVE_TTL.min(max_ttl));
    options.use_hosts_file = ResolveHosts::Always;
    options.ip_strategy = hickory_resolver::config::LookupIpStrategy::Ipv4AndIpv6;
    options.timeout = Duration::from_secs(5);
    options.attempts = 2;
}

//! A host's addresses, asked from DNS.
//!
//! These are DynDNS names: an answer older than a minute may name somebody else's machine. So TTLs are capped, nothing
//! stale is served, a fresh question goes past what is cached, and its answer replaces it.
//!
//! IPv4 and IPv6 are two questions, asked at once: neither waits long for the other ([`GRACE`]).

mod cache;
mod servers;

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dd_proto::domain::Domain;
use dd_proto::site::HostName;
use hickory_resolver::Hosts;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use tokio::task::JoinSet;

use self::cache::Cache;
use self::servers::{Answer, Exists, Family, Servers, Unanswered};
use crate::agent::now;

/// At most this many addresses of one host are tried. The time that a host gets bounds it as well.
const MAX_ADDRESSES: usize = 64;
/// When one family has answered with addresses, the other is waited for that long: RFC 8305 §3 recommends 50 ms. What
/// comes later is cached, and asked for where none of these addresses was the site.
const GRACE: Duration = Duration::from_millis(50);

/// Whether an answer from the cache will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    Cached,
    /// Ask anew, and forget what was known.
    Fresh,
}

/// A host's addresses, never none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// IPv4 and IPv6 in turn, in the order of the answers.
    pub addresses: Vec<IpAddr>,
    pub news: News,
}

/// Whether asking again could tell more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// It could have changed since it was asked.
    Cached,
    /// One family has not answered yet.
    Half,
    /// Both have answered just now.
    Whole,
}

/// Why a host has no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    #[error(
        "the name {0} does not exist (NXDOMAIN); look at its spelling, and whether its DNS or DynDNS entry is still there"
    )]
    NoSuchName(Domain),
    #[error("the name {0} exists, but has no address (neither A nor AAAA); enter one in its DNS")]
    NoAddress(Domain),
    #[error("the addresses of {name} cannot be looked up: {why}")]
    Unanswered { name: Domain, why: String },
}

/// Why there is no resolver.
#[derive(Debug, thiserror::Error)]
#[error("the system's name servers cannot be read; set `servers` under [dns]")]
pub struct ResolverSetupError(#[source] Box<dyn std::error::Error + Send + Sync>);

/// Asks DNS.
pub struct Resolver(Arc<Inner>);

struct Inner {
    servers: Servers,
    hosts: Hosts,
    max_ttl: Duration,
    cache: Mutex<Cache>,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

/// What each family gave; None: not yet.
type Halves = [Option<Result<Answer, Unanswered>>; 2];

impl Resolver {
    /// # Errors
    /// `servers` is empty and the system's configuration cannot be read.
    pub fn new(servers: &[SocketAddr], max_ttl: Duration) -> Result<Self, ResolverSetupError> {
        Ok(Self(Arc::new(Inner {
            servers: Servers::new(servers)?,
            // A machine without the file has no entries in it.
            hosts: Hosts::from_system().unwrap_or_default(),
            max_ttl,
            cache: Mutex::default(),
        })))
    }

    /// The host's addresses. An address stands for itself.
    ///
    /// # Errors
    /// There is none, or DNS does not answer: both are temporary.
    pub async fn addresses(
        &self,
        host: &HostName,
        freshness: Freshness,
    ) -> Result<Found, ResolveError> {
        let known = match freshness {
            Freshness::Fresh => {
                self.forget(host);
                Halves::default()
            }
            Freshness::Cached => self.known(host),
        };
        self.ask(host, known, Some(GRACE)).await
    }

    /// Asks anew, and waits for both families however long they take.
    ///
    /// # Errors
    /// As above.
    pub async fn all_addresses(&self, host: &HostName) -> Result<Found, ResolveError> {
        self.ask(host, Halves::default(), None).await
    }

    /// What was known of the host, and what is being asked, counts no longer: its address may have changed.
    pub fn forget(&self, host: &HostName) {
        if let HostName::Dns(name) = host {
            self.0.cache().forget(name, now());
        }
    }

    /// What was asked for before. That there were no addresses at all is no reason not to ask again.
    fn known(&self, host: &HostName) -> Halves {
        let HostName::Dns(name) = host else {
            return Halves::default();
        };
        let (cache, now) = (self.0.cache(), now());
        let halves = [Family::V4, Family::V6].map(|it| cache.known(name, it, now));
        match halves.iter().flatten().any(|it| !it.is_empty()) {
            true => halves.map(|it| it.map(|it| Ok(Answer::known(it)))),
            false => Halves::default(),
        }
    }

    async fn ask(
        &self,
        host: &HostName,
        known: Halves,
        grace: Option<Duration>,
    ) -> Result<Found, ResolveError> {
        let whole = |addresses| Found {
            addresses,
            news: News::Whole,
        };
        let name = match host {
            HostName::Address(ip) => return Ok(whole(vec![*ip])),
            HostName::Dns(name) => name,
        };
        // The hosts file is an answer for both families.
        let listed = self.0.listed(name);
        if !listed.is_empty() {
            return Ok(whole(listed));
        }
        let news = match has_addresses(&known) {
            true => News::Cached,
            false => News::Whole,
        };
        found(name, news, self.0.halves(name, known, grace).await)
    }
}

impl Inner {
    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listed(&self, name: &Domain) -> Vec<IpAddr> {
        let Ok(name) = format!("{name}.").parse::<Name>() else {
            return Vec::new();
        };
        let listed = |record| {
            let lookup = self
                .hosts
                .lookup_static_host(&Query::query(name.clone(), record));
            let answers = lookup.iter().flat_map(|it| it.answers());
            answers.filter_map(|it| it.data.ip_addr()).collect()
        };
        in_turn(listed(RecordType::A), listed(RecordType::AAAA))
    }

    /// What is not known is asked for, both families at once. With a grace, a family that does not answer does not hold up addresses of the other; its
    /// question goes on, and what comes of it is cached.
    async fn halves(
        self: &Arc<Self>,
        name: &Domain,
        mut halves: Halves,
        grace: Option<Duration>,
    ) -> Halves {
        let asked = now();
        let mut questions = JoinSet::new();
        for family in [Family::V4, Family::V6] {
            if halves[family as usize].is_some() {
                continue;
            }
            let (inner, name) = (Arc::clone(self), name.clone());
            questions.spawn(async move { (family, inner.question(&name, family, asked).await) });
        }
        loop {
            let ended = match grace {
                Some(grace) if has_addresses(&halves) => {
                    let waiting = tokio::time::timeout(grace, questions.join_next());
                    let Ok(ended) = waiting.await else {
                        questions.detach_all();
                        return halves;
                    };
                    ended
                }
                _ => questions.join_next().await,
            };
            match ended {
                Some(Ok((family, half))) => halves[family as usize] = Some(half),
                Some(Err(panicked)) => std::panic::resume_unwind(panicked.into_panic()),
                None => return halves,
            }
        }
    }

    async fn question(
        &self,
        name: &Domain,
        family: Family,
        asked: Instant,
    ) -> Result<Answer, Unanswered> {
        let answer = self.servers.ask(name, family).await?;
        let known = (&answer.addresses[..], answer.ttl.min(self.max_ttl));
        self.cache().learn(name, family, known, asked, now());
        Ok(answer)
    }
}

fn has_addresses(halves: &Halves) -> bool {
    let mut answers = halves.iter().flatten();
    answers.any(|half| half.as_ref().is_ok_and(|it| !it.addresses.is_empty()))
}

/// `news` where both families have answered.
fn found(name: &Domain, news: News, halves: Halves) -> Result<Found, ResolveError> {
    let addresses = |half: &Option<Result<Answer, Unanswered>>| match half {
        Some(Ok(answer)) => answer.addresses.clone(),
        Some(Err(_)) | None => Vec::new(),
    };
    let addresses = in_turn(addresses(&halves[0]), addresses(&halves[1]));
    match addresses.is_empty() {
        true => Err(why_none(name, halves)),
        false => Ok(Found {
            addresses,
            news: match halves.iter().all(Option::is_some) {
                false if news == News::Whole => News::Half,
                _ => news,
            },
        }),
    }
}

/// The most telling of what two families without an address gave: that the name does not exist is about both, and that
/// a family could not be looked up says more than that the other has no address.
fn why_none(name: &Domain, halves: Halves) -> ResolveError {
    let halves = || halves.iter().flatten();
    let missing = halves().any(|it| it.as_ref().is_ok_and(|answer| answer.name == Exists::No));
    let troubles = halves().find_map(|half| half.as_ref().err());
    match (missing, troubles) {
        (true, _) => ResolveError::NoSuchName(name.clone()),
        (false, None) => ResolveError::NoAddress(name.clone()),
        (false, Some(unanswered)) => ResolveError::Unanswered {
            name: name.clone(),
            why: unanswered.to_string(),
        },
    }
}

/// One of each family in turn, so that a family of which nothing works does not keep the other's from being tried.
fn in_turn(v4: Vec<IpAddr>, v6: Vec<IpAddr>) -> Vec<IpAddr> {
    let (mut v4, mut v6) = (v4.into_iter(), v6.into_iter());
    let mut addresses = Vec::new();
    loop {
        let before = addresses.len();
        addresses.extend(v4.next().into_iter().chain(v6.next()));
        if addresses.len() == before || addresses.len() >= MAX_ADDRESSES {
            return addresses;
        }
    }
}

impl std::fmt::Display for Unanswered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut between = "";
        for (server, trouble) in &self.0 {
            let mut whom = String::new();
            match server.port() {
                53 => write!(whom, "{}", server.ip())?,
                _ => write!(whom, "{server}")?,
            }
            write!(f, "{between}the name server {whom} {trouble}")?;
            between = "; ";
        }
        Ok(())
    }
}

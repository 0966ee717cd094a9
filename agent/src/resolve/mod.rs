//! A host's addresses, asked from DNS.
//!
//! These are DynDNS names: an answer older than a minute may name somebody else's machine. So TTLs are capped, nothing
//! stale is served, a fresh question goes past what is cached, and its answer replaces it.
//!
//! IPv4 and IPv6 are two questions, asked at once: neither waits long for the other ([`GRACE`]). For a site that is reached
//! by one of them only, the other is not asked: what becomes of it says nothing.

mod cache;
mod servers;

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dd_proto::domain::Domain;
use dd_proto::site::{Family as Wanted, HostName};
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
    /// IPv4 and IPv6 in turn, in the order of the answers; none twice, and an IPv4 host as such.
    pub addresses: Vec<IpAddr>,
    pub news: News,
    /// Why the other family could not be looked up, where that is so.
    pub unanswered: Option<String>,
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
    #[error(transparent)]
    NoneOfFamily(NoneOfFamily),
    #[error("the {} of {name} cannot be looked up: {why}", addresses_of(*.wanted))]
    Unanswered {
        name: Domain,
        wanted: Wanted,
        why: String,
    },
}

/// All that a name has, if anything, are addresses to which the site's mail does not go.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{host} has no IPv{family} address, and the site is set to be reached by that family only; look at its DNS",
    host = in_words(.0),
    family = .1
)]
pub struct NoneOfFamily(HostName, Wanted);

fn in_words(host: &HostName) -> String {
    match host {
        HostName::Dns(name) => format!("the name {name}"),
        HostName::Address(address) => address.to_string(),
    }
}

fn addresses_of(wanted: Wanted) -> &'static str {
    match wanted {
        Wanted::Any => "addresses",
        Wanted::V4 => "IPv4 addresses",
        Wanted::V6 => "IPv6 addresses",
    }
}

/// The questions that a site's hosts are worth.
fn questions_for(wanted: Wanted) -> &'static [Family] {
    match wanted {
        Wanted::Any => &[Family::V4, Family::V6],
        Wanted::V4 => &[Family::V4],
        Wanted::V6 => &[Family::V6],
    }
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

    /// The host's addresses of the family that is wanted. An address stands for itself.
    ///
    /// # Errors
    /// There is none, or DNS does not answer: both are temporary.
    pub async fn addresses(
        &self,
        host: &HostName,
        wanted: Wanted,
        freshness: Freshness,
    ) -> Result<Found, ResolveError> {
        let known = match freshness {
            Freshness::Fresh => {
                self.forget(host);
                Halves::default()
            }
            Freshness::Cached => self.known(host, wanted),
        };
        self.ask(host, wanted, known, Some(GRACE)).await
    }

    /// Asks anew, and waits for both families however long they take.
    ///
    /// # Errors
    /// As above.
    pub async fn all_addresses(
        &self,
        host: &HostName,
        wanted: Wanted,
    ) -> Result<Found, ResolveError> {
        self.ask(host, wanted, Halves::default(), None).await
    }

    /// What was known of the host, and what is being asked, counts no longer: its address may have changed.
    pub fn forget(&self, host: &HostName) {
        if let HostName::Dns(name) = host {
            self.0.cache().forget(name, now());
        }
    }

    /// What was asked for before. That there were no addresses at all is no reason not to ask again.
    fn known(&self, host: &HostName, wanted: Wanted) -> Halves {
        let HostName::Dns(name) = host else {
            return Halves::default();
        };
        let (cache, now) = (self.0.cache(), now());
        let mut halves = Halves::default();
        for &family in questions_for(wanted) {
            let known = cache.known(name, family, now);
            halves[family as usize] = known.map(|it| Ok(Answer::known(it)));
        }
        match has_addresses(&halves) {
            true => halves,
            false => Halves::default(),
        }
    }

    async fn ask(
        &self,
        host: &HostName,
        wanted: Wanted,
        known: Halves,
        grace: Option<Duration>,
    ) -> Result<Found, ResolveError> {
        let name = match host {
            HostName::Address(ip) => {
                return of_family(host, wanted, News::Whole, vec![ip.to_canonical()]);
            }
            HostName::Dns(name) => name,
        };
        // The hosts file is an answer for both families.
        let listed = self.0.listed(name);
        if !listed.is_empty() {
            return of_family(host, wanted, News::Whole, listed);
        }
        let news = match has_addresses(&known) {
            true => News::Cached,
            false => News::Whole,
        };
        let halves = self.0.halves(name, wanted, known, grace).await;
        let addresses = answered(&halves);
        if addresses.is_empty() {
            return Err(why_none(name, wanted, &halves));
        }
        let is_open = |family: &Family| halves[*family as usize].is_none();
        let news = match questions_for(wanted).iter().any(is_open) {
            true if news == News::Whole => News::Half,
            _ => news,
        };
        let mut found = of_family(host, wanted, news, addresses)?;
        let mut asked = halves.iter().flatten();
        found.unanswered = asked.find_map(|half| Some(half.as_ref().err()?.to_string()));
        Ok(found)
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

    /// What is wanted and not known is asked for, both families at once. With a grace, a family that does not answer does not
    /// hold up addresses of the other; its question goes on, and what comes of it is cached.
    async fn halves(
        self: &Arc<Self>,
        name: &Domain,
        wanted: Wanted,
        mut halves: Halves,
        grace: Option<Duration>,
    ) -> Halves {
        let asked = now();
        let mut questions = JoinSet::new();
        for &family in questions_for(wanted) {
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

/// The addresses that the families gave that have answered.
fn answered(halves: &Halves) -> Vec<IpAddr> {
    let addresses = |half: &Option<Result<Answer, Unanswered>>| match half {
        Some(Ok(answer)) => answer.addresses.clone(),
        Some(Err(_)) | None => Vec::new(),
    };
    in_turn(addresses(&halves[0]), addresses(&halves[1]))
}

/// Those that are wanted: what a list, or an answer, has may be of the other family too.
fn of_family(
    host: &HostName,
    wanted: Wanted,
    news: News,
    mut addresses: Vec<IpAddr>,
) -> Result<Found, ResolveError> {
    addresses.retain(|it| wanted.has(*it));
    match addresses.is_empty() {
        true => Err(ResolveError::NoneOfFamily(NoneOfFamily(
            host.clone(),
            wanted,
        ))),
        false => Ok(Found {
            addresses,
            news,
            unanswered: None,
        }),
    }
}

/// The most telling of what two families without an address gave: that the name does not exist is about both, and that
/// a family could not be looked up says more than that the other has no address.
fn why_none(name: &Domain, wanted: Wanted, halves: &Halves) -> ResolveError {
    let halves = || halves.iter().flatten();
    let missing = halves().any(|it| it.as_ref().is_ok_and(|answer| answer.name == Exists::No));
    let troubles = halves().find_map(|half| half.as_ref().err());
    match (missing, troubles) {
        (true, _) => ResolveError::NoSuchName(name.clone()),
        (false, None) if wanted == Wanted::Any => ResolveError::NoAddress(name.clone()),
        (false, None) => {
            ResolveError::NoneOfFamily(NoneOfFamily(HostName::Dns(name.clone()), wanted))
        }
        (false, Some(unanswered)) => ResolveError::Unanswered {
            name: name.clone(),
            wanted,
            why: unanswered.to_string(),
        },
    }
}

/// One of each family in turn, so that a family of which nothing works does not keep the other's from being tried.
fn in_turn(v4: Vec<IpAddr>, v6: Vec<IpAddr>) -> Vec<IpAddr> {
    let (mut v4, mut v6) = (v4.into_iter(), v6.into_iter());
    let mut addresses = Vec::new();
    while addresses.len() < MAX_ADDRESSES {
        let pair = [v4.next(), v6.next()];
        if pair == [None, None] {
            break;
        }
        for address in pair.into_iter().flatten() {
            let address = address.to_canonical();
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    addresses
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

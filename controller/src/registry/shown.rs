//! What each site showed when it had proved itself: one record a site, written when there is news and never per message.
//!
//! It is there so that a site cannot become weaker unasked: one that has ever shown TLS gets nothing without any more,
//! until an administrator says `ddadm site set NAME --clear shown`. And so that a change can be told where the proof
//! does not rest on the key, and an end be foreseen where it rests on the certificate.
//!
//! # Invariants
//! - Only what has proved itself is remembered: a stranger at the site's address changes nothing.
//! - Nothing that is seen makes a site weaker. A damaged record counts as one that has shown TLS.
//! - The record stays small: so many sights of a site, each of bounded texts.
//!
//! # Not here
//! The refusal itself: the agent, told by `tls_expected`. When somebody is written to: [`crate::sights`].

use std::sync::Arc;

use bytes::Bytes;
use dd_proto::name::{AgentName, SiteName};
use dd_proto::pb;
use dd_proto::report::{Observed, PeerCertificate};
use dd_proto::site::{Proof, Site};
use jiff::{SignedDuration, Timestamp};
use prost::Message as _;

use super::record::{self, Damaged};
use super::{Change, ChangeError, Registry};
use crate::store::Record;

/// Sights of one site: every host of it, and what they showed before.
const MOST: usize = 8;
/// The last time is kept this coarse, so that a site that shows the same costs a record a day.
const COARSE: SignedDuration = SignedDuration::from_hours(24);
/// An agent need not be ours: texts are bounded here too.
const TEXT: usize = 300;
const NAMES: usize = 50;

/// What is remembered of a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub tls: TlsBefore,
    /// The newest first; the first of a host is what that host shows now.
    pub sights: Vec<Sight>,
}

/// Whether a site has ever shown TLS when it proved itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsBefore {
    Never,
    Shown,
}

/// A host of the site, proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// host:port as configured.
    pub host: String,
    pub address: String,
    /// The kind of the proof.
    pub proof: String,
    /// Empty: without TLS.
    pub tls_version: String,
    pub certificate: Option<PeerCertificate>,
    pub first: Timestamp,
    /// To the day.
    pub last: Timestamp,
    pub agent: AgentName,
}

/// What is new about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The first that this host shows.
    First,
    /// The same, on another day.
    Again,
    /// Another certificate for the key that it had.
    Renewed,
    /// Another key, or TLS where there was none; its SHA-256 before, empty where it had none.
    OtherKey { before: String },
    /// Something that it had shown before another.
    Back,
    /// No TLS, though it had shown some: an agent that does not do as it is told.
    WithoutTls,
}

impl Sight {
    pub fn new(agent: &AgentName, observed: &Observed, now: Timestamp) -> Self {
        Self {
            host: bounded(&observed.host),
            address: bounded(&observed.peer),
            proof: bounded(&observed.proof),
            tls_version: bounded(&observed.tls_version),
            certificate: observed.certificate.as_ref().map(bounded_certificate),
            first: now,
            last: now,
            agent: agent.clone(),
        }
    }

    /// SHA-256 of the public key; empty where there is none.
    pub fn key(&self) -> &str {
        let key = self.certificate.as_ref().map(|it| it.spki_sha256.as_str());
        key.unwrap_or_default()
    }

    fn is_same(&self, other: &Self) -> bool {
        self.fingerprint() == other.fingerprint() && self.tls() == other.tls()
    }

    /// SHA-256 of the certificate; None: it showed none.
    fn fingerprint(&self) -> Option<&str> {
        self.certificate.as_ref().map(|it| it.sha256.as_str())
    }

    fn tls(&self) -> TlsBefore {
        match self.tls_version.is_empty() {
            true => TlsBefore::Never,
            false => TlsBefore::Shown,
        }
    }
}

/// What is to be remembered after this sight, and what is new about it; None: nothing.
pub fn learn(known: Option<&Shown>, seen: &Sight) -> Option<(Shown, News)> {
    let Some(known) = known else {
        let shown = Shown {
            tls: seen.tls(),
            sights: vec![seen.clone()],
        };
        return Some((shown, News::First));
    };
    if known.tls == TlsBefore::Shown && seen.tls() == TlsBefore::Never {
        return Some((known.clone(), News::WithoutTls));
    }
    let mut shown = known.clone();
    shown.tls = match seen.tls() {
        TlsBefore::Never => known.tls,
        TlsBefore::Shown => TlsBefore::Shown,
    };
    let of_host = |it: &&Sight| it.host == seen.host;
    let present = known.sights.iter().find(of_host);
    let before = known
        .sights
        .iter()
        .position(|it| of_host(&it) && it.is_same(seen));
    let news = match present {
        None => News::First,
        Some(present) if present.is_same(seen) => {
            if seen.last.duration_since(present.last) < COARSE {
                return None;
            }
            News::Again
        }
        Some(_) if before.is_some() => News::Back,
        Some(present) if present.key() == seen.key() && !seen.key().is_empty() => News::Renewed,
        Some(present) => News::OtherKey {
            before: present.key().to_owned(),
        },
    };
    let first = before.map(|at| shown.sights.remove(at).first);
    let first = first.unwrap_or(seen.first);
    shown.sights.insert(
        0,
        Sight {
            first,
            ..seen.clone()
        },
    );
    shown.sights.truncate(MOST);
    Some((shown, news))
}

/// Whether a change of the key says nothing about who answers: the proof does not rest on it.
pub fn key_is_no_proof(proof: &Proof) -> bool {
    match proof {
        Proof::StaticIp { certificate, .. } => certificate.is_none(),
        Proof::Port | Proof::Configured => true,
        Proof::Certificate(_) | Proof::Fingerprint { .. } | Proof::Public { .. } => false,
    }
}

fn bounded(text: &str) -> String {
    dd_proto::smtp::reply::printable(text, TEXT)
}

fn bounded_certificate(it: &PeerCertificate) -> PeerCertificate {
    PeerCertificate {
        subject: bounded(&it.subject),
        issuer: bounded(&it.issuer),
        names: it.names.iter().take(NAMES).map(|it| bounded(it)).collect(),
        sha256: bounded(&it.sha256),
        spki_sha256: bounded(&it.spki_sha256),
        ..it.clone()
    }
}

impl From<&Shown> for pb::Shown {
    fn from(shown: &Shown) -> Self {
        let sight = |it: &Sight| pb::Sight {
            host: it.host.clone(),
            address: it.address.clone(),
            proof: it.proof.clone(),
            tls_version: it.tls_version.clone(),
            certificate: it.certificate.clone().map(Into::into),
            first_ms: it.first.as_millisecond(),
            last_ms: it.last.as_millisecond(),
            agent: it.agent.to_string(),
        };
        Self {
            tls: shown.tls == TlsBefore::Shown,
            sights: shown.sights.iter().map(sight).collect(),
        }
    }
}

pub(super) fn encode(shown: &Shown) -> Bytes {
    pb::Shown::from(shown).encode_to_vec().into()
}

pub(super) fn decode(record: &Record) -> Result<Shown, Damaged> {
    let damaged = |error: &dyn std::fmt::Display| Damaged(error.to_string());
    let stored = pb::Shown::decode(record.value.clone()).map_err(|error| damaged(&error))?;
    // Without this, a value whose bytes are lost would be a site that has never shown TLS.
    if stored.sights.is_empty() {
        return Err(damaged(&"it shows nothing"));
    }
    let at = |ms| Timestamp::from_millisecond(ms).map_err(|error| damaged(&error));
    let sight = |it: pb::Sight| {
        let certificate = it.certificate.map(TryInto::try_into).transpose();
        Ok(Sight {
            host: it.host,
            address: it.address,
            proof: it.proof,
            tls_version: it.tls_version,
            certificate: certificate.map_err(|error| damaged(&error))?,
            first: at(it.first_ms)?,
            last: at(it.last_ms)?,
            agent: it.agent.parse().map_err(|error| damaged(&error))?,
        })
    };
    Ok(Shown {
        tls: match stored.tls {
            true => TlsBefore::Shown,
            false => TlsBefore::Never,
        },
        sights: stored
            .sights
            .into_iter()
            .map(sight)
            .collect::<Result<_, _>>()?,
    })
}

impl Registry {
    /// What is remembered of a site.
    pub fn shown(&self, site: &SiteName) -> Option<Arc<Shown>> {
        self.read().shown.get(site).cloned()
    }

    /// Whether a site gets nothing without TLS, although its proof may need none.
    pub fn expects_tls(&self, site: &SiteName) -> bool {
        let read = self.read();
        match read.shown.get(site) {
            Some(shown) => shown.tls == TlsBefore::Shown,
            // The search for the owned key is paid for only where something is damaged.
            None if read.damaged.is_empty() => false,
            None => read
                .damaged
                .contains_key(&(record::SHOWN, site.to_string())),
        }
    }

    /// Whether there is anything to be remembered of this sight.
    pub fn is_news(&self, site: &SiteName, seen: &Sight) -> bool {
        learn(self.shown(site).as_deref(), seen).is_some()
    }
}

impl Change {
    /// Remembers what a site showed. Returns what is new about it, durable then.
    ///
    /// # Errors
    /// It could not be made durable.
    pub async fn saw(&self, site: &SiteName, seen: &Sight) -> Result<Option<News>, ChangeError> {
        let Some(site) = self.registry.site(site) else {
            return Ok(None);
        };
        let known = self.registry.shown(&site.name);
        if known.is_none() && self.registry.expects_tls(&site.name) && seen.tls_version.is_empty() {
            return Ok(Some(News::WithoutTls));
        }
        let Some((shown, news)) = learn(known.as_deref(), seen) else {
            return Ok(None);
        };
        if known.as_deref() != Some(&shown) {
            self.put_shown(&site, shown).await?;
        }
        Ok(Some(news))
    }

    async fn put_shown(&self, site: &Site, shown: Shown) -> Result<(), ChangeError> {
        let name = site.name.as_str();
        let value = Some(encode(&shown));
        self.store.put(record::SHOWN, name, value).await?;
        let mut snapshot = self.registry.write();
        snapshot.damaged.remove(&(record::SHOWN, name.to_owned()));
        snapshot.shown.insert(site.name.clone(), Arc::new(shown));
        Ok(())
    }

    /// Whatever the site shows next is the first.
    pub(super) async fn forget_shown(&self, site: &SiteName) -> Result<(), ChangeError> {
        let key = (record::SHOWN, site.to_string());
        let read = |registry: &Registry| {
            let read = registry.read();
            read.shown.contains_key(site) || read.damaged.contains_key(&key)
        };
        if !read(&self.registry) {
            return Ok(());
        }
        self.store.put(record::SHOWN, site.as_str(), None).await?;
        let mut snapshot = self.registry.write();
        snapshot.shown.remove(site);
        snapshot.damaged.remove(&key);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + hours * 3600).unwrap()
    }

    /// `print` names the certificate and `key` its key; without one there is no TLS.
    fn sight(host: &str, print: &str, key: &str, hours: i64) -> Sight {
        let certificate = (!print.is_empty()).then(|| PeerCertificate {
            subject: "CN=home".to_owned(),
            issuer: "CN=ca".to_owned(),
            names: vec!["home.example".to_owned()],
            sha256: print.to_owned(),
            not_before: at(0),
            not_after: at(9000),
            chain_length: 2,
            spki_sha256: key.to_owned(),
        });
        Sight {
            host: host.to_owned(),
            address: "192.0.2.9:25".to_owned(),
            proof: "port".to_owned(),
            tls_version: certificate
                .as_ref()
                .map_or(String::new(), |_| "TLSv1.3".into()),
            certificate,
            first: at(hours),
            last: at(hours),
            agent: "out1".parse().unwrap(),
        }
    }

    #[test]
    fn what_is_new_is_remembered_and_nothing_else() {
        let mut known: Option<Shown> = None;
        let other = |before: &str| News::OtherKey {
            before: before.to_owned(),
        };
        for (seen, news) in [
            (sight("a:25", "c1", "k1", 0), Some(News::First)),
            (sight("a:25", "c1", "k1", 1), None),
            (sight("a:25", "c1", "k1", 23), None),
            // A clock that was set back is no news.
            (sight("a:25", "c1", "k1", -500), None),
            (sight("a:25", "c1", "k1", 24), Some(News::Again)),
            (sight("a:25", "c2", "k1", 25), Some(News::Renewed)),
            (sight("a:25", "c3", "k2", 26), Some(other("k1"))),
            (sight("a:25", "c2", "k1", 27), Some(News::Back)),
            (sight("b:25", "c4", "k4", 28), Some(News::First)),
            (sight("a:25", "c2", "k1", 28), None),
            (sight("a:25", "", "", 29), Some(News::WithoutTls)),
            (sight("c:25", "", "", 29), Some(News::WithoutTls)),
        ] {
            let learnt = learn(known.as_ref(), &seen);
            assert_eq!(learnt.as_ref().map(|it| &it.1), news.as_ref(), "{seen:?}");
            known = learnt.map(|it| it.0).or(known);
        }
        let known = known.unwrap();
        assert_eq!(known.tls, TlsBefore::Shown);
        let print = |it: &Sight| it.certificate.clone().unwrap().sha256;
        let prints: Vec<String> = known.sights.iter().map(print).collect();
        assert_eq!(prints, ["c4", "c2", "c3", "c1"]);
        assert_eq!(known.sights[3].first, at(0));
    }

    #[test]
    fn a_site_without_tls_becomes_one_with_and_never_back() {
        let (first, _) = learn(None, &sight("a:25", "", "", 0)).unwrap();
        assert_eq!(first.tls, TlsBefore::Never);
        let (second, news) = learn(Some(&first), &sight("a:25", "c1", "k1", 1)).unwrap();
        let before = String::new();
        assert_eq!(
            (second.tls, news),
            (TlsBefore::Shown, News::OtherKey { before })
        );
        let (third, news) = learn(Some(&second), &sight("a:25", "", "", 2)).unwrap();
        assert_eq!((&third, news), (&second, News::WithoutTls));
    }

    #[test]
    fn the_record_stays_small_and_comes_back_as_it_was() {
        let mut known: Option<Shown> = None;
        for number in 0..50 {
            let name = number.to_string();
            let seen = sight("a:25", &name, &name, number);
            known = learn(known.as_ref(), &seen).map(|it| it.0);
        }
        let known = known.unwrap();
        assert_eq!(known.sights.len(), MOST);
        let record = |value| Record {
            key: "home".to_owned(),
            version: 1,
            value,
        };
        assert_eq!(decode(&record(encode(&known))), Ok(known));
        assert!(decode(&record(Bytes::new())).is_err());
    }

    #[test]
    fn an_agents_words_are_bounded() {
        let observed = Observed {
            host: "h".repeat(10_000),
            certificate: Some(PeerCertificate {
                names: vec!["n".repeat(10_000); 1000],
                ..sight("", "c", "k", 0).certificate.unwrap()
            }),
            ..Observed::default()
        };
        let seen = Sight::new(&"out1".parse().unwrap(), &observed, at(0));
        assert!(seen.host.len() <= TEXT + 3);
        let names = seen.certificate.unwrap().names;
        assert!(names.len() == NAMES && names[0].len() <= TEXT + 3);
    }
}

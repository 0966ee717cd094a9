//! Agents and their join tokens.
//!
//! A token works for one key: with the same one again (a join that was cut off strands nobody), with another never. It
//! is spent at the first attach, and dead after an hour.
//!
//! # Invariants
//! An agent is its key, not its name: [`AgentRecord::key`] is the one that joined last, and nobody else is let in under
//! the name. One that was removed left no key behind, whoever bears its name afterwards.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use dd_proto::name::AgentName;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{Change, ChangeError, changed, record, unknown};
use crate::authority::client::AgentKey;
use crate::dispatch::{Drain, Joined, Terms, Told};

const TOKEN_LIFE: Duration = Duration::from_secs(3600);
pub(super) const MAX_AGENTS: usize = 1000;
const MAX_ADDRESSES: usize = 100;

/// An agent that may attach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRecord {
    pub name: AgentName,
    /// Published to members.
    pub addresses: Vec<IpAddr>,
    /// Published before it works; None: it works at once.
    pub from: Option<Timestamp>,
    /// What an operator wants of it; stands until it is taken back.
    pub drain: Drain,
    pub token: Option<Token>,
    /// What it is known by; None: it has not joined.
    pub key: Option<AgentKey>,
    /// Under which boot of its machine it may hold mail; empty: nobody knows, or it has left in order and holds none.
    pub boot_id: String,
    pub left: Left,
}

/// Whether an agent was seen off: it had said that it ends, held nothing, and all that it had told was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Left {
    /// It may hold mail, or is here.
    #[default]
    No,
    /// It has not been let in again since. A start waits for it no more than for one that never joined.
    InOrder,
}

/// A join token that is not spent.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// SHA-256 of the secret.
    pub secret: [u8; 32],
    pub expires: Timestamp,
    /// What it was used with.
    pub key: Option<AgentKey>,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token")
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// Why a token does not let an agent join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    #[error("the token is not valid for this agent: run `ddadm agent token NAME` for a new one")]
    Wrong,
    #[error("the token has expired: run `ddadm agent token NAME` for a new one")]
    Expired,
    #[error("the token was used with another key: run `ddadm agent token NAME` for a new one")]
    OtherKey,
}

/// Why an agent's record stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgentError {
    #[error(
        "there is an agent `{0}` already: `ddadm agent set {0} --address IP…` changes its addresses, `ddadm agent token {0}` prints a new join token"
    )]
    Exists(AgentName),
    #[error("an agent needs its outbound addresses: add --address IP")]
    NoAddress,
    #[error(
        "the address {address} is the one of the agent `{agent}`: every agent has its own; `ddadm agent set {agent} --address IP…` changes the other's"
    )]
    AddressTaken { address: IpAddr, agent: AgentName },
}

impl AgentRecord {
    /// One that nobody has a token for.
    pub fn new(name: AgentName) -> Self {
        Self {
            name,
            addresses: Vec::new(),
            from: None,
            drain: Drain::Works,
            token: None,
            key: None,
            boot_id: String::new(),
            left: Left::No,
        }
    }

    /// As dispatch is told.
    pub fn terms(&self) -> Terms {
        Terms {
            from: self.from,
            drain: self.drain,
            joined: match self.key {
                Some(_) => Joined::Once,
                None => Joined::Never,
            },
            told: match self.left {
                Left::InOrder => Told::All,
                Left::No => Told::NotAll,
            },
        }
    }

    /// Whether a token's secret lets this key join.
    ///
    /// # Errors
    /// Why not; nothing is told to whoever does not have the secret.
    pub fn admits(&self, secret: &[u8], key: AgentKey, now: Timestamp) -> Result<(), JoinError> {
        let token = self.token.as_ref().ok_or(JoinError::Wrong)?;
        if !bool::from(digest(secret).ct_eq(&token.secret)) {
            return Err(JoinError::Wrong);
        }
        if now >= token.expires {
            return Err(JoinError::Expired);
        }
        match token.key {
            Some(used) if used != key => Err(JoinError::OtherKey),
            _ => Ok(()),
        }
    }

    /// Whether its token has let it join and is not spent yet.
    pub(super) fn has_used_token(&self) -> bool {
        let token = self.token.as_ref();
        token.is_some_and(|token| token.key.is_some())
    }
}

/// From when an agent works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    AsItIs,
    Now,
    At(Timestamp),
}

/// # Errors
/// Another one of `agents` has one of the addresses.
pub(super) fn own_addresses<'a>(
    name: &AgentName,
    addresses: &[IpAddr],
    agents: impl IntoIterator<Item = &'a AgentRecord>,
) -> Result<(), AgentError> {
    for other in agents {
        if other.name == *name {
            continue;
        }
        let taken = addresses.iter().find(|it| other.addresses.contains(it));
        if let Some(address) = taken {
            return Err(AgentError::AddressTaken {
                address: *address,
                agent: other.name.clone(),
            });
        }
    }
    Ok(())
}

fn new_token(secret: &[u8; 32], now: Timestamp) -> Token {
    Token {
        secret: digest(secret),
        expires: now.saturating_add(TOKEN_LIFE).unwrap_or(Timestamp::MAX),
        key: None,
    }
}

pub(super) fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

impl Change {
    /// Announces a new agent, with a join token.
    ///
    /// # Errors
    /// There is one of this name, or one that has one of the addresses.
    pub async fn add_agent(
        &self,
        name: AgentName,
        addresses: Vec<IpAddr>,
        from: Option<Timestamp>,
        secret: &[u8; 32],
        who: &str,
        now: Timestamp,
    ) -> Result<(), ChangeError> {
        if self.registry.agent(&name).is_some() {
            return Err(AgentError::Exists(name).into());
        }
        if self.registry.agents().len() >= MAX_AGENTS {
            return Err(ChangeError::TooMany {
                kind: "agents",
                most: MAX_AGENTS,
            });
        }
        self.check_addresses(&name, &addresses)?;
        let agent = AgentRecord {
            addresses,
            from,
            token: Some(new_token(secret, now)),
            ..AgentRecord::new(name)
        };
        let fields = changed::agent(None, &agent);
        let what = format!("agent {} added, with a join token: {fields}", agent.name);
        self.change_agent(agent).await?;
        self.audit.record(now, who, &what);
        Ok(())
    }

    /// Other addresses (none: the present ones stay), or another time from which it works.
    ///
    /// # Errors
    /// There is no such agent, or another one has one of the addresses.
    pub async fn set_agent(
        &self,
        name: &str,
        addresses: Vec<IpAddr>,
        from: From,
        who: &str,
        now: Timestamp,
    ) -> Result<Arc<AgentRecord>, ChangeError> {
        let old = self.existing_agent(name)?;
        let mut agent = (*old).clone();
        if !addresses.is_empty() {
            self.check_addresses(&agent.name, &addresses)?;
            agent.addresses = addresses;
        }
        match from {
            From::AsItIs => {}
            From::At(time) => agent.from = Some(time),
            From::Now => agent.from = None,
        }
        let what = match changed::agent(Some(&old), &agent) {
            same if same.is_empty() => format!("agent {} set to what it was", agent.name),
            changes => format!("agent {} set: {changes}", agent.name),
        };
        self.change_agent(agent.clone()).await?;
        self.audit.record(now, who, &what);
        Ok(Arc::new(agent))
    }

    /// A new join token for a registered agent, in the place of an earlier one.
    ///
    /// # Errors
    /// There is no such agent.
    pub async fn new_agent_token(
        &self,
        name: &str,
        secret: &[u8; 32],
        who: &str,
        now: Timestamp,
    ) -> Result<AgentName, ChangeError> {
        let mut agent = (*self.existing_agent(name)?).clone();
        agent.token = Some(new_token(secret, now));
        let name = agent.name.clone();
        self.change_agent(agent).await?;
        let what = format!("agent {name} has a new join token");
        self.audit.record(now, who, &what);
        Ok(name)
    }

    fn existing_agent(&self, name: &str) -> Result<Arc<AgentRecord>, ChangeError> {
        let parsed: Option<AgentName> = name.parse().ok();
        let agent = parsed.and_then(|name| self.registry.agent(&name));
        agent.ok_or_else(|| unknown("agent", name))
    }

    fn check_addresses(&self, name: &AgentName, addresses: &[IpAddr]) -> Result<(), ChangeError> {
        if addresses.is_empty() {
            return Err(AgentError::NoAddress.into());
        }
        if addresses.len() > MAX_ADDRESSES {
            return Err(ChangeError::TooMany {
                kind: "addresses of an agent",
                most: MAX_ADDRESSES,
            });
        }
        let agents = self.registry.agents();
        Ok(own_addresses(
            name,
            addresses,
            agents.iter().map(|it| &**it),
        )?)
    }

    async fn change_agent(&self, agent: AgentRecord) -> Result<(), ChangeError> {
        let (name, terms) = (agent.name.clone(), agent.terms());
        self.put_agent(agent).await?;
        self.dispatch.agent_registered(name, terms).await;
        Ok(())
    }

    /// Ties the token, and the agent, to the key, durably, before a certificate is made for it.
    ///
    /// # Errors
    /// The token does not let this key join.
    pub async fn use_token(
        &self,
        name: &str,
        secret: &[u8],
        key: AgentKey,
        now: Timestamp,
    ) -> Result<AgentName, ChangeError> {
        let parsed: Option<AgentName> = name.parse().ok();
        let agent = parsed.and_then(|name| self.registry.agent(&name));
        let agent = agent.ok_or(JoinError::Wrong)?;
        agent.admits(secret, key, now)?;
        let mut joining = (*agent).clone();
        if let Some(token) = joining.token.as_mut().filter(|token| token.key.is_none()) {
            token.key = Some(key);
            joining.key = Some(key);
            self.put_agent(joining).await?;
        }
        let what = format!("agent {} joined with its token", agent.name);
        self.audit.record(now, agent.name.as_str(), &what);
        Ok(agent.name.clone())
    }

    /// Removes an agent: its certificate lets it do nothing any more.
    ///
    /// # Errors
    /// There is no such agent, or a site is pinned to it.
    pub async fn remove_agent(
        &self,
        name: &str,
        who: &str,
        now: Timestamp,
    ) -> Result<AgentName, ChangeError> {
        let agent = self.existing_agent(name)?;
        let mut sites = self.registry.sites().into_iter();
        if let Some(site) = sites.find(|site| site.agents.contains(&agent.name)) {
            return Err(ChangeError::Pinned {
                agent: agent.name.clone(),
                site: site.name.clone(),
            });
        }
        self.store.put(record::AGENT, name, None).await?;
        self.registry.write().agents.remove(&agent.name);
        self.dispatch.agent_removed(agent.name.clone()).await;
        self.audit
            .record(now, who, &format!("agent {} removed", agent.name));
        Ok(agent.name.clone())
    }

    /// Drains an agent, or lets it work again; durable when it returns. Once more changes nothing.
    ///
    /// # Errors
    /// There is no such agent.
    pub async fn drain_agent(
        &self,
        name: &str,
        drain: Drain,
        who: &str,
        now: Timestamp,
    ) -> Result<Arc<AgentRecord>, ChangeError> {
        let agent = self.existing_agent(name)?;
        if agent.drain.is_wanted() == drain.is_wanted() {
            return Ok(agent);
        }
        let mut changed = (*agent).clone();
        changed.drain = drain;
        self.change_agent(changed.clone()).await?;
        let what = match drain {
            Drain::Drains | Drain::Ended => "drained: it gets no new work",
            Drain::Works => "resumed",
        };
        self.audit
            .record(now, who, &format!("agent {} {what}", changed.name));
        Ok(Arc::new(changed))
    }

    /// Remembers drains that have ended: the next start does not wait for these agents. What an operator has changed in
    /// the meantime stands.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn drains_ended(&self, now: Timestamp) -> Result<(), ChangeError> {
        // Asked now, for nothing can be resumed or drained anew until it is written.
        for name in self.dispatch.drained_agents().await {
            let agent = self.registry.agent(&name);
            let Some(agent) = agent.filter(|agent| agent.drain == Drain::Drains) else {
                continue;
            };
            self.put_agent(AgentRecord {
                drain: Drain::Ended,
                ..(*agent).clone()
            })
            .await?;
            let what = format!("the drain of agent {name} has ended: nothing of it is in hand");
            self.audit.record(now, name.as_str(), &what);
        }
        Ok(())
    }

    pub(super) async fn put_agent(&self, agent: AgentRecord) -> Result<(), ChangeError> {
        let value = record::encode_agent(&agent);
        self.store
            .put(record::AGENT, agent.name.as_str(), Some(value))
            .await?;
        self.show_agent(agent);
        Ok(())
    }

    /// The record is written.
    pub(super) fn show_agent(&self, agent: AgentRecord) {
        let mut snapshot = self.registry.write();
        snapshot
            .damaged
            .remove(&(record::AGENT, agent.name.to_string()));
        snapshot.agents.insert(agent.name.clone(), Arc::new(agent));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_belongs_to_one_agent() {
        let with = |name: &str, addresses: &[&str]| AgentRecord {
            addresses: addresses.iter().map(|it| it.parse().unwrap()).collect(),
            ..AgentRecord::new(name.parse().unwrap())
        };
        let agents = [
            with("out1", &["192.0.2.1", "2001:db8::1"]),
            with("out2", &["192.0.2.2"]),
        ];
        for (name, addresses, owner) in [
            ("out3", &["192.0.2.3"][..], None),
            ("out3", &["192.0.2.3", "2001:db8::1"], Some("out1")),
            ("out1", &["192.0.2.1", "192.0.2.3"], None),
            ("out1", &["192.0.2.2"], Some("out2")),
        ] {
            let wanted = with(name, addresses);
            let refused = own_addresses(&wanted.name, &wanted.addresses, &agents).err();
            let refused = refused.map(|error| match error {
                AgentError::AddressTaken { agent, .. } => agent.to_string(),
                other => panic!("{other}"),
            });
            assert_eq!(refused.as_deref(), owner, "{name} {addresses:?}");
        }
    }

    #[test]
    fn a_token_lets_one_key_join_for_an_hour() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let (key, other) = (AgentKey([1; 32]), AgentKey([2; 32]));
        let agent = |used| AgentRecord {
            token: Some(Token {
                secret: digest(b"secret"),
                expires: at(3600),
                key: used,
            }),
            key: used,
            ..AgentRecord::new("out1".parse().unwrap())
        };
        for (used, secret, by, second, expected) in [
            (None, &b"secret"[..], key, 0, Ok(())),
            (Some(key), b"secret", key, 3599, Ok(())),
            (Some(key), b"secret", other, 0, Err(JoinError::OtherKey)),
            (None, b"secret", key, 3600, Err(JoinError::Expired)),
            (None, b"another", key, 0, Err(JoinError::Wrong)),
            (None, b"another", key, 3600, Err(JoinError::Wrong)),
        ] {
            assert_eq!(agent(used).admits(secret, by, at(second)), expected);
        }
        let mut attached = agent(Some(key));
        attached.token = None;
        assert_eq!(
            attached.admits(b"secret", key, at(0)),
            Err(JoinError::Wrong)
        );
    }
}

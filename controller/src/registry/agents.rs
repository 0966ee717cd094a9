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
use crate::dispatch::{Drain, Terms};

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
    #[error("the token is not valid for this agent: run `ddadm agent add NAME` for a new one")]
    Wrong,
    #[error("the token has expired: run `ddadm agent add NAME` for a new one")]
    Expired,
    #[error("the token was used with another key: run `ddadm agent add NAME` for a new one")]
    OtherKey,
}

impl AgentRecord {
    /// One that nobody has a token for.
    pub(super) fn new(name: AgentName) -> Self {
        Self {
            name,
            addresses: Vec::new(),
            from: None,
            drain: Drain::Works,
            token: None,
            key: None,
        }
    }

    /// As dispatch is told.
    pub fn terms(&self) -> Terms {
        Terms {
            from: self.from,
            drain: self.drain,
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

pub(super) fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

impl Change {
    /// Registers an agent, or gives a registered one new addresses (if any are named) and a new token.
    ///
    /// # Errors
    /// Too many.
    pub async fn add_agent(
        &self,
        name: AgentName,
        addresses: Vec<IpAddr>,
        from: Option<Timestamp>,
        secret: &[u8; 32],
        who: &str,
        now: Timestamp,
    ) -> Result<(), ChangeError> {
        let old = self.registry.agent(&name);
        if old.is_none() && self.registry.agents().len() >= MAX_AGENTS {
            return Err(ChangeError::TooMany {
                kind: "agents",
                most: MAX_AGENTS,
            });
        }
        if addresses.len() > MAX_ADDRESSES {
            return Err(ChangeError::TooMany {
                kind: "addresses of an agent",
                most: MAX_ADDRESSES,
            });
        }
        let kept = old.as_ref().map(|old| old.addresses.clone());
        let agent = AgentRecord {
            addresses: match addresses.is_empty() {
                true => kept.unwrap_or_default(),
                false => addresses,
            },
            from: from.or_else(|| old.as_ref().and_then(|old| old.from)),
            drain: old.as_ref().map_or(Drain::Works, |old| old.drain),
            key: old.as_ref().and_then(|old| old.key),
            token: Some(Token {
                secret: digest(secret),
                expires: now.saturating_add(TOKEN_LIFE).unwrap_or(Timestamp::MAX),
                key: None,
            }),
            name,
        };
        let (name, terms) = (agent.name.clone(), agent.terms());
        let changes = changed::agent(old.as_deref(), &agent);
        self.put_agent(agent).await?;
        self.dispatch.agent_registered(name.clone(), terms).await;
        let what = match changes.as_str() {
            "" => format!("agent {name} has a new join token"),
            changes => format!("agent {name} added, with a new join token: {changes}"),
        };
        self.audit.record(now, who, &what);
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
        let parsed: Option<AgentName> = name.parse().ok();
        let agent = parsed.and_then(|name| self.registry.agent(&name));
        let agent = agent.ok_or_else(|| unknown("agent", name))?;
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
        let parsed: Option<AgentName> = name.parse().ok();
        let agent = parsed.and_then(|name| self.registry.agent(&name));
        let agent = agent.ok_or_else(|| unknown("agent", name))?;
        if agent.drain.is_wanted() == drain.is_wanted() {
            return Ok(agent);
        }
        let mut changed = (*agent).clone();
        changed.drain = drain;
        let terms = changed.terms();
        self.put_agent(changed.clone()).await?;
        let name = changed.name.clone();
        self.dispatch.agent_registered(name, terms).await;
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

    /// A token that was used is spent.
    ///
    /// # Errors
    /// There is no such agent.
    pub(super) async fn spend_token_of(&self, name: &AgentName) -> Result<(), ChangeError> {
        let agent = self
            .registry
            .agent(name)
            .ok_or_else(|| unknown("agent", name))?;
        if agent.has_used_token() {
            let mut joined = (*agent).clone();
            joined.token = None;
            self.put_agent(joined).await?;
        }
        Ok(())
    }

    pub(super) async fn put_agent(&self, agent: AgentRecord) -> Result<(), ChangeError> {
        let value = record::encode_agent(&agent);
        self.store
            .put(record::AGENT, agent.name.as_str(), Some(value))
            .await?;
        let mut snapshot = self.registry.write();
        snapshot
            .damaged
            .remove(&(record::AGENT, agent.name.to_string()));
        snapshot.agents.insert(agent.name.clone(), Arc::new(agent));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lets_one_key_join_for_an_hour() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let (key, other) = (AgentKey([1; 32]), AgentKey([2; 32]));
        let agent = |used| AgentRecord {
            name: "out1".parse().unwrap(),
            addresses: Vec::new(),
            from: None,
            drain: Drain::Works,
            token: Some(Token {
                secret: digest(b"secret"),
                expires: at(3600),
                key: used,
            }),
            key: used,
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

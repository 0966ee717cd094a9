//! How the agent comes by a certificate that lets it in: the kept one, one renewed for it, or one that a token brings.
//!
//! A token is ignored while the kept certificate lets the agent in, or can be renewed. It is what remains where the
//! controller does not take that one any more, because the agent was removed, or has joined elsewhere; and where the
//! controller cannot be verified by it, because its own authority is another one now, which the token names.
//!
//! # Not here
//! One step of it, and what it leaves on disk: [`crate::identity`]. Renewing in good time: [`crate::control`].

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use dd_proto::name::AgentName;
use dd_proto::token::JoinToken;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::config::Config;
use crate::control::chain;
use crate::identity::{Identity, IdentityError};

/// While the controller is away, it is asked again so often.
const AGAIN: Duration = Duration::from_secs(2);

/// What the agent can do for a certificate.
#[derive(Debug)]
pub struct Enroll {
    directory: PathBuf,
    controller: String,
    name: AgentName,
    /// Gone once it was used or refused.
    token: Option<JoinToken>,
}

impl Enroll {
    pub fn new(config: &Config, token: Option<JoinToken>) -> Self {
        Self {
            directory: config.state_dir.clone(),
            controller: config.controller.clone(),
            name: config.name.clone(),
            token,
        }
    }

    /// A certificate to begin with, however long the controller is away.
    ///
    /// # Errors
    /// There is none to be had; or `draining` turned true before.
    pub async fn identify(
        &mut self,
        now: Timestamp,
        mut draining: watch::Receiver<bool>,
    ) -> anyhow::Result<Identity> {
        let kept = match Identity::load(&self.directory) {
            Ok(kept) => kept,
            Err(error) if self.token.is_some() => {
                tracing::warn!(%error, "joining anew");
                None
            }
            Err(error) => return Err(error.into()),
        };
        let ended = match kept {
            Some(identity) if identity.is_valid(now) => return Ok(identity),
            kept => kept.filter(|it| it.is_renewable(now)),
        };
        loop {
            match self.regain(ended.as_ref()).await {
                Ok(identity) => return Ok(identity),
                Err(error @ (IdentityError::Unreachable { .. } | IdentityError::Unanswered(_))) => {
                    tracing::warn!(error = chain(&error), "no certificate yet");
                }
                Err(error) => return Err(error).context("there is no certificate to be had"),
            }
            tokio::select! {
                () = tokio::time::sleep(AGAIN) => {}
                _ = draining.wait_for(|draining| *draining) => {
                    anyhow::bail!("ended before it had a certificate")
                }
            }
        }
    }

    /// Another certificate for one that does not let the agent in: renewed, or else joined for, where there is a token.
    ///
    /// # Errors
    /// The controller is away, or refuses both.
    pub async fn regain(&mut self, kept: Option<&Identity>) -> Result<Identity, IdentityError> {
        if let Some(kept) = kept {
            match self.renew(kept).await {
                Err(error)
                    if self.token.is_some()
                        && (!is_away(&error) || self.has_token_of_another_authority(kept)) =>
                {
                    tracing::warn!(error = chain(&error), "not renewed: joining anew");
                }
                renewed => return renewed,
            }
        }
        let Some(token) = self.token.clone() else {
            return Err(IdentityError::NotJoined(self.name.clone()));
        };
        let joining = Identity::join(&self.directory, &self.controller, &self.name, &token);
        let joined = joining.await;
        if joined.is_ok() {
            tracing::info!(name = %self.name, "joined");
        }
        if let Ok(_) | Err(IdentityError::Refused(_) | IdentityError::OtherName { .. }) = joined {
            self.token = None;
        }
        joined
    }

    /// Whether the token names another authority than the kept certificate is of: one of the two is good for nothing
    /// here, and a controller that cannot be verified by the one may be the other's.
    pub fn has_token_of_another_authority(&self, kept: &Identity) -> bool {
        let token = self.token.as_ref();
        token.is_some_and(|token| token.authority != kept.authority())
    }

    async fn renew(&self, kept: &Identity) -> Result<Identity, IdentityError> {
        let channel = kept.connect(&self.controller).await?;
        let renewed = kept.renew(&self.directory, channel).await?;
        tracing::info!(renew_at = %renewed.renew_at(), "certificate renewed");
        Ok(renewed)
    }
}

fn is_away(error: &IdentityError) -> bool {
    matches!(error, IdentityError::Unreachable { .. })
}

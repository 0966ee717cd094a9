//! The certificate's renewal, beside everything else that happens on the stream: a controller that is slow to sign holds up
//! neither beats nor assignments.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Control, chain};
use crate::agent::{now, wall};
use crate::identity::{Identity, IdentityError};

/// For so long the controller may think about it.
const PATIENCE: Duration = Duration::from_secs(60);
/// What was not renewed is tried again after this time; a third of a certificate's life is left for that.
const AGAIN: Duration = Duration::from_secs(300);
/// None is renewed more often than that, however short its life is.
const LEAST_LIFE: Duration = Duration::from_secs(60);

/// What a try came to; None: the controller did not answer.
type Renewed = Option<Result<Identity, IdentityError>>;

type Running = Pin<Box<dyn Future<Output = Renewed> + Send>>;

/// What there is to do.
pub(super) enum Step {
    /// It is time to ask.
    Due,
    Ended(Renewed),
}

/// Waits for its time, then for the controller.
pub(super) struct Renewal {
    at: Instant,
    running: Option<Running>,
}

impl Renewal {
    pub(super) fn after(wait: Duration) -> Self {
        Self {
            at: now() + wait,
            running: None,
        }
    }

    /// The next step. Dropped before it is there, it loses nothing.
    pub(super) async fn step(&mut self) -> Step {
        match &mut self.running {
            None => {
                tokio::time::sleep_until(self.at.into()).await;
                Step::Due
            }
            Some(running) => {
                let renewed = running.await;
                *self = Self::after(AGAIN);
                Step::Ended(renewed)
            }
        }
    }

    fn begin(
        &mut self,
        renewing: impl Future<Output = Result<Identity, IdentityError>> + Send + 'static,
    ) {
        let bounded = async move { tokio::time::timeout(PATIENCE, renewing).await.ok() };
        self.running = Some(Box::pin(bounded));
    }
}

impl Control {
    /// Asks for the next certificate, with the one at hand; or takes what came of that.
    pub(super) fn renew(&mut self, step: Step, renewal: &mut Renewal) {
        match step {
            Step::Due => renewal.begin(self.renewing()),
            Step::Ended(Some(Ok(identity))) => {
                tracing::info!(renew_at = %identity.renew_at(), "certificate renewed");
                *renewal = Renewal::after(identity.renew_in(wall()).max(LEAST_LIFE));
                self.is_now(identity);
            }
            Step::Ended(Some(Err(error))) => {
                tracing::warn!(error = chain(&error), "the certificate is not renewed");
            }
            Step::Ended(None) => {
                tracing::warn!("the certificate is not renewed: the controller is silent");
            }
        }
    }

    fn renewing(&self) -> impl Future<Output = Result<Identity, IdentityError>> + Send + 'static {
        let channel = self.agent.controller.borrow().clone();
        let identity = Arc::clone(&self.identity);
        let directory = self.config.state_dir.clone();
        async move {
            let away = || IdentityError::Unanswered("it is away".to_owned());
            identity.renew(&directory, channel.ok_or_else(away)?).await
        }
    }
}

//! The certificate is renewed beside the stream: its beats and reports do not wait for that.

use std::pin::Pin;
use std::time::Duration;

use super::{Control, chain};
use crate::agent::wall;
use crate::identity::{Identity, IdentityError};

/// At most this long it takes; it is tried again later.
const RENEWAL: Duration = Duration::from_secs(5);

/// None: it did not come in time.
type Renewed = Option<Result<Identity, IdentityError>>;
pub(super) type Renewing = Pin<Box<dyn Future<Output = Renewed> + Send>>;

impl Control {
    /// A new certificate, on its way. None: there is nobody to ask.
    pub(super) fn renewal(&self) -> Option<Renewing> {
        let channel = self.agent.controller.borrow().clone()?;
        let (identity, state) = (self.identity.clone(), self.config.state_dir.clone());
        Some(Box::pin(async move {
            let renewing = identity.renew(&state, channel);
            tokio::time::timeout(RENEWAL, renewing).await.ok()
        }))
    }

    /// Returns when to look again.
    pub(super) fn renewed(&mut self, renewed: Renewed) -> Duration {
        match renewed {
            Some(Ok(identity)) => {
                tracing::info!(renew_at = %identity.renew_at(), "certificate renewed");
                self.identity = identity;
                self.identity.renew_in(wall()).max(Duration::from_secs(60))
            }
            Some(Err(error)) => {
                tracing::warn!(error = chain(&error), "the certificate is not renewed");
                Duration::from_secs(300)
            }
            None => Duration::from_secs(300),
        }
    }
}

/// What comes of a renewal, if one is under way.
pub(super) async fn come_of(renewing: &mut Option<Renewing>) -> Renewed {
    match renewing {
        Some(renewing) => renewing.await,
        None => std::future::pending().await,
    }
}

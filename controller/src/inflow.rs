//! Where intake meets the rest: what it asks is answered by the registry and the store, what it accepts goes to the
//! store and then, still in memory, to dispatch.
//!
//! # Not here
//! What becomes of an ETRN: [`crate::wakeup::smtp`].

use std::sync::Arc;

use dd_proto::domain::Domain;
use dd_proto::name::SiteName;
use dd_proto::site::Site;

use crate::dispatch::{Handle, Mail};
use crate::intake::accept::{AcceptError, Acceptor, Submission};
use crate::intake::policy::{Directory, Space, Usage};
use crate::metrics::Metrics;
use crate::registry::{Completeness, Registry};
use crate::store::{Spooled, Store};

/// What intake sees of registry and queue.
#[derive(Debug, Clone)]
pub struct Judgement {
    pub registry: Registry,
    pub store: Store,
}

impl Directory for Judgement {
    fn site_for(&self, domain: &Domain) -> Option<Arc<Site>> {
        let found = self.registry.site_for(domain);
        match (found, self.registry.completeness()) {
            (None, Completeness::SitesAreMissing) => Some(Arc::new(closed(domain))),
            (found, _) => found,
        }
    }

    fn usage(&self, site: &SiteName) -> Usage {
        let count = self.store.count(site);
        Usage {
            messages: count.messages,
            bytes: count.bytes,
        }
    }

    fn space(&self) -> Space {
        self.store.space()
    }
}

/// Stands for the site whose damaged record may have had this domain: its mail is refused for now, never for good.
pub(crate) fn closed(domain: &Domain) -> Site {
    use dd_proto::hold::HoldPeriods;
    use dd_proto::site::{Host, HostName, KnownRecipients, Limits, Proof, Schedule};
    use std::num::NonZeroU16;
    Site {
        name: "damaged".parse().expect("it is a name"),
        version: dd_proto::id::SiteVersion::default(),
        domains: [domain.clone()].into(),
        known: KnownRecipients::Any,
        hosts: vec![Host {
            name: HostName::Dns(domain.clone()),
            port: NonZeroU16::MIN,
        }],
        proof: Proof::Configured,
        way: dd_proto::site::Way::default(),
        limits: Limits {
            connections: 1,
            max_message_bytes: None,
            quota_messages: None,
            quota_bytes: None,
        },
        schedule: Schedule {
            retry_interval: std::time::Duration::MAX,
            lifetime: std::time::Duration::MAX,
            delay_warning: std::time::Duration::MAX,
            outage_notice: None,
        },
        hold: None,
        held_before: HoldPeriods::default(),
        closing: true,
        contact: None,
        language: None,
        allow_targets: Vec::new(),
        agents: Default::default(),
        password_hash: None,
        wake_hash: None,
    }
}

/// Makes mail durable, then tells dispatch.
#[derive(Debug, Clone)]
pub struct Entrance {
    pub store: Store,
    pub dispatch: Handle,
    pub metrics: Metrics,
}

impl Acceptor for Entrance {
    type Spool = Spooled;

    async fn accept(&self, submission: Submission<Spooled>) -> Result<(), AcceptError> {
        let mail = Mail::of(&submission);
        let begun = stopwatch();
        let accepted = self.store.accept(submission).await?;
        self.metrics.synced.observe_time(begun.elapsed());
        self.metrics.accepted.inc();
        self.dispatch.arrived(mail.arrived(accepted)).await;
        Ok(())
    }

    async fn spool(&self) -> Result<Spooled, AcceptError> {
        self.store.spool().await
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a commit keeps a client waiting is measured where it waits"
)]
fn stopwatch() -> std::time::Instant {
    std::time::Instant::now()
}

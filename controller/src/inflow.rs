//! Where intake meets the rest: what it asks is answered by the registry and the store, what it accepts goes to the
//! store and then, still in memory, to dispatch, and an ETRN becomes a release.

use std::sync::Arc;

use dd_proto::domain::Domain;
use dd_proto::name::SiteName;
use dd_proto::site::Site;
use tokio::sync::mpsc;

use crate::dispatch::{Arrived, Handle};
use crate::intake::accept::{AcceptError, Acceptor, Content, Submission};
use crate::intake::policy::{Directory, Space, Usage};
use crate::intake::release::ReleaseRequest;
use crate::metrics::Metrics;
use crate::registry::{Completeness, Registry};
use crate::store::{Spooled, Store};

/// What waits between an ETRN and its release; more are dropped, and asked for again.
const MAX_RELEASES: usize = 256;

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
fn closed(domain: &Domain) -> Site {
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
        },
        hold: None,
        closing: true,
        contact: None,
        allow_targets: Vec::new(),
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
        let envelope = Arc::new(submission.envelope.clone());
        let content = match &submission.content {
            Content::Inline(bytes) => Some(bytes.clone()),
            Content::Spooled(_) => None,
        };
        let accepted = self.store.accept(submission).await?;
        self.metrics.accepted.inc();
        let arrived = accepted.into_iter().map(|waiting| Arrived {
            waiting,
            envelope: envelope.clone(),
            content: content.clone(),
        });
        self.dispatch.arrived(arrived.collect()).await;
        Ok(())
    }

    async fn spool(&self) -> Result<Spooled, AcceptError> {
        self.store.spool().await
    }
}

/// What intake calls for each ETRN that takes effect; it never blocks.
pub fn releases() -> (Box<dyn Fn(ReleaseRequest) + Send + Sync>, Releases) {
    let (ask, asked) = mpsc::channel(MAX_RELEASES);
    let release = move |request: ReleaseRequest| {
        if ask.try_send(request).is_err() {
            tracing::warn!("too many ETRN at once: one was dropped");
        }
    };
    (Box::new(release), Releases(asked))
}

/// ETRN that wait for their release.
#[derive(Debug)]
pub struct Releases(mpsc::Receiver<ReleaseRequest>);

impl Releases {
    /// Serves until intake is gone.
    pub async fn serve(mut self, registry: Registry, dispatch: Handle) {
        while let Some(request) = self.0.recv().await {
            let Some(site) = meant(&request.node, &registry) else {
                tracing::debug!(node = %request.node.escape_debug(), "ETRN for what no site has");
                continue;
            };
            tracing::info!(%site, client = %request.client, "released by ETRN");
            dispatch.release(site, None).await;
        }
    }
}

/// RFC 1985 §5.3: a host name, `@` with a domain whose subdomains are meant too, or `#` with the name of a queue.
/// A site's own name does as well; subdomains have sites of their own, so `@` means the domain itself.
fn meant(node: &str, registry: &Registry) -> Option<SiteName> {
    let by_name = |name: &str| Some(registry.site(&name.parse().ok()?)?.name.clone());
    let by_domain = |domain: &str| Some(registry.site_for(&domain.parse().ok()?)?.name.clone());
    match node.split_at_checked(1) {
        Some(("#", name)) => by_name(name),
        Some(("@", domain)) => by_domain(domain),
        _ => by_domain(node).or_else(|| by_name(node)),
    }
}

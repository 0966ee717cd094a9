//! Orders from the controller, checked once: route plans and assignments.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use dd_proto::envelope::Envelope;
use dd_proto::id::{Lease, SiteVersion};
use dd_proto::name::SiteName;
use dd_proto::pb;
use dd_proto::site::{Family, Host, Speaks, Way};
use ipnet::IpNet;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};

use crate::proof::Terms;
use crate::resolve::Freshness;
use crate::session::{AskTls, Next, Together};

/// An order that this agent does not understand. The controller is newer, or broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the order's {0} is missing or malformed")]
pub struct OrderError(pub &'static str);

/// How a site is reached and proved.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub site: SiteName,
    pub version: SiteVersion,
    /// Kind of delivery.
    pub kind: String,
    /// In order; never empty.
    pub hosts: Vec<Host>,
    pub terms: Arc<Terms>,
    pub allow_targets: Vec<IpNet>,
    /// Sessions at once, at least 1.
    pub connections: usize,
    pub way: Way,
}

/// One delivery, complete.
#[derive(Debug)]
pub struct Assignment {
    pub lease: Lease,
    pub version: SiteVersion,
    /// Shared with the session, which may send it ahead.
    pub envelope: Arc<Envelope>,
    pub content_bytes: u64,
    pub content: Content,
    pub freshness: Freshness,
    /// Whether the site has shown TLS before.
    pub tls: AskTls,
    /// What the site is known to lose of what travels together.
    pub together: Together,
    /// When it came.
    pub received: Instant,
}

/// Where the content is.
#[derive(Debug, Clone)]
pub enum Content {
    Inline(Bytes),
    /// To be fetched from the controller.
    AtController,
}

/// Of an assignment, what of it may go out before its turn. The assignment itself may be taken away meanwhile.
#[derive(Debug)]
pub struct ToBeSent {
    envelope: Arc<Envelope>,
    content_bytes: u64,
}

impl ToBeSent {
    pub fn ahead(&self) -> Next<'_> {
        Next {
            envelope: &self.envelope,
            content_bytes: self.content_bytes,
        }
    }
}

impl Plan {
    /// How a connection asks for TLS, where an assignment alone would have it so.
    pub fn asks(&self, for_tls: AskTls) -> AskTls {
        match self.way.tls_on_connect {
            true => AskTls::OnConnect,
            false => for_tls,
        }
    }
}

impl TryFrom<pb::RoutePlan> for Plan {
    type Error = OrderError;

    fn try_from(plan: pb::RoutePlan) -> Result<Self, OrderError> {
        let hosts: Vec<Host> = plan
            .hosts
            .into_iter()
            .map(|host| host.try_into().map_err(|_| OrderError("host")))
            .collect::<Result<_, _>>()?;
        if hosts.is_empty() {
            return Err(OrderError("host"));
        }
        let proof = plan.proof.ok_or(OrderError("proof"))?;
        let network = |text: String| text.parse().map_err(|_| OrderError("allow_targets"));
        let anchor = |der: Bytes| CertificateDer::from(der.to_vec());
        let list = |der: Bytes| CertificateRevocationListDer::from(der.to_vec());
        Ok(Self {
            site: plan.site.parse().map_err(|_| OrderError("site"))?,
            version: SiteVersion(plan.version),
            kind: plan.kind,
            hosts,
            terms: Arc::new(Terms {
                proof: proof.try_into().map_err(|_| OrderError("proof"))?,
                anchors: plan.anchors.into_iter().map(anchor).collect(),
                revocation_lists: plan.revocation_lists.into_iter().map(list).collect(),
            }),
            allow_targets: plan
                .allow_targets
                .into_iter()
                .map(network)
                .collect::<Result<_, _>>()?,
            connections: plan.connections.clamp(1, 20) as usize,
            way: Way {
                // Mail does not wait for a word that only a newer agent knows.
                hand_over: plan.hand_over.parse().unwrap_or_default(),
                tls_on_connect: plan.tls_on_connect,
                speaks: Speaks::of_flag(plan.lmtp),
                family: match plan.family.as_str() {
                    "" => Family::Any,
                    family => family.parse().map_err(|_| OrderError("family"))?,
                },
                client_certificate: match plan.client_certificate.as_str() {
                    "" => None,
                    name => Some(name.parse().map_err(|_| OrderError("client_certificate"))?),
                },
            },
        })
    }
}

impl Assignment {
    /// # Errors
    /// Something is missing or malformed.
    pub fn parse(assignment: pb::Assignment, received: Instant) -> Result<Self, OrderError> {
        let envelope = assignment.envelope.ok_or(OrderError("envelope"))?;
        let lease = assignment.lease.ok_or(OrderError("lease"))?;
        Ok(Self {
            lease: lease.try_into().map_err(|_| OrderError("lease"))?,
            version: SiteVersion(assignment.site_version),
            envelope: Arc::new(envelope.try_into().map_err(|_| OrderError("envelope"))?),
            content_bytes: assignment.content_bytes,
            content: match assignment.content {
                Some(content) => Content::Inline(content),
                None => Content::AtController,
            },
            freshness: match assignment.fresh {
                true => Freshness::Fresh,
                false => Freshness::Cached,
            },
            tls: AskTls::of_order(assignment.tls_expected),
            together: Together::of_order(assignment.one_at_a_time, assignment.nothing_behind_dot),
            received,
        })
    }

    /// What a session needs to send the envelope ahead.
    pub fn to_be_sent(&self) -> ToBeSent {
        ToBeSent {
            envelope: Arc::clone(&self.envelope),
            content_bytes: self.content_bytes,
        }
    }
}

//! Orders from the controller, checked once: route plans and assignments.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use dd_proto::envelope::Envelope;
use dd_proto::id::{Lease, SiteVersion};
use dd_proto::name::SiteName;
use dd_proto::pb;
use dd_proto::site::{Family, Host, Proof, Speaks, TlsBegins, Way};
use dd_proto::smtp::auth::Login;
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
        match self.way.tls {
            TlsBegins::ByStartTls => for_tls,
            TlsBegins::OnConnect => AskTls::OnConnect,
            TlsBegins::Never => AskTls::Not,
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
        let site = plan.site.parse().map_err(|_| OrderError("site"))?;
        let proof = plan.proof.ok_or(OrderError("proof"))?;
        let proof: Proof = proof.try_into().map_err(|_| OrderError("proof"))?;
        let tls = match (plan.no_tls, plan.tls_on_connect) {
            (false, on_connect) => TlsBegins::of_flag(on_connect),
            (true, false) if proof == Proof::Configured => TlsBegins::Never,
            (true, _) => return Err(OrderError("no_tls")),
        };
        let login = plan.login.map(Login::try_from).transpose();
        let login = login.map_err(|_| OrderError("login"))?;
        // A password is told to nobody who has not shown a certificate that was checked.
        if login.is_some() && proof.certificate_name().is_none() {
            return Err(OrderError("login"));
        }
        let network = |text: String| text.parse().map_err(|_| OrderError("allow_targets"));
        let anchor = |der: Bytes| CertificateDer::from(der.to_vec());
        let list = |der: Bytes| CertificateRevocationListDer::from(der.to_vec());
        Ok(Self {
            site,
            version: SiteVersion(plan.version),
            kind: plan.kind,
            hosts,
            terms: Arc::new(Terms {
                proof,
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
                tls,
                login,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(proof: Proof, more: pb::RoutePlan) -> Result<Plan, OrderError> {
        let host = pb::Host {
            host: "smtp.example.net".to_owned(),
            port: 587,
        };
        Plan::try_from(pb::RoutePlan {
            site: "smarthost".to_owned(),
            hosts: vec![host],
            proof: Some(proof.into()),
            ..more
        })
    }

    fn public() -> Proof {
        Proof::Public {
            name: "smtp.example.net".parse().unwrap(),
        }
    }

    #[test]
    fn a_login_is_for_a_host_that_shows_a_checked_certificate() {
        let login = |user: &str| pb::RoutePlan {
            login: Some(pb::Login {
                user: user.to_owned(),
                password: "secret".to_owned(),
            }),
            ..pb::RoutePlan::default()
        };
        let plan = parsed(public(), login("us")).unwrap();
        assert_eq!(plan.way.login.as_ref().map(Login::user), Some("us"));
        assert!(!format!("{plan:?}").contains("secret"));
        let any_key = Proof::Fingerprint {
            listed: [dd_proto::fingerprint::Fingerprint([0; 32])].into(),
        };
        for proof in [Proof::Configured, Proof::Port, any_key] {
            let refused = parsed(proof, login("us"));
            assert_eq!(refused, Err(OrderError("login")));
        }
        assert_eq!(parsed(public(), login("")), Err(OrderError("login")));
    }

    #[test]
    fn only_the_smarthost_may_do_without_tls_that_is_offered() {
        let no_tls = |tls_on_connect| pb::RoutePlan {
            no_tls: true,
            tls_on_connect,
            ..pb::RoutePlan::default()
        };
        let plan = parsed(Proof::Configured, no_tls(false)).unwrap();
        assert_eq!(plan.asks(AskTls::Expected), AskTls::Not);
        for (proof, on_connect) in [(public(), false), (Proof::Configured, true)] {
            assert_eq!(parsed(proof, no_tls(on_connect)), Err(OrderError("no_tls")));
        }
    }
}

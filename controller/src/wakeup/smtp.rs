//! The door ETRN: RFC 1985, over the intake listeners.
//!
//! Who has proved to be the site gets the truth: by AUTH, by the site's own certificate in the TLS handshake, or, where
//! the site's proof is *static-ip*, by a listed address. Everybody else always gets the same 250, and a release that is
//! coalesced. A dynamic address proves nothing: it may have another owner by now.
//!
//! # Invariants
//! What a stranger is told does not depend on what exists; nor does how soon, but for the time of one judgement, where it
//! shows a certificate that carries the name of a site.

use std::net::IpAddr;
use std::sync::Arc;

use dd_proto::domain::Domain;
use dd_proto::name::SiteName;
use dd_proto::site::{Proof, Site};

use super::certificate::{self, Look};
use super::members::SignIn;
use super::{Asker, Door, NotReleased, Wakeup};
use crate::dispatch::Released;
use crate::intake::member::{Answering, AuthAnswer, EtrnAnswer, Gatekeeper, Shown};
use crate::registry::Registry;

/// An `@domain` of a stranger means at most so many sites.
const MOST_BELOW: usize = 16;

impl Gatekeeper for Wakeup {
    fn etrn<'a>(&'a self, node: &'a str, shown: &'a Shown) -> Answering<'a, EtrnAnswer> {
        Box::pin(self.answer(node, shown))
    }

    fn sign_in<'a>(
        &'a self,
        user: &'a str,
        password: String,
        client: IpAddr,
    ) -> Answering<'a, AuthAnswer> {
        Box::pin(async move {
            let signing_in = self.members().sign_in(user, password, client, Door::Smtp);
            match signing_in.await {
                SignIn::As(site) => {
                    let client = client.to_canonical();
                    tracing::info!(site = %site.name, %client, "signed in over SMTP");
                    AuthAnswer::As(site.name.clone())
                }
                SignIn::Wrong => AuthAnswer::Wrong,
                SignIn::TooOften(_) | SignIn::Busy => AuthAnswer::NotNow,
            }
        })
    }
}

impl Wakeup {
    async fn answer(&self, node: &str, shown: &Shown) -> EtrnAnswer {
        match &shown.signed_in {
            Some(name) => match self.registry().site(name) {
                Some(own) if means(node, &own) => self.release_own(name, shown.client).await,
                _ => EtrnAnswer::NotAllowed,
            },
            None if self.stranger_may(shown.client) => self.answer_unsigned(node, shown).await,
            None => EtrnAnswer::Started,
        }
    }

    /// Whoever has not signed in may have proved to be one of the sites that it means.
    async fn answer_unsigned(&self, node: &str, shown: &Shown) -> EtrnAnswer {
        let meant = meant(node, self.registry());
        if let Some(own) = meant.iter().find(|site| self.is_proved(site, shown)) {
            return self.release_own(&own.name, shown.client).await;
        }
        for site in &meant {
            self.knock(&site.name, shown.client);
        }
        EtrnAnswer::Started
    }

    fn is_proved(&self, site: &Site, shown: &Shown) -> bool {
        if let Proof::StaticIp { addresses, .. } = &site.proof
            && addresses.contains(&shown.client.to_canonical())
        {
            return true;
        }
        match certificate::look(site, &shown.certificates) {
            Look::Is => true,
            Look::IsNot => false,
            Look::CouldBe => self.is_certified(site, shown.client, &shown.certificates),
        }
    }

    async fn release_own(&self, site: &SiteName, client: IpAddr) -> EtrnAnswer {
        let asker = Asker::Member {
            client,
            door: Door::Smtp,
        };
        match self.release(site, &asker, None).await {
            Ok(Released::NothingWaiting) => EtrnAnswer::NothingWaiting,
            Ok(Released::Held { by, .. }) => EtrnAnswer::CannotNow(format!("held by {by}")),
            Ok(Released::Done { waiting }) if self.knows_all() => {
                EtrnAnswer::Pending(Some(waiting))
            }
            Ok(_) => EtrnAnswer::Pending(None),
            Err(NotReleased::TooOften(_)) => EtrnAnswer::CannotNow("asked too often".to_owned()),
            Err(NotReleased::Unknown) => EtrnAnswer::NotAllowed,
        }
    }
}

/// Whether a member who asks for this node means its own site.
fn means(node: &str, own: &Site) -> bool {
    let is_name = |name: &str| name.parse().is_ok_and(|name: SiteName| name == own.name);
    match node.split_at_checked(1) {
        Some(("#", name)) => is_name(name),
        Some(("@", domain)) => domain.parse().is_ok_and(|domain: Domain| {
            let lies_below = |it: &Domain| it.is_within(&domain);
            own.domains.iter().any(lies_below)
        }),
        _ => {
            node.parse()
                .is_ok_and(|it: Domain| own.domains.contains(&it))
                || is_name(node)
        }
    }
}

/// RFC 1985 §5.3: a host name; `@` and a domain whose subdomains are meant too; or `#` and the name of a queue, which
/// here is a site. A site's own name does as well.
fn meant(node: &str, registry: &Registry) -> Vec<Arc<Site>> {
    let by_name = |name: &str| registry.site(&name.parse().ok()?);
    let by_domain = |domain: &str| registry.site_for(&domain.parse().ok()?);
    match node.split_at_checked(1) {
        Some(("#", name)) => by_name(name).into_iter().collect(),
        Some(("@", domain)) => match domain.parse() {
            Ok(domain) => registry.sites_below(&domain, MOST_BELOW),
            Err(_) => Vec::new(),
        },
        _ => by_domain(node)
            .or_else(|| by_name(node))
            .into_iter()
            .collect(),
    }
}

//! The door ETRN: RFC 1985, over the intake listeners.
//!
//! Who has proved to be the site gets the truth: by AUTH, by the site's own certificate in the TLS handshake, or, where
//! the site's proof is *static-ip*, by a listed address. Everybody else always gets the same 250, and a release that is
//! coalesced. A dynamic address proves nothing: it may have another owner by now.
//!
//! # Invariants
//! What a stranger is told, and how soon, does not depend on what exists.

use std::net::IpAddr;
use std::sync::Arc;

use dd_proto::name::SiteName;
use dd_proto::site::{Proof, Site};

use super::certificate::{self, Proves};
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
        if shown.signed_in.is_none() && !self.stranger_may(shown.client) {
            return EtrnAnswer::Started;
        }
        let meant = meant(node, self.registry());
        let own = meant.iter().find(|site| self.is_proved(site, shown));
        match (own, &shown.signed_in) {
            (Some(site), _) => self.release_own(&site.name, shown.client).await,
            (None, Some(_)) => EtrnAnswer::NotAllowed,
            (None, None) => {
                for site in &meant {
                    self.knock(&site.name, shown.client);
                }
                EtrnAnswer::Started
            }
        }
    }

    fn is_proved(&self, site: &Site, shown: &Shown) -> bool {
        if let Some(name) = &shown.signed_in {
            return *name == site.name;
        }
        if let Proof::StaticIp { addresses, .. } = &site.proof
            && addresses.contains(&shown.client.to_canonical())
        {
            return true;
        }
        let now = super::unix_time();
        let chain = &shown.certificates;
        certificate::is_of(site, chain, self.registry(), now) == Proves::Site
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

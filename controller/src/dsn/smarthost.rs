//! The built-in site: the provider's smarthost, through which notifications leave.
//!
//! # Invariants
//! It is in no registry, so nobody can add, change or remove it; its name is taken. It is known to dispatch from the
//! start, and held where the configuration names no smarthost: notifications wait then.

mod terms;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Duration;

use dd_proto::hold::HoldPeriods;
use dd_proto::id::SiteVersion;
use dd_proto::name::SiteName;
use dd_proto::site::{Hold, Host, HostName, KnownRecipients, Limits, Proof, Schedule, Site};
use jiff::Timestamp;

pub use self::terms::{Terms, TermsError};
use crate::config::Smarthost;

/// Its name. No member's site can have it.
pub const NAME: &str = "smarthost";

pub fn name() -> SiteName {
    NAME.parse().expect("it is a name")
}

/// What is wrong with a smarthost that is one of these listeners: every report would come back as mail, to be refused.
///
/// A name counts where it is this machine's whatever the name service says; for others the hops of a message tell.
pub fn is_ourselves(smarthost: &Smarthost, listeners: &[SocketAddr]) -> Option<String> {
    let Smarthost { host, port } = smarthost;
    let address = match host {
        HostName::Address(address) => Some(address.to_canonical()),
        HostName::Dns(name) if name.as_str() == "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
        HostName::Dns(_) => None,
    };
    let address = address?;
    let reaches = |listener: &&SocketAddr| {
        let bound = listener.ip().to_canonical();
        let everywhere = bound.is_unspecified() && address.is_loopback();
        listener.port() == port.get() && (bound == address || everywhere)
    };
    let listener = listeners.iter().find(reaches)?;
    Some(format!(
        "the smarthost is this controller's own listener {listener}: set `smarthost` in [notify] to the server through which mail leaves"
    ))
}

/// The site as this start knows it, without what [`Terms`] add to it. `version` differs from start to start, for the configuration may.
pub fn site(smarthost: Option<&Smarthost>, version: SiteVersion, now: Timestamp) -> Site {
    let (host, hold) = match smarthost {
        Some(Smarthost { host, port }) => (
            Host {
                name: host.clone(),
                port: *port,
            },
            None,
        ),
        None => (
            Host {
                name: HostName::Dns("smarthost.invalid".parse().expect("it is a name")),
                port: NonZeroU16::MIN,
            },
            Some(Hold {
                by: "the configuration, which names no smarthost".to_owned(),
                until: None,
                since: now,
            }),
        ),
    };
    Site {
        name: name(),
        version,
        domains: [].into(),
        known: KnownRecipients::Any,
        hosts: vec![host],
        proof: Proof::Configured,
        way: dd_proto::site::Way::default(),
        limits: Limits {
            connections: 2,
            max_message_bytes: None,
            quota_messages: None,
            quota_bytes: None,
        },
        schedule: Schedule {
            retry_interval: Duration::from_secs(3 * 60),
            lifetime: Duration::from_secs(14 * 86_400),
            // Nobody is warned about a notification.
            delay_warning: Duration::from_secs(14 * 86_400),
            outage_notice: None,
        },
        hold,
        held_before: HoldPeriods::default(),
        closing: false,
        contact: None,
        language: None,
        // It is the provider's own, wherever it lies.
        allow_targets: ["0.0.0.0/0", "::/0"]
            .map(|all| all.parse().expect("it is a network"))
            .to_vec(),
        agents: BTreeSet::new(),
        password_hash: None,
        wake_hash: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_listener_is_no_smarthost() {
        let of = |text: &[&str]| -> Vec<SocketAddr> {
            text.iter().map(|it| it.parse().unwrap()).collect()
        };
        for (smarthost, listeners, found) in [
            ("127.0.0.1:25", vec!["127.0.0.1:24", "127.0.0.1:25"], true),
            ("localhost:25", vec!["0.0.0.0:25"], true),
            ("[::1]:25", vec!["[::]:25"], true),
            ("192.0.2.1:25", vec!["192.0.2.1:25"], true),
            ("127.0.0.1:25", vec!["127.0.0.1:2525"], false),
            ("192.0.2.2:25", vec!["0.0.0.0:25"], false),
            ("smtp.example.net:25", vec!["0.0.0.0:25"], false),
        ] {
            let smarthost = smarthost.parse().unwrap();
            let said = is_ourselves(&smarthost, &of(&listeners));
            assert_eq!(said.is_some(), found, "{smarthost:?} {listeners:?}");
        }
    }
}

//! The built-in site: the provider's smarthost, through which notifications leave.
//!
//! # Invariants
//! It is in no registry, so nobody can add, change or remove it; its name is taken. It is known to dispatch from the
//! start, and held where the configuration names no smarthost: notifications wait then.

use std::collections::BTreeSet;
use std::num::NonZeroU16;
use std::time::Duration;

use dd_proto::hold::HoldPeriods;
use dd_proto::id::SiteVersion;
use dd_proto::name::SiteName;
use dd_proto::site::{Hold, Host, HostName, KnownRecipients, Limits, Proof, Schedule, Site};
use jiff::Timestamp;

use crate::config::Smarthost;

/// Its name. No member's site can have it.
pub const NAME: &str = "smarthost";

pub fn name() -> SiteName {
    NAME.parse().expect("it is a name")
}

/// The site as this start knows it. `version` differs from start to start, for the configuration may.
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
        },
        hold,
        held_before: HoldPeriods::default(),
        closing: false,
        contact: None,
        // It is the provider's own, wherever it lies.
        allow_targets: ["0.0.0.0/0", "::/0"]
            .map(|all| all.parse().expect("it is a network"))
            .to_vec(),
        agents: BTreeSet::new(),
        password_hash: None,
        wake_hash: None,
    }
}

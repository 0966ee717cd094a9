//! A site's record as the tests have it.

use std::collections::BTreeSet;
use std::num::NonZeroU16;
use std::time::Duration;

use dd_proto::hold::HoldPeriods;
use dd_proto::id::SiteVersion;
use dd_proto::site::{Host, HostName, KnownRecipients, Limits, Proof, Schedule, Site};

pub(crate) fn site(n: u64) -> Site {
    Site {
        name: format!("site{n}").parse().unwrap(),
        version: SiteVersion(n),
        domains: BTreeSet::new(),
        known: KnownRecipients::Any,
        hosts: vec![Host {
            name: HostName::Address([127, 0, 0, 1].into()),
            port: NonZeroU16::new(2525).unwrap(),
        }],
        proof: Proof::Port,
        way: dd_proto::site::Way::default(),
        limits: Limits {
            connections: 1,
            max_message_bytes: None,
            quota_messages: None,
            quota_bytes: None,
        },
        schedule: Schedule {
            retry_interval: Duration::from_secs(60),
            lifetime: Duration::from_secs(86400),
            delay_warning: Duration::from_secs(3600),
            outage_notice: None,
        },
        hold: None,
        held_before: HoldPeriods::default(),
        closing: false,
        contact: None,
        language: None,
        allow_targets: Vec::new(),
        agents: Default::default(),
        password_hash: None,
        wake_hash: None,
    }
}

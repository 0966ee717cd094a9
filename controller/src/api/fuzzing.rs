//! What agents say, from bytes on: see [`crate::fuzzing`].

use std::collections::BTreeSet;
use std::sync::Arc;

use dd_proto::convert::ConvertError;
use dd_proto::envelope::{Body, Encoding, Envelope, Recipient};
use dd_proto::id::{DeliveryId, Generation, Lease, MessageId, RecipientNumber, SiteVersion};
use dd_proto::path::ReversePath;
use dd_proto::pb;
use dd_proto::pb::agent_event::Event;

use super::door::{self, Door};
use super::order;
use crate::config::SiteDefaults;
use crate::dispatch::{Assignment, Order};
use crate::registry::check::{Surroundings, check};

/// An event on a stream that was given one assignment: message 0…0 for the site `home`, recipients 0 and 1.
///
/// # Errors
/// It is refused, in words.
pub fn judge(mut event: Event) -> Result<(), String> {
    let stream = Door::default();
    for order in given().into_iter().flatten() {
        stream.gave(&order);
    }
    let about = door::about(&event);
    stream
        .judge(&mut event)
        .map_err(|refused| refused.fault.to_string())?;
    let taken = order::event(event).map(drop);
    taken.map_err(|ConvertError(field)| door::not_understood(&about, field).to_string())
}

/// A report from a journal.
///
/// # Errors
/// It is nobody's, in words.
pub fn journaled(report: pb::Report) -> Result<(), String> {
    let taken = door::journaled(report).map(drop);
    taken.map_err(|fault| fault.to_string())
}

fn given() -> Option<[Order; 2]> {
    let spec = pb::SiteSpec {
        name: "home".to_owned(),
        domains: vec!["home.example".to_owned()],
        hosts: vec![pb::Host {
            host: "192.0.2.7".to_owned(),
            port: 25,
        }],
        proof: Some(pb::Proof {
            kind: Some(pb::proof::Kind::StaticIp(pb::proof::StaticIp {
                addresses: vec!["192.0.2.7".to_owned()],
                certificate: None,
            })),
        }),
        ..pb::SiteSpec::default()
    };
    let around = Surroundings {
        defaults: SiteDefaults::default(),
        has_authority: &|_| false,
        own_authorities: &BTreeSet::new,
        has_agent: &|_| false,
        owner: &|_| None,
    };
    let site = check(&spec, &around).ok()?;
    let recipient = |number| {
        Some(Recipient {
            number: RecipientNumber(number),
            path: "a@home.example".parse().ok()?,
            notify: None,
            orcpt: None,
        })
    };
    let assignment = Assignment {
        lease: Lease {
            delivery: DeliveryId {
                message: MessageId::from_bytes([0; 16]),
                site: site.name.clone(),
            },
            generation: Generation {
                start: 1,
                counter: 1,
            },
        },
        version: SiteVersion::default(),
        envelope: Envelope {
            reverse_path: ReversePath::Null,
            body: Body::SevenBit,
            encoding: Encoding::Ascii,
            ret: None,
            envid: None,
            recipients: vec![recipient(0)?, recipient(1)?],
            client: None,
        },
        bytes: 1,
        content: None,
        in_doubt: false,
        fresh: false,
    };
    Some([
        Order::Plan(Arc::new(site)),
        Order::Assign(Box::new(assignment)),
    ])
}

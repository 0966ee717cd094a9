//! What the controller sends, as far as this agent can read it.
//!
//! # Invariants
//! An order that cannot be read costs only itself: to end the stream for it would cost everybody's mail, for the order would
//! come again on the next one. So reading is all that can fail, and it is done before anything is changed.
//!
//! # Not here
//! Plans and assignments are read where they are used, for what cannot be read of them is answered ([`super::assigned`]).

use std::time::{Duration, Instant};

use dd_proto::id::Lease;
use dd_proto::name::SiteName;
use dd_proto::pb;
use dd_proto::pb::order::Order;

use crate::plan::OrderError;

/// How long nothing more is said of such orders after a line.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// An order whose names and leases could be read.
#[derive(Debug, PartialEq)]
pub(super) enum Readable {
    Welcome(pb::Welcome),
    Plan(Box<pb::RoutePlan>),
    Assignment(Lease, Box<pb::Assignment>),
    BeatAnswer(u64),
    Acknowledged(Lease),
    Check(Box<pb::Check>),
    CloseSite(SiteName),
    Forbid(Vec<String>),
    Recall(SiteName),
}

impl Readable {
    /// # Errors
    /// What of it is missing or malformed.
    pub(super) fn of(order: Order) -> Result<Self, OrderError> {
        Ok(match order {
            Order::Welcome(welcome) => Self::Welcome(welcome),
            Order::RoutePlan(plan) => Self::Plan(plan),
            Order::Assignment(assignment) => {
                Self::Assignment(lease(assignment.lease.clone())?, assignment)
            }
            Order::BeatAnswer(answer) => Self::BeatAnswer(answer.number),
            Order::Acknowledged(acknowledged) => Self::Acknowledged(lease(acknowledged.lease)?),
            Order::Check(check) => Self::Check(check),
            Order::CloseSite(close) => Self::CloseSite(site(&close.site)?),
            Order::ForbiddenNetworks(forbidden) => Self::Forbid(forbidden.networks),
            Order::Recall(recall) => Self::Recall(site(&recall.site)?),
        })
    }
}

fn lease(lease: Option<pb::Lease>) -> Result<Lease, OrderError> {
    let lease = lease.ok_or(OrderError("lease"))?;
    lease.try_into().map_err(|_| OrderError("lease"))
}

fn site(name: &str) -> Result<SiteName, OrderError> {
    name.parse().map_err(|_| OrderError("site"))
}

/// The leases of Welcome that can be read: what it does not name is dropped before its dot, and so is what nobody can read.
pub(super) fn going_on(leases: &[pb::Lease]) -> (Vec<Lease>, usize) {
    let read = leases.iter().cloned().map(Lease::try_from);
    let read: Vec<Lease> = read.flatten().collect();
    let unread = leases.len() - read.len();
    (read, unread)
}

/// Orders that could not be read, as the log has them.
#[derive(Debug, Default)]
pub(super) struct Unread {
    said: Option<Instant>,
    unsaid: u64,
}

impl Unread {
    /// Another one. How many were not said since the last line, where there is to be one.
    pub(super) fn is_said(&mut self, now: Instant) -> Option<u64> {
        let soon = |said: Instant| now.saturating_duration_since(said) < SAY_AGAIN;
        if self.said.is_some_and(soon) {
            self.unsaid += 1;
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::now;

    fn malformed() -> pb::Lease {
        pb::Lease {
            site: "no site's name".to_owned(),
            ..good()
        }
    }

    fn good() -> pb::Lease {
        crate::lease::tests::lease(1).into()
    }

    /// One of each kind, without a name or lease that could be read.
    fn unreadable(kind: &Order) -> Order {
        let site = "no site's name".to_owned();
        match kind {
            Order::Welcome(_) => Order::Welcome(pb::Welcome {
                going_on: vec![malformed(), good()],
                ..pb::Welcome::default()
            }),
            Order::RoutePlan(_) => Order::RoutePlan(Box::new(pb::RoutePlan {
                site,
                ..pb::RoutePlan::default()
            })),
            Order::Assignment(_) => Order::Assignment(Box::new(pb::Assignment {
                lease: Some(malformed()),
                ..pb::Assignment::default()
            })),
            Order::BeatAnswer(_) => Order::BeatAnswer(pb::BeatAnswer { number: u64::MAX }),
            Order::Acknowledged(_) => Order::Acknowledged(pb::Acknowledged {
                lease: Some(malformed()),
            }),
            Order::CloseSite(_) => Order::CloseSite(pb::CloseSite { site }),
            Order::Recall(_) => Order::Recall(pb::Recall { site }),
            Order::ForbiddenNetworks(_) => Order::ForbiddenNetworks(pb::ForbiddenNetworks {
                networks: vec!["no network".to_owned()],
            }),
            Order::Check(_) => Order::Check(Box::default()),
        }
    }

    #[test]
    fn of_every_kind_of_order_what_cannot_be_read_is_known_before_it_is_obeyed() {
        let (lease, site) = (Err(OrderError("lease")), Err(OrderError("site")));
        for (kind, expected) in [
            // Read where they are used; there nothing fails.
            (Order::Welcome(pb::Welcome::default()), Ok(())),
            (Order::RoutePlan(Box::default()), Ok(())),
            (Order::BeatAnswer(pb::BeatAnswer::default()), Ok(())),
            (
                Order::ForbiddenNetworks(pb::ForbiddenNetworks::default()),
                Ok(()),
            ),
            (Order::Check(Box::default()), Ok(())),
            (Order::Assignment(Box::default()), lease.clone()),
            (Order::Acknowledged(pb::Acknowledged::default()), lease),
            (Order::CloseSite(pb::CloseSite::default()), site.clone()),
            (Order::Recall(pb::Recall::default()), site),
        ] {
            let wrong = unreadable(&kind);
            assert_eq!(
                Readable::of(wrong.clone()).map(|_| ()),
                expected,
                "{wrong:?}"
            );
            // Nor where all of it is missing.
            assert_eq!(Readable::of(kind.clone()).map(|_| ()), expected, "{kind:?}");
        }
    }

    #[test]
    fn of_welcome_the_leases_go_on_that_can_be_read() {
        let (read, unread) = going_on(&[malformed(), good()]);
        assert_eq!((read, unread), (vec![crate::lease::tests::lease(1)], 1));
    }

    #[test]
    fn orders_that_cannot_be_read_are_said_once_a_minute() {
        let (mut unread, began) = (Unread::default(), now());
        for (second, said) in [
            (0, Some(0)),
            (1, None),
            (59, None),
            (60, Some(2)),
            (61, None),
        ] {
            let at = began + Duration::from_secs(second);
            assert_eq!(unread.is_said(at), said, "{second}");
        }
    }
}

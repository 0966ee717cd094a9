//! The way to one host of a site: what is tried is an *address*.
//!
//! Resolve, connect, prove; and where that comes to nothing the same with the next address (RFC 5321 §5.1). Here the
//! proof decides whether an address is the site: one that does not answer, that is somebody else, or at which the site
//! turns us away is followed by those that are left. All of them share the time of one ([`Patience`](crate::visits::Patience)).
//!
//! # Invariants
//! - No address is tried twice, but for a second connection without TLS, which goes to the same one.
//! - An address from the cache that comes to nothing is followed by a fresh question before anything else is tried.
//!
//! # Not here
//! Which host is next ([`crate::attempt`]); what a failure means ([`crate::session::outcome`]).

use std::net::IpAddr;
use std::time::Duration;

use dd_proto::report::{Observed, Outcome};
use dd_proto::site::Host;

use crate::agent::{Agent, now};
use crate::client_certificate::Shown;
use crate::connect::{CONNECT_TIMEOUT, ConnectError, Connection, Reached, connect};
use crate::live::{self, Live};
use crate::plan::Plan;
use crate::proof::{Refusal, Seen, may_be_proved, proof_for, reason_for};
use crate::resolve::{Found, Freshness, News, ResolveError};
use crate::session::outcome::{Cause, Phase, Standing, Verdict, verdict};
use crate::session::{AskTls, Opening, Unproved};
use crate::tried::{Missed, Tried};
use crate::visits::Vain;

/// An address from the cache may be yesterday's: when it has not answered by then, DNS is asked again first.
const FROM_CACHE: Duration = Duration::from_secs(2);

/// The way to one host.
#[derive(Debug)]
pub struct Way<'a> {
    agent: &'a Agent,
    plan: &'a Plan,
    host: &'a Host,
    tls: AskTls,
    shown: Shown,
    hosts_left: usize,
    /// By sessions that came to nothing.
    spent: Duration,
    vain: Vain,
}

impl<'a> Way<'a> {
    /// `hosts_left`: how many the site has besides.
    pub fn new(
        agent: &'a Agent,
        plan: &'a Plan,
        host: &'a Host,
        tls: AskTls,
        hosts_left: usize,
    ) -> Self {
        Self {
            agent,
            plan,
            host,
            tls: plan.asks(tls),
            shown: None,
            hosts_left,
            spent: Duration::ZERO,
            vain: Vain::Answered,
        }
    }

    /// One address after the other, until one is the site. None where none was; `tried` has why.
    pub async fn walk(mut self, freshness: Freshness, tried: &mut Tried) -> Option<Live> {
        match self.agent.to_be_shown(self.plan).await {
            Ok(shown) => self.shown = shown,
            Err(error) => {
                self.unreached(Cause::Own, &error, tried);
                return None;
            }
        }
        // Until an address has proved to be the site, or none has.
        let _probe = self.agent.probes.take().await;
        let live = self.addresses(freshness, tried).await;
        if live.is_none() {
            self.agent.visits.host_in_vain(self.host, self.vain, now());
        }
        live
    }

    async fn addresses(&mut self, freshness: Freshness, tried: &mut Tried) -> Option<Live> {
        let (resolver, began) = (&self.agent.resolver, now());
        let mut list = List::default();
        let family = self.plan.way.family;
        match resolver.addresses(&self.host.name, family, freshness).await {
            Ok(found) => list.take(self, found),
            Err(error) => {
                let took = now().saturating_duration_since(began);
                self.vain = vain(took >= self.agent.visits.patience.at_least);
                self.unreached(Cause::Closed, &error, tried);
                return None;
            }
        }
        loop {
            while list.left.is_empty() {
                if list.news == News::Whole {
                    return None;
                }
                list.ask_again(self, tried).await;
            }
            if let Some(live) = self.next_address(&mut list, tried).await {
                return Some(live);
            }
            if list.news == News::Cached {
                list.ask_again(self, tried).await;
            }
        }
    }

    /// Connects to whichever of the addresses answers first, and lets it prove itself.
    async fn next_address(&mut self, list: &mut List, tried: &mut Tried) -> Option<Live> {
        let limit = match list.news {
            News::Cached => FROM_CACHE,
            News::Half | News::Whole => CONNECT_TIMEOUT,
        };
        let Reached { connection, failed } = self.connect(&list.left, limit).await;
        for (address, error) in failed {
            if list.news == News::Cached && error.is_silence() {
                continue;
            }
            let vain = vain(error.is_silence());
            self.in_vain(address, vain);
            list.strike(address);
            self.unreached(cause_of_error(&error), &error, tried);
        }
        let connection = connection?;
        let address = connection.peer.ip();
        list.reached(address);
        let others = list.left.len() + self.hosts_left + usize::from(list.news != News::Whole);
        let (patience, began) = (self.agent.visits.patience.share(self.spent, others), now());
        match self.one_address(connection, patience).await {
            Ok(live) => {
                self.agent.visits.proved(self.host, address);
                Some(live)
            }
            Err((verdict, missed)) => {
                let took = now().saturating_duration_since(began);
                self.spent += took;
                self.in_vain(address, vain(took >= patience));
                tried.add(verdict, missed);
                None
            }
        }
    }

    /// Where a handshake fails on which the proof does not rest, the same address is asked again without TLS.
    async fn one_address(
        &mut self,
        connection: Connection,
        patience: Duration,
    ) -> Result<Live, (Verdict, Missed)> {
        let address = connection.peer.ip();
        match self.session(connection, self.tls, patience).await {
            Err((Verdict::WithoutTls, missed)) if self.tls == AskTls::WhereOffered => {
                let note = format!("without TLS, for: {}", missed.detail);
                let mut reached = self.connect(&[address], CONNECT_TIMEOUT).await;
                let Some(connection) = reached.connection else {
                    let (_, error) = reached.failed.remove(0);
                    return Err(unreached(
                        self.plan,
                        self.host,
                        cause_of_error(&error),
                        &error,
                    ));
                };
                let mut live = self.session(connection, AskTls::Not, patience).await?;
                live.note = note;
                Ok(live)
            }
            ended => ended,
        }
    }

    async fn session(
        &self,
        connection: Connection,
        ask_tls: AskTls,
        patience: Duration,
    ) -> Result<Live, (Verdict, Missed)> {
        let (agent, plan) = (self.agent, self.plan);
        let seen = Seen::new(self.host.clone(), connection.peer, connection.local);
        let opening = Opening::new(plan.terms.clone(), agent.helo.clone(), ask_tls, seen);
        let opening = opening.speaking(plan.way.speaks).logging_in(&plan.way);
        let opening = opening.with_patience(patience);
        let (tls, terms) = (&agent.tls, &plan.terms);
        let opening = live::open(connection.stream, opening, tls, terms, &self.shown);
        match opening.await {
            Ok(mut live) => {
                live.wire.hands_over(&agent.slots, &agent.probes);
                Ok(live)
            }
            Err(unproved) => Err(missed(plan, *unproved)),
        }
    }

    async fn connect(&self, addresses: &[IpAddr], limit: Duration) -> Reached {
        let (rules, allowed) = (self.agent.rules(), &self.plan.allow_targets);
        connect(
            &self.agent.sources,
            addresses,
            self.host.port,
            &rules,
            allowed,
            limit,
        )
        .await
    }

    fn in_vain(&mut self, address: IpAddr, vain: Vain) {
        self.vain = self.vain.max(vain);
        self.agent.visits.in_vain(self.host, address, vain, now());
    }

    fn unreached(&self, cause: Cause, error: &dyn std::error::Error, tried: &mut Tried) {
        let (verdict, missed) = unreached(self.plan, self.host, cause, error);
        tried.add(verdict, missed);
    }
}

/// A host's addresses that are still to be tried.
#[derive(Debug)]
struct List {
    left: Vec<IpAddr>,
    struck: Vec<IpAddr>,
    news: News,
}

impl Default for List {
    fn default() -> Self {
        Self {
            left: Vec::new(),
            struck: Vec::new(),
            news: News::Whole,
        }
    }
}

impl List {
    /// What is newer counts alone; nothing is tried twice.
    fn take(&mut self, way: &Way<'_>, found: Found) {
        let mut left = found.addresses;
        left.retain(|it| !self.struck.contains(it));
        way.agent.visits.order(way.host, &mut left, now());
        self.left = may_be_proved(&way.plan.terms, left);
        self.news = found.news;
    }

    /// Asks DNS once more where that can tell anything new: about addresses that came from the cache, or about the
    /// family that had not answered.
    async fn ask_again(&mut self, way: &Way<'_>, tried: &mut Tried) {
        let (resolver, name) = (&way.agent.resolver, &way.host.name);
        let family = way.plan.way.family;
        let asked = match self.news {
            News::Cached => resolver.addresses(name, family, Freshness::Fresh).await,
            News::Half | News::Whole => resolver.all_addresses(name, family).await,
        };
        match asked {
            Ok(found) => self.take(way, found),
            Err(error) => {
                // Where nobody answers, what was known is all there is; that there are none any more is news.
                if !matches!(error, ResolveError::Unanswered { .. }) {
                    self.left.clear();
                }
                self.news = News::Whole;
                way.unreached(Cause::Closed, &error, tried);
            }
        }
    }

    /// Those that were asked before it and have neither answered nor failed come last.
    fn reached(&mut self, address: IpAddr) {
        let hang = self.left.iter().position(|it| *it == address);
        self.left.rotate_left(hang.unwrap_or(0));
        self.strike(address);
    }

    fn strike(&mut self, address: IpAddr) {
        self.left.retain(|it| *it != address);
        self.struck.push(address);
    }
}

fn vain(silent: bool) -> Vain {
    match silent {
        true => Vain::Silent,
        false => Vain::Answered,
    }
}

fn unreached(
    plan: &Plan,
    host: &Host,
    cause: Cause,
    error: &dyn std::error::Error,
) -> (Verdict, Missed) {
    let verdict = verdict(Phase::Connect, cause, Standing::Unproved);
    let observed = Observed {
        host: host.to_string(),
        proof: proof_for(&plan.terms).kind().to_owned(),
        ..Observed::default()
    };
    let missed = Missed {
        outcome: outcome_of(verdict),
        detail: error.to_string(),
        observed,
        reply: None,
    };
    (verdict, missed)
}

fn cause_of_error(error: &ConnectError) -> Cause {
    match error.is_own_trouble() {
        true => Cause::Own,
        false => Cause::Closed,
    }
}

fn missed(plan: &Plan, unproved: Unproved) -> (Verdict, Missed) {
    let Unproved { failure, seen } = unproved;
    let reason = |refusal: &Refusal| reason_for(refusal, &plan.terms, &seen);
    let refusal = failure.refusal.as_ref().map(reason);
    let missed = Missed {
        outcome: outcome_of(failure.verdict),
        detail: failure.detail,
        observed: seen.to_observed(proof_for(&plan.terms).kind(), refusal),
        reply: failure.reply,
    };
    (failure.verdict, missed)
}

fn outcome_of(verdict: Verdict) -> Outcome {
    match verdict {
        Verdict::NextHost(outcome) | Verdict::Ends(outcome) => outcome,
        Verdict::WithoutTls | Verdict::Recipients(_) => Outcome::Broken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hung_while_another_answered_comes_last() {
        let ip = |last: u8| IpAddr::from([192, 0, 2, last]);
        let mut list = List {
            left: [1, 2, 3, 4, 5].map(ip).into(),
            ..List::default()
        };
        list.strike(ip(2));
        list.reached(ip(4));
        assert_eq!(list.left, [5, 1, 3].map(ip));
        list.reached(ip(5));
        assert_eq!(list.left, [1, 3].map(ip));
        assert_eq!(list.struck, [2, 4, 5].map(ip));
    }
}

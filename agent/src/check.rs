//! A look at a site as an attempt would take it, step by step, up to the proof and the EHLO behind it. No mail and no
//! envelope is sent.
//!
//! # Invariants
//! It goes through the same resolver, target rules, session and proofs as an attempt; only the telling is its own. It takes
//! a probe for each address, as an attempt does, so that checks and attempts together connect no more than the agent may.
//!
//! # Not here
//! Who asks, and what all agents said together: the controller.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dd_proto::pb;
use dd_proto::pb::check_step::Result as Step;
use dd_proto::report::Observed;
use dd_proto::site::{Host, TlsBegins};
use dd_proto::smtp::extensions::SizeOffer;
use dd_proto::units::is_endless;
use jiff::Timestamp;
use tokio::task::JoinSet;

use crate::agent::{Agent, now, wall};
use crate::client_certificate::Shown;
use crate::connect::{CONNECT_TIMEOUT, Connection, connect};
use crate::live::{self, Live};
use crate::plan::Plan;
use crate::proof::observed::describe;
use crate::proof::{Checked, Refusal, Seen, Terms, TlsSeen, TlsUse, proof_for, reason_for};
use crate::resolve::{Found, Freshness, News};
use crate::session::outcome::{Cause, Phase, Verdict};
use crate::session::{AskTls, Opening, Unproved};

/// For one host and all its addresses, whatever they do, and with the wait for a probe.
const LIMIT: Duration = Duration::from_secs(30);
const NO_PROBE: &str = "all probes of this agent are taken by other sites that do not answer: nothing was tried within 30 seconds";
/// At most this many of a host's addresses are looked at, side by side.
const MAX_ADDRESSES: usize = 16;

/// Every address of every host of the plan, side by side, in the plan's order; asking for TLS as an attempt would.
pub async fn all_hosts(agent: &Arc<Agent>, plan: &Plan, tls: AskTls) -> Vec<pb::HostCheck> {
    let hosts = plan.hosts.iter().cloned();
    let looks = hosts.map(|host| {
        let (agent, plan) = (Arc::clone(agent), plan.clone());
        async move { one_host(&agent, &plan, &host, tls).await }
    });
    side_by_side(looks).await.into_iter().flatten().collect()
}

async fn one_host(agent: &Arc<Agent>, plan: &Plan, host: &Host, tls: AskTls) -> Vec<pb::HostCheck> {
    let began = now();
    let mut look = Look::new(host, began);
    let (resolver, family) = (&agent.resolver, plan.way.family);
    let resolving = resolver.addresses(&host.name, family, Freshness::Fresh);
    let found = match tokio::time::timeout(LIMIT, resolving).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            look.step("resolve", Step::Bad, error.to_string());
            return vec![look.ended(now())];
        }
        Err(_) => {
            look.out_of_time();
            return vec![look.ended(now())];
        }
    };
    look.step("resolve", Step::Good, in_words(&found));
    let addresses = found.addresses.iter().take(MAX_ADDRESSES).copied();
    let looks = addresses.map(|address| {
        let (agent, plan, host) = (Arc::clone(agent), plan.clone(), host.clone());
        let mut look = look.at(address, &plan, &host);
        async move {
            let deadline = tokio::time::Instant::from(began + LIMIT);
            // Before a probe is taken, which sites need that have all they need to be reached.
            let asking = tokio::time::timeout_at(deadline, agent.to_be_shown(&plan));
            let shown = match asking.await {
                Ok(Ok(shown)) => shown,
                Ok(Err(error)) => {
                    look.step("connect", Step::Bad, error.to_string());
                    return look.ended(now());
                }
                Err(_) => {
                    look.out_of_time();
                    return look.ended(now());
                }
            };
            let Ok(_probe) = tokio::time::timeout_at(deadline, agent.probes.take()).await else {
                look.step("connect", Step::Bad, NO_PROBE);
                return look.ended(now());
            };
            let looking = look.take(&agent, &plan, &host, address, tls, &shown);
            if tokio::time::timeout_at(deadline, looking).await.is_err() {
                look.out_of_time();
            }
            look.ended(now())
        }
    });
    side_by_side(looks).await
}

/// What comes of each, in the order of the list.
async fn side_by_side<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    looks: impl Iterator<Item = F>,
) -> Vec<T> {
    let mut looking = JoinSet::new();
    for (index, look) in looks.enumerate() {
        looking.spawn(async move { (index, look.await) });
    }
    let mut looked = Vec::new();
    while let Some(ended) = looking.join_next().await {
        match ended {
            Ok(ended) => looked.push(ended),
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }
    looked.sort_by_key(|(index, _)| *index);
    looked.into_iter().map(|(_, it)| it).collect()
}

fn in_words(found: &Found) -> String {
    let listed: Vec<String> = found.addresses.iter().map(ToString::to_string).collect();
    let note = match (&found.unanswered, found.news) {
        (Some(why), _) => format!("; the other family of addresses cannot be looked up: {why}"),
        (None, News::Half) => {
            "; the name server has not answered for the other family of addresses yet".to_owned()
        }
        (None, News::Whole | News::Cached) => String::new(),
    };
    let beyond = match found.addresses.len() {
        ..=MAX_ADDRESSES => String::new(),
        _ => format!("; the first {MAX_ADDRESSES} are looked at"),
    };
    listed.join(", ") + &beyond + &note
}

/// What was found so far.
#[derive(Clone)]
struct Look {
    check: pb::HostCheck,
    began: Instant,
    /// The handshake comes before the banner.
    tls_on_connect: bool,
}

impl Look {
    fn new(host: &Host, began: Instant) -> Self {
        let check = pb::HostCheck {
            host: host.to_string(),
            ..pb::HostCheck::default()
        };
        Self {
            check,
            began,
            tls_on_connect: false,
        }
    }

    /// At one of the host's addresses it goes on from here.
    fn at(&self, address: IpAddr, plan: &Plan, host: &Host) -> Self {
        let mut look = self.clone();
        let observed = Observed {
            host: host.to_string(),
            peer: SocketAddr::new(address.to_canonical(), host.port.get()).to_string(),
            proof: proof_for(&plan.terms).kind().to_owned(),
            ..Observed::default()
        };
        look.check.observed = Some(observed.into());
        look.tls_on_connect = plan.way.tls == TlsBegins::OnConnect;
        look
    }

    /// The first step that was not taken is the one that took so long.
    fn out_of_time(&mut self) {
        let next = match self.tls_on_connect {
            true => ["resolve", "connect", "starttls", "banner"],
            false => ["resolve", "connect", "banner", "starttls"],
        };
        let next = next
            .into_iter()
            .find(|name| self.check.steps.iter().all(|step| step.name != *name))
            .unwrap_or("proof");
        let detail = format!("nothing more came within {} seconds", LIMIT.as_secs());
        self.step(next, Step::Bad, detail);
    }

    fn step(&mut self, name: &str, result: Step, detail: impl Into<String>) {
        self.check.steps.push(pb::CheckStep {
            name: name.to_owned(),
            result: result.into(),
            detail: detail.into(),
        });
    }

    fn ended(mut self, at: Instant) -> pb::HostCheck {
        let took = at.saturating_duration_since(self.began);
        self.check.total_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let bad = self
            .check
            .steps
            .iter()
            .find(|step| step.result() == Step::Bad);
        if let (Some(bad), true) = (bad, self.check.sentence.is_empty()) {
            self.check.sentence.clone_from(&bad.detail);
        }
        self.check
    }

    async fn take(
        &mut self,
        agent: &Agent,
        plan: &Plan,
        host: &Host,
        address: IpAddr,
        tls: AskTls,
        shown: &Shown,
    ) {
        let mut ask_tls = plan.asks(tls);
        loop {
            let (rules, allowed) = (agent.rules(), &plan.allow_targets);
            let (sources, address) = (&agent.sources, [address]);
            let connecting = connect(
                sources,
                &address,
                host.port,
                &rules,
                allowed,
                CONNECT_TIMEOUT,
            );
            let mut reached = connecting.await;
            let Some(connection) = reached.connection else {
                let (_, error) = reached.failed.remove(0);
                return self.step("connect", Step::Bad, error.to_string());
            };
            if ask_tls != AskTls::Not {
                let ends = format!("{} from {}", connection.peer, connection.local);
                self.step("connect", Step::Good, ends);
            }
            match session(agent, plan, host, connection, ask_tls, shown).await {
                Ok(live) => return self.proved(plan, live).await,
                Err(unproved)
                    if unproved.failure.verdict == Verdict::WithoutTls
                        && ask_tls == AskTls::WhereOffered =>
                {
                    self.without_tls(&unproved);
                    ask_tls = AskTls::Not;
                }
                Err(unproved) => return self.not_proved(plan, &unproved),
            }
        }
    }

    /// TLS does not work there, and the proof does not rest on it.
    fn without_tls(&mut self, unproved: &Unproved) {
        self.banner(&unproved.seen);
        let detail = format!("goes on without TLS: {}", unproved.failure.detail);
        self.step("starttls", Step::Noted, detail);
    }

    fn banner(&mut self, seen: &Seen) {
        if self.check.steps.iter().all(|step| step.name != "banner") && !seen.greeting.is_empty() {
            self.step("banner", Step::Good, seen.greeting.clone());
        }
    }

    async fn proved(&mut self, plan: &Plan, live: Live) {
        let seen = live.session.seen().clone();
        let kind = live.session.proof();
        if !self.tls_on_connect {
            self.banner(&seen);
        }
        self.secured(&plan.terms, &seen);
        self.certificate(&plan.terms, &seen, None);
        self.banner(&seen);
        self.step("proof", Step::Good, kind);
        if let Some(login) = &plan.way.login {
            self.step("login", Step::Good, format!("as {}", login.user()));
        }
        match live.session.offered().size {
            SizeOffer::NotOffered => self.step("size", Step::Noted, "the host says no limit"),
            SizeOffer::Unlimited => self.step("size", Step::Good, "without a limit"),
            SizeOffer::AtMost(bytes) => {
                self.check.max_message_bytes = bytes;
                self.step("size", Step::Good, format!("at most {bytes} bytes"));
            }
        }
        self.check.observed = Some(seen.to_observed(kind, None).into());
        self.check.proved = true;
        self.check.sentence = format!("{} is the site, by {kind}", seen.peer);
        live.quit().await;
    }

    fn not_proved(&mut self, plan: &Plan, unproved: &Unproved) {
        let (seen, failure) = (&unproved.seen, &unproved.failure);
        if !self.tls_on_connect {
            self.banner(seen);
        }
        let kind = proof_for(&plan.terms).kind();
        let step = match &failure.refusal {
            Some(refusal) => failing_step(refusal, failure.phase, &seen.tls),
            None => refused_at(failure.phase),
        };
        let is_before_tls = matches!(step, "banner" | "ehlo") && !seen.is_secured();
        if !is_before_tls {
            self.secured(&plan.terms, seen);
        }
        if !is_before_tls && step != "starttls" {
            self.certificate(&plan.terms, seen, Some(step));
        }
        self.banner(seen);
        self.check.steps.retain(|it| it.name != step);
        if failure.refusal.is_none() && failure.cause != Cause::Own {
            // It is the site, which wants no session.
            self.step("proof", Step::Good, kind);
        }
        self.step(step, Step::Bad, failure.detail.clone());
        let reason = |refusal: &Refusal| reason_for(refusal, &plan.terms, seen);
        let observed: Observed = seen.to_observed(kind, failure.refusal.as_ref().map(reason));
        self.check.observed = Some(observed.into());
        self.check.sentence.clone_from(&failure.detail);
    }

    fn secured(&mut self, terms: &Terms, seen: &Seen) {
        if self.check.steps.iter().any(|step| step.name == "starttls") {
            return;
        }
        let without = match proof_for(terms).tls(terms) {
            TlsUse::Needed => Step::Bad,
            TlsUse::WhereOffered => Step::Noted,
        };
        match &seen.tls {
            TlsSeen::Up(up) => {
                self.step(
                    "starttls",
                    Step::Good,
                    format!("{} {}", up.version, up.cipher),
                );
            }
            TlsSeen::Failed { chain, .. } if !chain.is_empty() => {
                self.step("starttls", Step::Good, "a certificate is presented");
            }
            TlsSeen::Failed { refusal, .. } => self.step("starttls", without, refusal.to_string()),
            TlsSeen::Refused(reply) => self.step("starttls", without, reply.clone()),
            TlsSeen::NotOffered => self.step("starttls", without, "not offered"),
            TlsSeen::NotAsked => {}
        }
    }

    /// The steps of the certificate, as far as they were reached: the verifier looks at the chain first, then at the
    /// validity, and at the name last.
    fn certificate(&mut self, terms: &Terms, seen: &Seen, failing: Option<&str>) {
        let (chain, checked) = match &seen.tls {
            TlsSeen::Up(up) => (&up.chain, up.checked != Checked::OnlyRecorded),
            TlsSeen::Failed { chain, .. } => (chain, terms.proof.certificate_name().is_some()),
            TlsSeen::NotAsked | TlsSeen::NotOffered | TlsSeen::Refused(_) => return,
        };
        let Some(it) = describe(chain) else { return };
        let result = match checked {
            true => Step::Good,
            false => Step::Noted,
        };
        let issuer = match checked {
            true => format!("issued by {}", it.issuer),
            false => format!("issued by {}, not looked into further", it.issuer),
        };
        if !matches!(failing, Some("chain" | "expiry")) {
            self.step("chain", result, issuer);
        }
        let names = match it.names.is_empty() {
            true => format!("no name; subject {}", it.subject),
            false => it.names.join(", "),
        };
        if !matches!(failing, Some("chain" | "expiry" | "name")) {
            self.step("name", result, names);
        }
        if failing != Some("expiry") {
            let (result, detail) = expiry(it.not_after, wall());
            self.step("expiry", result, detail);
        }
    }
}

/// When the certificate ends, and whether that is soon.
fn expiry(not_after: Timestamp, now: Timestamp) -> (Step, String) {
    let days = not_after.duration_since(now).as_secs().div_euclid(86_400);
    if is_endless(not_after) {
        return (Step::Good, "valid without end".to_owned());
    }
    let detail = format!("valid until {not_after}, {days} days");
    match days {
        ..0 => (Step::Noted, format!("expired on {not_after}")),
        0..30 => (Step::Noted, detail),
        _ => (Step::Good, detail),
    }
}

/// The step at which a proof was withheld.
fn failing_step(refusal: &Refusal, phase: Phase, tls: &TlsSeen) -> &'static str {
    use Refusal as R;
    match refusal {
        R::NoStartTls | R::StartTlsRefused(_) | R::TlsTooOld | R::TlsFellAway(_) => "starttls",
        R::HandshakeFailed(_) if !has_chain(tls) => "starttls",
        R::NameMismatch { .. } | R::NameOnlyInCn { .. } => "name",
        R::Expired | R::NotYetValid => "expiry",
        R::AddressNotListed { .. } | R::PortIsPublic | R::FingerprintNotListed { .. } => "proof",
        R::Loop | R::TurnedAway(_) | R::NoEsmtp(_) | R::NotSmtp(_) => match phase {
            Phase::Greeting | Phase::Hello => "banner",
            _ => "starttls",
        },
        R::UnknownIssuer
        | R::SelfSigned
        | R::SameNameOtherKey { .. }
        | R::ChainIncomplete { .. }
        | R::NameNotPermitted
        | R::ChainNotAllowed(_)
        | R::UnsafeSignature
        | R::UnsupportedKey(_)
        | R::CertificateVersion1
        | R::CriticalExtension
        | R::BadRevocationList
        | R::CaUsedAsEndEntity
        | R::Revoked
        | R::RevocationUnknown
        | R::WeakKey { .. }
        | R::AnchorExpired { .. }
        | R::AnchorNotYetValid { .. }
        | R::NoAnchor
        | R::BadCertificate
        | R::WrongPurpose
        | R::HandshakeFailed(_) => "chain",
    }
}

/// The step at which a site said no whose proof stood.
fn refused_at(phase: Phase) -> &'static str {
    match phase {
        Phase::Greeting => "banner",
        Phase::Securing => "starttls",
        Phase::Login => "login",
        _ => "ehlo",
    }
}

fn has_chain(tls: &TlsSeen) -> bool {
    matches!(tls, TlsSeen::Failed { chain, .. } if !chain.is_empty())
}

async fn session(
    agent: &Agent,
    plan: &Plan,
    host: &Host,
    connection: Connection,
    ask_tls: AskTls,
    shown: &Shown,
) -> Result<Live, Box<Unproved>> {
    let seen = Seen::new(host.clone(), connection.peer, connection.local);
    let opening = Opening::new(plan.terms.clone(), agent.helo.clone(), ask_tls, seen);
    let opening = opening.speaking(plan.way.speaks).logging_in(&plan.way);
    live::open(connection.stream, opening, &agent.tls, &plan.terms, shown).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_is_near_is_noted() {
        let now: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
        for (until, expected) in [
            ("2026-05-31T23:00:00Z", Step::Noted),
            ("2026-06-02T00:00:00Z", Step::Noted),
            ("2026-06-30T00:00:00Z", Step::Noted),
            ("2026-07-02T00:00:00Z", Step::Good),
        ] {
            let (result, detail) = expiry(until.parse().unwrap(), now);
            assert_eq!(result, expected, "{detail}");
        }
    }

    #[test]
    fn a_certificate_without_end_is_good_and_said_to_be_that() {
        let mut params = rcgen::CertificateParams::new(vec!["home.example".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(9999, 12, 31);
        let key = rcgen::KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap().der().clone();
        let seen = crate::proof::observed::describe(&[made]).unwrap();
        assert_eq!(dd_proto::units::format_end(seen.not_after), "no end");
        let now = "2026-06-01T00:00:00Z".parse().unwrap();
        let (result, detail) = expiry(seen.not_after, now);
        assert_eq!((result, detail.as_str()), (Step::Good, "valid without end"));
    }
}

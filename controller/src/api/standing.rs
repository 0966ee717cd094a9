//! How things stand, all at once: what `ddadm status` shows.
//!
//! # Not here
//! Single sites and deliveries ([`super::sites`], [`super::queue`]); figures over time ([`crate::metrics`]).

use std::collections::{BTreeMap, HashSet};

use dd_proto::name::AuthorityName;
use dd_proto::pb;
use dd_proto::site::Site;
use jiff::Timestamp;

use super::{Context, Knowledge, old_agents};
use crate::dispatch::{AgentView, SiteState, SiteView};
use crate::dsn::smarthost;
use crate::intake::policy::Space;
use crate::registry::authorities::Usage;
use crate::store::{Count, Progress, Stage};

/// From so many hundredths of a quota on a site is named.
const NEARLY_FULL: u64 = 80;
/// Whoever renews certificates by a machine has done it by then.
const DOOR_ENDS_SOON: jiff::SignedDuration = jiff::SignedDuration::from_hours(10 * 24);
/// Sites in one list, at most.
const MOST: usize = 100;

pub(super) async fn look(context: &Context, now: Timestamp) -> pb::StatusResponse {
    let (total, measures) = (context.store.total(), context.store.measures());
    let counters = context.dispatch.counters().await;
    let agents = context.dispatch.agent_views().await;
    let mut sites = context.dispatch.site_states().await;
    let too_old = old_agents::alarms(&sites, MOST, |site| context.store.count(site).messages);
    sites.retain(|site| site.site.as_str() != smarthost::NAME);
    let quotas = quotas(context);
    let oldest = context.store.oldest();
    pb::StatusResponse {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        hostname: context.facts.hostname.clone(),
        listeners: Some(context.facts.listeners.clone()),
        all_known: context.knows_all() == Knowledge::Complete,
        queued_messages: total.messages,
        queued_bytes: total.bytes,
        started_ms: context.facts.started.as_millisecond(),
        sites: by_state(&sites),
        agents_connected: attached(&agents),
        in_doubt: counters.in_doubt,
        duplicates: counters.duplicates,
        alarms: alarms(context, &agents, &sites, &quotas, now)
            .await
            .into_iter()
            .chain(too_old)
            .collect(),
        reading: reading(context.store.progress()),
        disk: Some(pb::Disk {
            free_bytes: measures.free_bytes,
            min_free_bytes: measures.min_free_bytes,
            log_bytes: measures.log_bytes,
            live_bytes: measures.live_bytes,
        }),
        oldest_ms: oldest.map_or(0, Timestamp::as_millisecond),
        agents: agents_by_state(&agents),
        agents_differ: names(&sites, |site| site.agents_differ),
        keeps_refused: names(&sites, |site| site.keeps_refused),
        rolling_over: rolling_over(context),
        quotas,
        notifications_waiting: unsent(context),
    }
}

/// What is wrong and what to do, one sentence each.
async fn alarms(
    context: &Context,
    agents: &[AgentView],
    sites: &[SiteState],
    quotas: &[pb::QuotaUse],
    now: Timestamp,
) -> Vec<String> {
    let mut alarms = context.registry.alarms();
    alarms.extend(context.editor.alarms());
    alarms.extend(authorities(context, now));
    alarms.extend(context.store.alarms());
    if context.store.space() == Space::Short {
        alarms.push(
            "space is short: mail is answered 452 until there is more on the disk of the state directory"
                .to_owned(),
        );
    }
    if let Some(alarm) = context.dispatch.clock_alarm().await {
        alarms.push(format!(
            "{alarm}: no mail expires until `ddadm clock confirm` says that it is right"
        ));
    }
    alarms.extend(context.facts.alarms.iter().cloned());
    let doors = context.certificates.iter();
    alarms
        .extend(doors.filter_map(|(door, certificate)| door_alarm(door, certificate.end()?, now)));
    alarms.extend(agents_alarm(agents, context.store.total().messages));
    alarms.extend(agents.iter().filter_map(unhealthy));
    alarms.extend(context.registry.agents().iter().filter_map(|agent| {
        let bound = context.attached.addresses(&agent.name)?;
        let differs = super::agents::differs(agent, &bound)?;
        Some(format!("the agent {}: {differs}", agent.name))
    }));
    if let Some(guesses) = context.wakeup.members().under_attack() {
        alarms.push(guesses);
    }
    alarms.extend(context.conduct.alarms(now));
    let doors = context.doors.all().into_iter();
    alarms.extend(doors.filter_map(|seats| seats.alarm(now)));
    let still = sites
        .iter()
        .filter_map(|site| Some((&site.site, site.still_for?)));
    alarms.extend(still.take(MOST).map(|(site, still)| {
        format!(
            "nothing has moved for {} minutes at the site {site}, although its mail is out at agents and more waits: `ddadm site show {site}`, `ddadm site check {site}`",
            still.as_secs() / 60
        )
    }));
    let unsent = unsent(context);
    let held = |site: std::sync::Arc<Site>| site.hold.is_some();
    let smarthost = context.dispatch.site_view(smarthost::name()).await;
    alarms.extend(smarthost.and_then(|view| smarthost_alarm(&view, unsent)));
    if unsent > 0 && context.registry.smarthost().is_some_and(held) {
        alarms.push(format!(
            "{unsent} notifications wait, for no smarthost is configured: set `smarthost` in [notify] and start again"
        ));
    }
    let refusing = sites.iter().filter(|site| site.refuses_all);
    alarms.extend(refusing.take(MOST).map(|site| {
        format!(
            "the home of {} refuses all its mail, which is kept: `ddadm site show {0}` has its reply",
            site.site
        )
    }));
    let full = quotas.iter().filter(|it| it.percent >= 100);
    alarms.extend(full.map(|it| {
        format!(
            "the queue of {} is full, and its mail is answered 452: raise its quota, or see why it waits",
            it.site
        )
    }));
    alarms
}

fn rolling_over(context: &Context) -> Vec<String> {
    let authorities = context.registry.authorities();
    let rolling = authorities.iter().filter(|it| it.is_rolling_over());
    rolling.map(|it| it.name.to_string()).collect()
}

fn authorities(context: &Context, now: Timestamp) -> Vec<String> {
    let sites = context.registry.sites();
    let proofs = sites.iter().filter_map(|site| site.proof.certified());
    let used: HashSet<&AuthorityName> = proofs.map(|it| &it.authority).collect();
    let authorities = context.registry.authorities();
    let alarms = authorities.iter().flat_map(|it| {
        let usage = match used.contains(&it.name) {
            true => Usage::OfSites,
            false => Usage::None,
        };
        it.alarms(now, usage)
    });
    alarms.collect()
}

/// A certificate of ours that clients refuse, or soon will.
fn door_alarm(door: &str, ends: Timestamp, now: Timestamp) -> Option<String> {
    let left = ends.duration_since(now);
    if left > DOOR_ENDS_SOON {
        return None;
    }
    let how = match left.is_negative() {
        true => "ended on",
        false => "ends on",
    };
    Some(format!(
        "the certificate of {door} {how} {ends}: put its successor into the same files, and send SIGHUP to the controller"
    ))
}

/// Why no agent takes work, where none does.
fn agents_alarm(agents: &[AgentView], queued: u64) -> Option<String> {
    if agents.is_empty() {
        return Some("no agent is registered: run `ddadm agent add NAME --address IP`".to_owned());
    }
    let waits = match queued {
        0 => "mail that comes waits",
        _ => "mail waits",
    };
    if attached(agents) == 0 {
        return Some(format!("no agent is connected: {waits} until one is"));
    }
    if any_works(agents) {
        return None;
    }
    let states: Vec<String> = agents
        .iter()
        .take(MOST)
        .map(|agent| match agent.state {
            "disconnected" => format!("{} is not connected", agent.name),
            state => format!("{} is {state}", agent.name),
        })
        .collect();
    Some(format!(
        "no agent takes work, and {waits}: {}; `ddadm agent resume NAME` ends a drain",
        states.join(", ")
    ))
}

/// Whether one of them takes work.
pub(super) fn any_works(agents: &[AgentView]) -> bool {
    agents.iter().any(|agent| agent.state == "connected")
}

/// An agent that could work and says that it cannot.
fn unhealthy(agent: &AgentView) -> Option<String> {
    (agent.state == "unhealthy").then(|| {
        format!(
            "the agent {} is unhealthy and gets no work: {}",
            agent.name, agent.trouble
        )
    })
}

/// The smarthost is a site whose trouble nobody else would notice: senders hear nothing.
fn smarthost_alarm(view: &SiteView, unsent: u64) -> Option<String> {
    let failed = view.failed_last();
    let why = match (view.waits_for(), view.state, failed) {
        (Some(why), ..) => why,
        (None, "idle" | "ready" | "proving", Some(last)) if unsent > 0 => last.outcome,
        _ => return None,
    };
    let said = failed.map_or("", |last| last.detail.as_str());
    let waiting = match unsent {
        1 => "1 notification waits".to_owned(),
        unsent => format!("{unsent} notifications wait"),
    };
    Some(format!(
        "the smarthost takes no notifications ({why}), {waiting}: {said}; `ddadm site show {}` has the last attempts",
        smarthost::NAME
    ))
}

fn attached(agents: &[AgentView]) -> u32 {
    let attached = agents.iter().filter(|it| it.state != "disconnected");
    u32::try_from(attached.count()).unwrap_or(u32::MAX)
}

fn unsent(context: &Context) -> u64 {
    context.store.count(&smarthost::name()).messages
}

fn by_state(sites: &[SiteState]) -> Vec<pb::SiteCount> {
    let mut counts = BTreeMap::new();
    for site in sites {
        *counts.entry(site.state).or_default() += 1;
    }
    let count = |(state, sites): (&str, u64)| pb::SiteCount {
        state: state.to_owned(),
        sites,
    };
    counts.into_iter().map(count).collect()
}

fn agents_by_state(agents: &[AgentView]) -> Vec<pb::AgentCount> {
    let mut counts = BTreeMap::new();
    for agent in agents {
        *counts.entry(agent.state).or_default() += 1;
    }
    let count = |(state, agents): (&str, u32)| pb::AgentCount {
        state: state.to_owned(),
        agents,
    };
    counts.into_iter().map(count).collect()
}

fn names(sites: &[SiteState], wanted: impl Fn(&SiteState) -> bool) -> Vec<String> {
    let sites = sites.iter().filter(|site| wanted(site));
    sites.map(|site| site.site.to_string()).take(MOST).collect()
}

/// Fullest first.
fn quotas(context: &Context) -> Vec<pb::QuotaUse> {
    let sites = context.registry.sites();
    let sites = sites.iter();
    let mut full: Vec<pb::QuotaUse> = sites
        .filter_map(|site| quota(site, context.store.count(&site.name)))
        .collect();
    full.sort_by(|one, other| (other.percent, &one.site).cmp(&(one.percent, &other.site)));
    full.truncate(MOST);
    full
}

/// None: it has no quota, or room enough.
fn quota(site: &Site, used: Count) -> Option<pb::QuotaUse> {
    let percent = |used: u64, quota: Option<u64>| {
        let quota = quota?;
        let percent = u128::from(used) * 100 / u128::from(quota.max(1));
        Some(u64::try_from(percent).unwrap_or(u64::MAX))
    };
    let limits = &site.limits;
    let messages = percent(used.messages, limits.quota_messages);
    let bytes = percent(used.bytes, limits.quota_bytes);
    let percent = messages.max(bytes).filter(|it| *it >= NEARLY_FULL)?;
    Some(pb::QuotaUse {
        site: site.name.to_string(),
        percent: u32::try_from(percent).unwrap_or(u32::MAX),
        messages: used.messages,
        quota_messages: limits.quota_messages.unwrap_or(0),
        bytes: used.bytes,
        quota_bytes: limits.quota_bytes.unwrap_or(0),
    })
}

/// What is being done until all is known; None then.
fn reading(progress: Progress) -> Option<pb::Reading> {
    let what = match progress.stage {
        Stage::Opening | Stage::Checking => "checking",
        Stage::Rebuilding => "rebuilding",
        Stage::NoRoom { .. } => "no-room",
        Stage::Done => return None,
    };
    Some(pb::Reading {
        what: what.to_owned(),
        percent: u32::try_from(progress.percent()).unwrap_or(100),
        records: progress.records,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inflow;

    #[test]
    fn a_smarthost_in_trouble_is_an_alarm_in_every_state_it_can_be_in() {
        use crate::dispatch::LastAttempt;
        let view = |state, why, outcome| SiteView {
            state,
            why,
            last_attempts: vec![LastAttempt {
                at: Timestamp::UNIX_EPOCH,
                agent: "out1".parse().unwrap(),
                address: "192.0.2.9:25".to_owned(),
                outcome,
                detail: "the site answered `451 4.7.1 later`".to_owned(),
                reason: String::new(),
                peer: None,
            }],
            ..SiteView::default()
        };
        for (state, why, outcome, unsent, expected) in [
            (
                "waiting",
                Some("down"),
                "unreachable",
                1,
                Some("(down), 1 "),
            ),
            (
                "waiting",
                Some("refused"),
                "refused",
                2,
                Some("(refused), 2 "),
            ),
            ("waiting", Some("busy"), "busy", 2, Some("(busy)")),
            (
                "waiting",
                Some("wrong-host"),
                "wrong-host",
                2,
                Some("(wrong-host)"),
            ),
            (
                "waiting",
                Some("deferred"),
                "deferred",
                2,
                Some("(deferred)"),
            ),
            ("idle", None, "deferred", 2, Some("(deferred)")),
            ("idle", None, "deferred", 0, None),
            ("idle", None, "not-sent", 2, None),
            ("ready", None, "not-sent", 2, None),
            ("idle", None, "relayed", 2, None),
            // Reports are put off by our own limit for one sender, too.
            ("waiting", Some("deferred"), "relayed", 2, None),
            ("flowing", None, "deferred", 2, None),
            ("held", None, "deferred", 2, None),
        ] {
            let alarm = smarthost_alarm(&view(state, why, outcome), unsent);
            match (alarm, expected) {
                (Some(alarm), Some(expected)) => {
                    assert!(alarm.contains(expected), "{alarm}");
                    assert!(alarm.contains("`451 4.7.1 later`"), "{alarm}");
                }
                (alarm, expected) => assert_eq!(alarm.as_deref(), expected),
            }
        }
    }

    #[test]
    fn a_door_s_certificate_is_an_alarm_near_its_end_and_behind_it() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        for (days, says) in [
            (30, None),
            (11, None),
            (9, Some("ends on")),
            (-1, Some("ended on")),
        ] {
            let ends = now + jiff::SignedDuration::from_hours(24 * days);
            let alarm = door_alarm("[web]", ends, now);
            match says {
                None => assert_eq!(alarm, None, "{days}"),
                Some(says) => assert!(alarm.clone().unwrap().contains(says), "{alarm:?}"),
            }
        }
    }

    #[test]
    fn that_no_agent_takes_work_is_an_alarm_whatever_the_reason() {
        for (states, says) in [
            (&[][..], Some("no agent is registered")),
            (&["connected"], None),
            (&["connected", "draining"], None),
            (&["connected", "unhealthy"], None),
            (
                &["disconnected", "disconnected"],
                Some("no agent is connected"),
            ),
            (
                &["draining", "draining"],
                Some("out0 is draining, out1 is draining"),
            ),
            (&["draining", "disconnected"], Some("out1 is not connected")),
            (&["unhealthy"], Some("out0 is unhealthy")),
        ] {
            let agents: Vec<AgentView> = states
                .iter()
                .enumerate()
                .map(|(number, state)| AgentView::in_state(&format!("out{number}"), state))
                .collect();
            for (queued, waits) in [(1, "mail waits"), (0, "mail that comes waits")] {
                let alarm = agents_alarm(&agents, queued);
                match says {
                    None => assert_eq!(alarm, None, "{states:?}"),
                    Some(says) => {
                        let alarm = alarm.unwrap();
                        assert!(alarm.contains(says), "{alarm}");
                        assert!(agents.is_empty() || alarm.contains(waits), "{alarm}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_site_is_named_when_it_has_used_most_of_a_quota() {
        let mut site = inflow::closed(&"home.example".parse().unwrap());
        let used = |messages, bytes| Count { messages, bytes };
        assert_eq!(quota(&site, used(1 << 40, 1 << 60)), None);
        site.limits.quota_messages = Some(10);
        site.limits.quota_bytes = Some(1000);
        for (count, percent) in [
            (used(7, 799), None),
            (used(8, 0), Some(80)),
            (used(1, 950), Some(95)),
            (used(10, 1000), Some(100)),
            (used(30, 10), Some(300)),
        ] {
            let found = quota(&site, count).map(|it| it.percent);
            assert_eq!(found, percent, "{count:?}");
        }
    }
}

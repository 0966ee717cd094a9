//! `site check`: what every agent sees of a site now, side by side.
//!
//! # Invariants
//! - No mail, no envelope; nothing about the site or its queue changes, and what agents see is remembered nowhere.
//! - An agent that does not answer costs only its own row.
//! - One check of a site runs at a time, whoever asks. It makes every agent connect to addresses that a member's DNS chooses.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use dd_proto::id::SiteVersion;
use dd_proto::name::{AgentName, SiteName};
use dd_proto::pb;
use dd_proto::pb::check_step::Result as Step;
use dd_proto::site::Site;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Context, order};

/// An agent gives each host 30 seconds, all of them side by side.
const LIMIT: Duration = Duration::from_secs(35);

/// What all agents said, in the order of their names.
pub type Seen = Arc<[pb::AgentCheck]>;

/// The checks that run now.
#[derive(Debug, Default)]
pub struct Checks(Mutex<HashMap<SiteName, Running>>);

#[derive(Debug)]
struct Running {
    asked: Asked,
    /// None until it is done.
    seen: watch::Receiver<Option<Seen>>,
}

/// What is looked at, and by whom. None: by every agent.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked(SiteVersion, Option<AgentName>);

/// Ends a check that runs, also where whoever asked for it goes away before it is done.
struct Ends<'a>(&'a Checks, &'a SiteName);

impl Checks {
    fn lock(&self) -> MutexGuard<'_, HashMap<SiteName, Running>> {
        self.0.lock().expect("no holder of this lock panics")
    }

    /// Runs `look`, or waits for the same one that somebody else runs already. One of another kind is waited for first.
    async fn one_at_a_time(
        &self,
        site: &SiteName,
        asked: Asked,
        look: impl Future<Output = Vec<pb::AgentCheck>>,
    ) -> Seen {
        let sender = loop {
            let Under { same, mut seen } = match self.enter(site, &asked) {
                Ok(sender) => break sender,
                Err(under) => under,
            };
            // An error says that whoever ran it has gone away.
            let done = seen.wait_for(Option::is_some).await.ok();
            let done = done.and_then(|seen| seen.clone());
            if let (true, Some(done)) = (same, done) {
                return done;
            }
        };
        let ends = Ends(self, site);
        let seen: Seen = look.await.into();
        drop(ends);
        sender.send_replace(Some(seen.clone()));
        seen
    }

    /// # Errors
    /// One is under way.
    fn enter(&self, site: &SiteName, asked: &Asked) -> Result<watch::Sender<Option<Seen>>, Under> {
        let mut running = self.lock();
        if let Some(running) = running.get(site) {
            let same = running.asked == *asked;
            let seen = running.seen.clone();
            return Err(Under { same, seen });
        }
        let (sender, seen) = watch::channel(None);
        let asked = asked.clone();
        running.insert(site.clone(), Running { asked, seen });
        Ok(sender)
    }
}

/// A check that is under way.
struct Under {
    /// It asks the same.
    same: bool,
    seen: watch::Receiver<Option<Seen>>,
}

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.lock().remove(self.1);
    }
}

/// Asks the agent named, or every one that is attached.
pub async fn check_site(context: &Context, site: &Site, only: Option<&AgentName>) -> Seen {
    let asked = Asked(site.version, only.cloned());
    let look = look(context, site, only);
    context.checks.one_at_a_time(&site.name, asked, look).await
}

async fn look(context: &Context, site: &Site, only: Option<&AgentName>) -> Vec<pb::AgentCheck> {
    let agents = match only {
        Some(agent) => vec![agent.clone()],
        None => context.attached.agents(),
    };
    let mut looking = JoinSet::new();
    for agent in agents {
        let check = pb::Check {
            number: 0,
            plan: Some(order::plan(context, site)),
            tls_expected: context.registry.expects_tls(&site.name),
        };
        let lacks = context.attached.lacks(&agent, site);
        let asked = match lacks {
            Some(_) => None,
            None => context.attached.ask(&agent, check),
        };
        looking.spawn(async move {
            if let Some(feature) = lacks {
                let too_old = format!("the agent is too old for {}", feature.asked_by());
                return row(&agent, Vec::new(), &too_old);
            }
            let Some(asked) = asked else {
                return away(&agent);
            };
            match tokio::time::timeout(LIMIT, asked.answer()).await {
                Ok(Some(hosts)) => row(&agent, hosts, "the site has no host"),
                Ok(None) => row(&agent, Vec::new(), "the agent went away before it answered"),
                Err(_) => row(&agent, Vec::new(), "the agent did not answer in time"),
            }
        });
    }
    let mut rows = Vec::new();
    while let Some(ended) = looking.join_next().await {
        match ended {
            Ok(row) => rows.push(row),
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }
    rows.sort_by(|a: &pb::AgentCheck, b| a.agent.cmp(&b.agent));
    rows
}

/// The row of an agent that nobody can ask.
pub(super) fn away(agent: &AgentName) -> pb::AgentCheck {
    row(agent, Vec::new(), "the agent is not connected")
}

/// The sentence of the address that proved itself, else of the first at which somebody answered, else of the first.
fn row(agent: &AgentName, hosts: Vec<pb::HostCheck>, nothing: &str) -> pb::AgentCheck {
    let answered = |host: &&pb::HostCheck| {
        let mut steps = host.steps.iter();
        steps.any(|step| step.name == "connect" && step.result() == Step::Good)
    };
    let proved = hosts.iter().find(|host| host.proved);
    let telling = proved
        .or_else(|| hosts.iter().find(answered))
        .or(hosts.first());
    pb::AgentCheck {
        agent: agent.to_string(),
        proved: telling.is_some_and(|host| host.proved),
        sentence: telling.map_or_else(|| nothing.to_owned(), |host| host.sentence.clone()),
        hosts,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it still waits.
    fn polled<T>(future: &mut std::pin::Pin<Box<impl Future<Output = T>>>) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        future.as_mut().poll(&mut context).is_pending()
    }

    #[tokio::test]
    async fn one_check_of_a_site_runs_at_a_time_and_who_asks_the_same_shares_it() {
        let checks = Checks::default();
        let (home, other): (SiteName, SiteName) =
            ("home".parse().unwrap(), "other".parse().unwrap());
        let runs = std::cell::Cell::new((0, 0));
        let everybody = || Asked(SiteVersion(1), None);
        let look = || async {
            let (now, all) = runs.get();
            runs.set((now + 1, all + 1));
            assert_eq!(now, 0, "one at a time");
            tokio::task::yield_now().await;
            let (now, all) = runs.get();
            runs.set((now - 1, all));
            vec![row(&"out1".parse().unwrap(), Vec::new(), "seen")]
        };
        let ask = |asked| checks.one_at_a_time(&home, asked, look());
        let newer = Asked(SiteVersion(2), None);
        let (first, second, third) = tokio::join!(ask(everybody()), ask(everybody()), ask(newer));
        assert_eq!((&first, &third), (&second, &first));
        assert_eq!(runs.get(), (0, 2), "a changed site is looked at anew");
        // Whoever goes away leaves the others one that ends.
        let mut gone = Box::pin(ask(everybody()));
        assert!(polled(&mut gone));
        let mut waiting = Box::pin(ask(everybody()));
        assert!(polled(&mut waiting));
        let beside = checks.one_at_a_time(&other, everybody(), async { Vec::new() });
        assert!(beside.await.is_empty(), "another site waits for nobody");
        runs.set((0, 0));
        drop(gone);
        assert_eq!(waiting.await.len(), 1);
        assert!(checks.lock().is_empty());
    }

    #[test]
    fn the_most_telling_address_is_what_an_agent_says() {
        let at = |sentence: &str, connected: Step, proved| pb::HostCheck {
            sentence: sentence.into(),
            steps: vec![pb::CheckStep {
                name: "connect".into(),
                result: connected.into(),
                detail: String::new(),
            }],
            proved,
            ..pb::HostCheck::default()
        };
        let dead = at("nobody", Step::Bad, false);
        let stranger = at("a stranger", Step::Good, false);
        let home = at("the site", Step::Good, true);
        let agent: AgentName = "out1".parse().expect("a name");
        for (hosts, sentence) in [
            (vec![], "none"),
            (vec![&dead, &dead], "nobody"),
            (vec![&dead, &stranger], "a stranger"),
            (vec![&dead, &stranger, &home], "the site"),
        ] {
            let hosts: Vec<_> = hosts.into_iter().cloned().collect();
            assert_eq!(row(&agent, hosts, "none").sentence, sentence);
        }
    }
}

//! `dd.v1.Sites`.

use std::sync::Arc;
use std::time::Duration;

use dd_proto::name::{AgentName, SiteName};
use dd_proto::pb;
use dd_proto::site::{Hold, Site};
use tonic::{Request, Response, Status};

use super::check::{self, check_site};
use super::produced::Produced;
use super::{Context, Knowledge, at_ms, caller, from_ms, now, site_list, status};
use crate::credentials::{generate_password, generate_wake_secret, wake_digest};
use crate::dispatch::{AgentVerdict, LastAttempt, LastRefusal, Left, Released, SiteView, Stray};
use crate::history::{Day, History, Run};
use crate::registry::sites::{Closing, Credential, HeldMail};
use crate::wakeup::Asker;

#[derive(Debug, Clone)]
pub struct Sites(pub Arc<Context>);

type Answer = Result<Response<pb::SiteStatus>, Status>;

#[tonic::async_trait]
impl pb::sites_server::Sites for Sites {
    async fn add(&self, request: Request<pb::AddSiteRequest>) -> Answer {
        let who = caller(&request);
        let request = request.into_inner();
        let mut spec = request
            .spec
            .ok_or_else(|| status::invalid("`spec` is missing"))?;
        let held = match request.take_mail {
            true => HeldMail::Take,
            false => HeldMail::Refuse,
        };
        let hash = self.hash(spec.password.take()).await?;
        let adding = self.0.editor.change(move |change| async move {
            change.add_site(&spec, hash, held, who.who(), now()).await
        });
        let site = adding.await?;
        self.warned(&site, None).await
    }

    async fn set(&self, request: Request<pb::SiteSpec>) -> Answer {
        let who = caller(&request);
        let change = request.into_inner();
        let hash = self.hash(change.password.clone()).await?;
        let before = self.site(&change.name).ok();
        let setting = self
            .0
            .editor
            .change(move |it| async move { it.set_site(&change, hash, who.who(), now()).await });
        let site = setting.await?;
        self.warned(&site, before.as_deref()).await
    }

    async fn show(&self, request: Request<pb::SiteName>) -> Answer {
        let site = self.any_site(&request.into_inner().name)?;
        self.shown(&site).await
    }

    type ListStream = Produced<pb::SiteStatus>;

    async fn list(
        &self,
        _: Request<pb::ListSitesRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let context = self.0.clone();
        Ok(Response::new(Produced::by(|items| async move {
            let shown = |site: &Site, view| shown(&context, site, view);
            let sites = context.registry.sites();
            site_list::one_by_one(sites, &context.dispatch, &items, shown).await;
        })))
    }

    async fn remove(
        &self,
        request: Request<pb::RemoveSiteRequest>,
    ) -> Result<Response<pb::RemoveSiteResponse>, Status> {
        let who = caller(&request);
        let request = request.into_inner();
        let site = self.site(&request.name)?;
        let sites = self.clone();
        let removing = self.0.editor.to_its_end(async move {
            sites
                .remove_site(&site.name, request.mail(), who.who())
                .await
        });
        let messages = removing.await?;
        Ok(Response::new(pb::RemoveSiteResponse { messages }))
    }

    async fn hold(&self, request: Request<pb::HoldSiteRequest>) -> Answer {
        let who = caller(&request);
        let request = request.into_inner();
        let hold = Hold {
            by: who.who().to_owned(),
            until: from_ms(request.until_ms)?,
            since: now(),
        };
        if hold.until.is_some_and(|until| until <= hold.since) {
            return Err(status::invalid(
                "--until lies in the past: name a later time, or leave it out to hold until `ddadm site resume`",
            ));
        }
        self.hold_or_resume(&request.name, Some(hold), who.who())
            .await
    }

    async fn resume(&self, request: Request<pb::SiteName>) -> Answer {
        let who = caller(&request);
        let name = request.into_inner().name;
        self.hold_or_resume(&name, None, who.who()).await
    }

    async fn password(
        &self,
        request: Request<pb::SitePasswordRequest>,
    ) -> Result<Response<pb::SitePassword>, Status> {
        let who = caller(&request);
        let request = request.into_inner();
        let site = self.site(&request.name)?;
        let (password, shown) = match request.password {
            given if !given.is_empty() => (given, String::new()),
            _ => {
                let made = generate_password(&mut rand::rng());
                (made.clone(), made)
            }
        };
        let hash = self.0.passwords.hash(password).await?;
        let credential = Credential::Password(hash);
        self.set_credential(&site, credential, who.who()).await?;
        Ok(Response::new(pb::SitePassword {
            name: site.name.to_string(),
            password: shown,
        }))
    }

    async fn wake_secret(
        &self,
        request: Request<pb::WakeSecretRequest>,
    ) -> Result<Response<pb::WakeSecretResponse>, Status> {
        use pb::wake_secret_request::Change;
        let who = caller(&request);
        let request = request.into_inner();
        let site = self.site(&request.name)?;
        if request.change() == Change::Revoke {
            let credential = Credential::NoWakeSecret;
            self.set_credential(&site, credential, who.who()).await?;
            return Ok(Response::new(pb::WakeSecretResponse::default()));
        }
        let Some(web) = &self.0.facts.web else {
            return Err(status::refused(
                "nothing serves wake-up URLs: add `listen` under [web] to the configuration and start again",
            ));
        };
        let secret = generate_wake_secret(&mut rand::rng());
        let credential = Credential::WakeSecret(wake_digest(&secret));
        self.set_credential(&site, credential, who.who()).await?;
        let url = format!("{web}/wake/{secret}");
        Ok(Response::new(pb::WakeSecretResponse { url, secret }))
    }

    async fn release(
        &self,
        request: Request<pb::ReleaseRequest>,
    ) -> Result<Response<pb::ReleaseOutcome>, Status> {
        let who = caller(&request).who().to_owned();
        let asker = Asker::Operator(who.clone());
        let request = request.into_inner();
        let site = self.any_site(&request.name)?;
        let wait = match request.wait_ms {
            0 => None,
            ms => Some(Duration::from_millis(ms)),
        };
        // Before it is waited for what comes of it.
        let what = format!("site {} released", site.name);
        self.0.editor.audit(now(), &who, &what);
        let released = self.0.wakeup.release(&site.name, &asker, wait).await;
        let released = released.map_err(|_| status::unknown("site", &request.name))?;
        let mut outcome = outcome(released);
        if outcome.result() == pb::release_outcome::Result::Pending {
            let view = self.0.dispatch.site_view(site.name.clone()).await;
            // What an agent has in hand is tried.
            let untried = view.filter(|view| view.out == 0);
            outcome.detail = untried.map_or_else(String::new, |view| view.no_agent);
        }
        Ok(Response::new(outcome))
    }

    async fn check(
        &self,
        request: Request<pb::CheckSiteRequest>,
    ) -> Result<Response<pb::SiteChecks>, Status> {
        let request = request.into_inner();
        let site = self.any_site(&request.name)?;
        let only = self.agent(&request.agent)?;
        if only.is_none() && self.0.attached.agents().is_empty() {
            return Err(status::refused(
                "no agent is connected: start one, then check again",
            ));
        }
        let mut agents = check_site(&self.0, &site, only.as_ref()).await.to_vec();
        if only.is_none() {
            // An operator sees which agents have not said anything; to a member that is no news of his server.
            let registered = self.0.registry.agents().into_iter();
            let missing =
                registered.filter(|it| agents.iter().all(|row| row.agent != it.name.as_str()));
            let missing: Vec<_> = missing.map(|it| check::away(&it.name)).collect();
            agents.extend(missing);
            agents.sort_by(|a, b| a.agent.cmp(&b.agent));
        }
        Ok(Response::new(pb::SiteChecks { agents }))
    }

    async fn move_domain(
        &self,
        request: Request<pb::MoveDomainRequest>,
    ) -> Result<Response<pb::DomainMoved>, Status> {
        let who = caller(&request);
        let pb::MoveDomainRequest { domain, to } = request.into_inner();
        let asked = domain.clone();
        let moving = self.0.editor.change(move |change| async move {
            change.move_domain(&asked, &to, who.who(), now()).await
        });
        let moved = moving.await?;
        Ok(Response::new(pb::DomainMoved {
            domain,
            waiting: self.0.store.count(&moved.from).messages,
            from: moved.from.to_string(),
            to: moved.to.to_string(),
        }))
    }
}

impl Sites {
    /// A member's, or the built-in one, which can be looked at, checked and released.
    fn any_site(&self, name: &str) -> Result<Arc<Site>, Status> {
        let smarthost = self.0.registry.smarthost();
        match smarthost.filter(|site| site.name.as_str() == name) {
            Some(smarthost) => Ok(smarthost),
            None => self.site(name),
        }
    }

    /// The agent that is asked for, if one is.
    fn agent(&self, name: &str) -> Result<Option<AgentName>, Status> {
        if name.is_empty() {
            return Ok(None);
        }
        let parsed = name.parse::<AgentName>().ok();
        let known = parsed.filter(|name| self.0.registry.agent(name).is_some());
        known
            .map(Some)
            .ok_or_else(|| status::unknown("agent", name))
    }

    fn site(&self, name: &str) -> Result<Arc<Site>, Status> {
        let parsed = name.parse::<SiteName>().ok();
        parsed
            .and_then(|name| self.0.registry.site(&name))
            .ok_or_else(|| status::unknown("site", name))
    }

    async fn hash(&self, password: Option<String>) -> Result<Option<String>, Status> {
        match password {
            Some(password) => Ok(Some(self.0.passwords.hash(password).await?)),
            None => Ok(None),
        }
    }

    async fn set_credential(
        &self,
        site: &Site,
        credential: Credential,
        who: &str,
    ) -> Result<(), Status> {
        let (name, who) = (site.name.clone(), who.to_owned());
        let setting = self.0.editor.change(move |change| async move {
            change
                .set_credential(name.as_str(), credential, &who, now())
                .await
        });
        setting.await?;
        Ok(())
    }

    async fn shown(&self, site: &Site) -> Answer {
        let view = self.0.dispatch.site_view(site.name.clone()).await;
        Ok(Response::new(shown(&self.0, site, view)))
    }

    /// After a change of what was asked for.
    async fn warned(&self, site: &Site, before: Option<&Site>) -> Answer {
        let mut shown = self.shown(site).await?;
        shown.get_mut().warnings = super::warnings::of(&self.0, site, before);
        Ok(shown)
    }

    async fn hold_or_resume(&self, name: &str, hold: Option<Hold>, who: &str) -> Answer {
        let (name, who) = (name.to_owned(), who.to_owned());
        let changing = self
            .0
            .editor
            .change(move |change| async move { change.hold_site(&name, hold, &who, now()).await });
        let site = changing.await?;
        self.shown(&site).await
    }

    /// Closes the site, settles what waits, and removes the record. Refused half-way, the site is opened again. A stop
    /// half-way leaves it closed, and it can be removed again.
    async fn remove_site(
        &self,
        name: &SiteName,
        mail: pb::remove_site_request::Mail,
        who: &str,
    ) -> Result<u64, Status> {
        if self.0.knows_all() == Knowledge::Partial {
            return Err(status::not_all_known());
        }
        let _removal = self.0.removals.begin(name).ok_or_else(|| {
            status::refused(format!(
                "the site `{name}` is being removed already: what an agent has in hand is waited for"
            ))
        })?;
        self.set_closing(name, Closing::Close, who).await?;
        let settled = self.settle_mail(name, mail).await;
        if settled.is_err() {
            self.set_closing(name, Closing::Reopen, who).await?;
        }
        let messages = settled?;
        let (gone, who) = (name.clone(), who.to_owned());
        let removing = self
            .0
            .editor
            .change(move |change| async move { change.remove_site(&gone, &who, now()).await });
        removing.await?;
        self.0.wakeup.forget(name);
        Ok(messages)
    }

    async fn set_closing(
        &self,
        name: &SiteName,
        closing: Closing,
        who: &str,
    ) -> Result<(), Status> {
        let (name, who) = (name.clone(), who.to_owned());
        let changing = self.0.editor.change(move |change| async move {
            change.close_site(name.as_str(), closing, &who, now()).await
        });
        changing.await?;
        Ok(())
    }

    /// All that waits, a batch at a time; what is out at an agent is waited for.
    async fn settle_mail(
        &self,
        name: &SiteName,
        mail: pb::remove_site_request::Mail,
    ) -> Result<u64, Status> {
        use pb::remove_site_request::Mail;
        let left = match (mail, self.0.store.count(name).messages) {
            (Mail::Fail, _) => Left::Fail,
            (Mail::Discard, _) => Left::Discard,
            (Mail::Unspecified, 0) => return Ok(0),
            (Mail::Unspecified, waiting) => {
                return Err(status::refused(format!(
                    "{waiting} messages wait for the site `{name}`: add --fail to give them up and tell their senders, or --discard to remove them without telling anybody, or wait until they are delivered"
                )));
            }
        };
        let settled = self.0.dispatch.close_site(name.clone(), left).await;
        match self.0.store.count(name).messages {
            0 => Ok(settled),
            still => Err(status::refused(format!(
                "{settled} messages for the site `{name}` are settled, {still} are left: look into the controller's log, and remove the site again"
            ))),
        }
    }
}

/// A site as administrators see it; nothing secret is in it.
fn shown(context: &Context, site: &Site, view: Option<SiteView>) -> pb::SiteStatus {
    let count = context.store.count(&site.name);
    let mut record = pb::Site::from(site);
    record.password_hash.clear();
    record.wake_hash.clear();
    let view = view.unwrap_or_else(|| SiteView::unseen(site));
    pb::SiteStatus {
        site: Some(record),
        state: view.state.to_owned(),
        why: view.why.unwrap_or_default().to_owned(),
        next_attempt_ms: at_ms(view.next_attempt),
        queued_messages: count.messages,
        queued_bytes: count.bytes,
        complete: context.knows_all() == Knowledge::Complete,
        last_attempts: view.last_attempts.into_iter().map(attempt).collect(),
        out: view.out,
        sessions: view.sessions,
        has_password: site.password_hash.is_some(),
        has_wake_secret: site.wake_hash.is_some(),
        no_agent: view.no_agent,
        refusal: view.refusal.map(|it| refusal(*it)),
        shown: context.registry.shown(&site.name).map(|it| (&*it).into()),
        answered_for: view.answered_for.into_iter().map(stray).collect(),
        agents_found: view.agents_differ.into_iter().map(found).collect(),
        warnings: Vec::new(),
        history: Some(history(context.dispatch.measured().history.of(&site.name))),
    }
}

fn history(it: History) -> pb::SiteHistory {
    let day = |day: Day| pb::HistoryDay {
        date: day.date.to_string(),
        counts: day
            .counts()
            .map(|(outcome, count)| pb::OutcomeCount {
                outcome: outcome.to_owned(),
                count,
            })
            .collect(),
    };
    let run = |run: Run| pb::HistoryRun {
        first_ms: run.first.as_millisecond(),
        times: run.times,
        last: Some(attempt(run.last)),
    };
    pb::SiteHistory {
        last_relayed_ms: at_ms(it.last_relayed),
        days: it.days.into_iter().map(day).collect(),
        runs: it.runs.into_iter().map(run).collect(),
    }
}

fn refusal(it: LastRefusal) -> pb::LastRefusal {
    pb::LastRefusal {
        at_ms: it.at.as_millisecond(),
        agent: it.agent.to_string(),
        observed: Some(it.observed.into()),
    }
}

fn found(it: AgentVerdict) -> pb::AgentFound {
    pb::AgentFound {
        agent: it.agent.to_string(),
        at_ms: it.at.as_millisecond(),
        found: it.found.to_owned(),
        detail: it.detail,
    }
}

fn stray(it: Stray) -> pb::AnsweredFor {
    pb::AnsweredFor {
        at_ms: it.at.as_millisecond(),
        address: it.address,
        site: it.meant_for.to_string(),
    }
}

fn attempt(it: LastAttempt) -> pb::LastAttempt {
    pb::LastAttempt {
        at_ms: it.at.as_millisecond(),
        agent: it.agent.to_string(),
        address: it.address,
        outcome: it.outcome.to_owned(),
        detail: it.detail,
        peer: it.peer.map(|peer| Arc::unwrap_or_clone(peer).into()),
    }
}

fn outcome(released: Released) -> pb::ReleaseOutcome {
    use pb::release_outcome::Result;
    let of = |result: Result, waiting, detail| pb::ReleaseOutcome {
        result: result.into(),
        waiting,
        detail,
        ..pb::ReleaseOutcome::default()
    };
    match released {
        Released::Done { waiting } => of(Result::Unspecified, waiting, String::new()),
        Released::NothingWaiting => of(Result::NothingWaiting, 0, String::new()),
        Released::Worked {
            waiting,
            relayed,
            deferred,
            failed,
        } => pb::ReleaseOutcome {
            relayed,
            deferred,
            failed,
            ..of(Result::Done, waiting, String::new())
        },
        Released::NotReached { waiting, detail } => of(Result::NotReached, waiting, detail),
        Released::NotProved { waiting, detail } => of(Result::NotProved, waiting, detail),
        Released::Refused { waiting, detail } => of(Result::Refused, waiting, detail),
        Released::Held { waiting, by } => of(Result::Held, waiting, format!("held by {by}")),
        Released::Pending {
            waiting,
            relayed,
            deferred,
            failed,
        } => pb::ReleaseOutcome {
            relayed,
            deferred,
            failed,
            ..of(Result::Pending, waiting, String::new())
        },
    }
}

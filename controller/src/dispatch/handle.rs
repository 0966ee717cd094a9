//! How the rest of the controller speaks to dispatch.
//!
//! Everything waits when the loop is behind: an agent is held back by its own stream, intake by its arrivals. The loop
//! waits for none of them, so nobody can wait for himself.

use std::sync::Arc;
use std::time::Duration;

use dd_proto::id::{DeliveryId, Lease};
use dd_proto::name::{AgentName, SiteName};
use dd_proto::site::Site;
use tokio::sync::{Notify, mpsc, oneshot};

use super::actions::{Action, Left};
use super::backing::StoreFailed;
use super::event::{Event, NotLoaded};
use super::saving::Confirming;
use super::{
    AgentEvent, AgentView, Arrived, Attachment, AttachmentId, ClockAlarm, Counters, Hello, InHand,
    LeaseHeld, Measured, Released, SiteState, SiteView, Terms,
};

/// What the loop is told.
#[derive(Debug)]
pub(super) enum Input {
    Arrived(Vec<Arrived>),
    SiteChanged(Arc<Site>),
    Event(Event),
    Ask(Ask),
}

/// What the loop is asked, and where the answer goes.
#[derive(Debug)]
pub(super) enum Ask {
    Attach(Hello, oneshot::Sender<Attachment>),
    LeaseHeld(DeliveryId, oneshot::Sender<Option<LeaseHeld>>),
    Release(
        SiteName,
        Option<Duration>,
        oneshot::Sender<Option<Released>>,
    ),
    Act(
        Action,
        Vec<DeliveryId>,
        oneshot::Sender<Result<u64, InHand>>,
    ),
    CloseSite(SiteName, Left, oneshot::Sender<u64>),
    ClockAlarm(oneshot::Sender<Option<ClockAlarm>>),
    ConfirmClock(Confirming),
    Drain(oneshot::Sender<()>),
    Site(SiteName, oneshot::Sender<Option<SiteView>>),
    States(oneshot::Sender<Vec<SiteState>>),
    Agents(oneshot::Sender<Vec<AgentView>>),
    Drained(oneshot::Sender<Vec<AgentName>>),
    Left(oneshot::Sender<Vec<AgentName>>),
    Untold(oneshot::Sender<Vec<AgentName>>),
    IsOut(Vec<DeliveryId>, oneshot::Sender<Vec<DeliveryId>>),
    Counters(oneshot::Sender<Counters>),
}

/// Speaks to the loop. Once the loop has ended, questions are answered with nothing; the process is at its end then.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(super) measured: Arc<Measured>,
    pub(super) inputs: mpsc::Sender<Input>,
    pub(super) agents: mpsc::Sender<(AttachmentId, AgentEvent)>,
    pub(super) ended: mpsc::UnboundedSender<AttachmentId>,
    pub(super) drain_ended: Arc<Notify>,
}

impl Handle {
    async fn tell(&self, event: Event) {
        let _ = self.inputs.send(Input::Event(event)).await;
    }

    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
        let (sender, answer) = oneshot::channel();
        self.inputs.send(Input::Ask(ask(sender))).await.ok()?;
        answer.await.ok()
    }

    /// Mail that has just become durable.
    pub async fn arrived(&self, mail: Vec<Arrived>) {
        let _ = self.inputs.send(Input::Arrived(mail)).await;
    }

    /// A site is new, or its record or its hold has changed. Open sessions end after the transaction in hand.
    pub async fn site_changed(&self, site: Arc<Site>) {
        let _ = self.inputs.send(Input::SiteChanged(site)).await;
    }

    /// What these sites have to show to prove themselves has changed, and nothing else of them. Open sessions end after
    /// the transaction in hand.
    pub async fn plans_changed(&self, sites: Vec<Arc<Site>>) {
        self.tell(Event::PlansChanged(sites)).await;
    }

    pub async fn site_removed(&self, site: SiteName) {
        self.tell(Event::SiteRemoved(site)).await;
    }

    /// An agent is new, or its terms have changed.
    pub async fn agent_registered(&self, agent: AgentName, terms: Terms) {
        self.tell(Event::AgentRegistered(agent, terms)).await;
    }

    pub async fn agent_removed(&self, agent: AgentName) {
        self.tell(Event::AgentRemoved(agent)).await;
    }

    /// An agent has said Hello and told its journal. The first order is Welcome; when the orders end, so does the
    /// stream.
    pub async fn attach(&self, hello: Hello) -> Attachment {
        let attachment = self.ask(|sender| Ask::Attach(hello, sender)).await;
        attachment.unwrap_or_else(Attachment::ended)
    }

    /// Waits while the loop is behind.
    pub async fn agent_event(&self, id: AttachmentId, event: AgentEvent) {
        let _ = self.agents.send((id, event)).await;
    }

    /// The stream has ended. What was said on it before counts.
    pub fn detached(&self, id: AttachmentId) {
        let _ = self.ended.send(id);
    }

    /// Nothing is assigned any more. Returns when all that was being handed over has ended and is written; the caller
    /// limits how long that may take.
    pub async fn drain(&self) {
        let _ = self.ask(Ask::Drain).await;
    }

    /// The content of a delivery is not what was accepted: it is shown, and not tried again by itself.
    pub async fn content_damaged(&self, lease: Lease) {
        let why = NotLoaded::Damaged;
        self.tell(Event::NotLoaded { lease, why }).await;
    }

    /// Who holds the lease of a delivery.
    pub async fn lease_held(&self, delivery: DeliveryId) -> Option<LeaseHeld> {
        self.ask(|sender| Ask::LeaseHeld(delivery, sender)).await?
    }

    /// Makes everything of a site due. With `wait`: says what came of it, at the latest after that time. None: no such
    /// site.
    pub async fn release(&self, site: SiteName, wait: Option<Duration>) -> Option<Released> {
        self.ask(|sender| Ask::Release(site, wait, sender)).await?
    }

    /// Somebody who has not proved to be the site asks for its mail: the site is tried soon, and no message before a time
    /// of its own. Nobody is told what comes of it.
    pub async fn knock(&self, site: SiteName) {
        self.tell(Event::Knock(site)).await;
    }

    /// Makes deliveries due, also those that cannot be read. Returns how many were still open.
    ///
    /// # Errors
    /// One is in hand; then nothing is done.
    pub async fn retry(&self, deliveries: Vec<DeliveryId>) -> Result<u64, InHand> {
        self.act(Action::Retry, deliveries).await
    }

    /// Gives deliveries up; their senders are told. Durable when it returns.
    ///
    /// # Errors
    /// One is in hand; then nothing is done.
    pub async fn fail(&self, deliveries: Vec<DeliveryId>) -> Result<u64, InHand> {
        self.act(Action::Fail, deliveries).await
    }

    /// Settles deliveries as removed; nobody is told. Durable when it returns.
    ///
    /// # Errors
    /// One is in hand; then nothing is done.
    pub async fn remove(&self, deliveries: Vec<DeliveryId>) -> Result<u64, InHand> {
        self.act(Action::Remove, deliveries).await
    }

    async fn act(&self, action: Action, deliveries: Vec<DeliveryId>) -> Result<u64, InHand> {
        let acted = self.ask(|sender| Ask::Act(action, deliveries, sender));
        acted.await.unwrap_or(Ok(0))
    }

    /// Settles all that waits for a site, a batch at a time, and returns how many deliveries that were. Its record says
    /// already that it is closing, so nothing comes in any more; what is out at an agent is waited for. Only when all
    /// mail is known does it find all.
    pub async fn close_site(&self, site: SiteName, left: Left) -> u64 {
        let closed = self.ask(|sender| Ask::CloseSite(site, left, sender));
        closed.await.unwrap_or_default()
    }

    /// The wall clock looks wrong, and nothing expires.
    pub async fn clock_alarm(&self) -> Option<ClockAlarm> {
        self.ask(Ask::ClockAlarm).await?
    }

    /// Ends the alarm: the wall clock is right. Durable when Ok.
    ///
    /// # Errors
    /// It is believed from now on, but could not be written yet: that is tried again until it is.
    pub async fn clock_confirmed(&self) -> Result<(), StoreFailed> {
        let ended = || Err(StoreFailed("the controller is stopping".to_owned()));
        self.ask(Ask::ConfirmClock).await.unwrap_or_else(ended)
    }

    pub async fn site_view(&self, site: SiteName) -> Option<SiteView> {
        self.ask(|sender| Ask::Site(site, sender)).await?
    }

    /// How every site stands, in short: cheap, however many there are.
    pub async fn site_states(&self) -> Vec<SiteState> {
        self.ask(Ask::States).await.unwrap_or_default()
    }

    pub async fn agent_views(&self) -> Vec<AgentView> {
        self.ask(Ask::Agents).await.unwrap_or_default()
    }

    /// Returns when the drain of some agent has ended since the last call, or one has left in order.
    pub async fn drain_ended(&self) {
        self.drain_ended.notified().await;
    }

    /// Agents whose drain has ended and that were not resumed since.
    pub async fn drained_agents(&self) -> Vec<AgentName> {
        self.ask(Ask::Drained).await.unwrap_or_default()
    }

    /// Who may know of mail what is not written here; None: the loop has ended.
    pub async fn untold_agents(&self) -> Option<Vec<AgentName>> {
        self.ask(Ask::Untold).await
    }

    /// Agents that have ended in order and are not back.
    pub async fn agents_that_left(&self) -> Vec<AgentName> {
        self.ask(Ask::Left).await.unwrap_or_default()
    }

    /// Which of these are out at an agent.
    pub async fn is_out(&self, deliveries: Vec<DeliveryId>) -> Vec<DeliveryId> {
        let out = self.ask(|sender| Ask::IsOut(deliveries, sender)).await;
        out.unwrap_or_default()
    }

    /// What is counted without asking the loop.
    pub fn measured(&self) -> &Measured {
        &self.measured
    }

    pub async fn counters(&self) -> Counters {
        self.ask(Ask::Counters).await.unwrap_or_default()
    }
}

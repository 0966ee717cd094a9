//! `dd.v1.Queue`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use dd_proto::envelope::Envelope;
use dd_proto::id::{DeliveryId, MessageId};
use dd_proto::name::SiteName;
use dd_proto::pb;
use jiff::Timestamp;
use tonic::{Request, Response, Status};

use super::caller::Caller;
use super::delivery::send;
use super::produced::{Items, Produced};
use super::{Context, Knowledge, at_ms, caller, now, status};
use crate::dispatch::{InHand, SiteView, is_parked};
use crate::store::{StoreError, Waiting};

pub(super) const PAGE: usize = 100;

#[derive(Debug, Clone)]
pub struct Queue(pub Arc<Context>);

#[tonic::async_trait]
impl pb::queue_server::Queue for Queue {
    type ListStream = Produced<pb::QueuedDelivery>;

    async fn list(
        &self,
        request: Request<pb::ListQueueRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let site = self.known_site(&request.into_inner().site)?;
        let context = self.0.clone();
        Ok(Response::new(Produced::by(|items| async move {
            if let Err(error) = list(&context, site, &items).await {
                let _ = items.send(Err(error)).await;
            }
        })))
    }

    async fn show(
        &self,
        request: Request<pb::MessageId>,
    ) -> Result<Response<pb::QueuedMessage>, Status> {
        let waiting = self.find(&request.into_inner().id, None).await?;
        let mut message = pb::QueuedMessage::default();
        for (row, envelope) in rows(&self.0, waiting).await? {
            message.deliveries.push(row);
            message.envelope = envelope.map(Into::into).or(message.envelope);
        }
        Ok(Response::new(message))
    }

    type ContentStream = Produced<pb::ContentChunk>;

    async fn content(
        &self,
        request: Request<pb::MessageId>,
    ) -> Result<Response<Self::ContentStream>, Status> {
        let who = caller(&request);
        let id = request.into_inner().id;
        for it in self.find(&id, None).await? {
            // Every delivery of a message has the same content; one may be settled meanwhile.
            if let Some(loaded) = self.0.store.load(&it.delivery).await? {
                let what = format!("mail read: {}", it.delivery.message);
                self.0.editor.audit(now(), who.who(), &what);
                return Ok(Response::new(Produced::by(|items| {
                    send(loaded.content, items)
                })));
            }
        }
        Err(status::unknown("message", &id))
    }

    type SearchStream = Produced<pb::FoundDelivery>;

    async fn search(
        &self,
        request: Request<pb::SearchRequest>,
    ) -> Result<Response<Self::SearchStream>, Status> {
        let found = super::search::search(&self.0, request.into_inner()).await?;
        Ok(Response::new(Produced::by(|items| async move {
            for it in found {
                if items.send(Ok(it)).await.is_err() {
                    return;
                }
            }
        })))
    }

    async fn retry(
        &self,
        request: Request<pb::DeliverySelection>,
    ) -> Result<Response<pb::Changed>, Status> {
        let who = caller(&request);
        let ids = self.selected(request.into_inner()).await?;
        let shown: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let context = self.0.clone();
        let retrying = self.0.editor.to_its_end(async move {
            let retried = context.dispatch.retry(ids).await;
            let deliveries = retried.map_err(|_| in_hand())?;
            let what = format!("mail retried: {}", shown.join(", "));
            context.editor.audit(now(), who.who(), &what);
            Ok(Response::new(pb::Changed { deliveries }))
        });
        retrying.await
    }

    async fn remove(
        &self,
        request: Request<pb::DeliverySelection>,
    ) -> Result<Response<pb::Changed>, Status> {
        let who = caller(&request);
        let ids = self.selected(request.into_inner()).await?;
        let queue = self.clone();
        let removing = self.0.editor.to_its_end(async move {
            let removed = queue.0.dispatch.remove(ids.clone()).await;
            queue.changed(&who, "removed", &ids, removed)
        });
        removing.await
    }

    async fn fail(
        &self,
        request: Request<pb::DeliverySelection>,
    ) -> Result<Response<pb::Changed>, Status> {
        let who = caller(&request);
        let ids = self.selected(request.into_inner()).await?;
        let queue = self.clone();
        let failing = self.0.editor.to_its_end(async move {
            let failed = queue.0.dispatch.fail(ids.clone()).await;
            queue.changed(&who, "failed", &ids, failed)
        });
        failing.await
    }
}

impl Queue {
    /// A site that there is, or under whose name mail is held. Empty: all.
    fn known_site(&self, name: &str) -> Result<Option<SiteName>, Status> {
        let Some(site) = site(name)? else {
            return Ok(None);
        };
        let Context {
            registry, store, ..
        } = &*self.0;
        let smarthost = registry.smarthost();
        let is_built_in = smarthost.is_some_and(|it| it.name == site);
        if is_built_in || registry.site(&site).is_some() || store.count(&site).messages > 0 {
            return Ok(Some(site));
        }
        match self.0.knows_all() {
            Knowledge::Complete => Err(status::unknown("site", name)),
            Knowledge::Partial => Err(status::not_all_known()),
        }
    }

    /// The open deliveries of a message, or the one to a site.
    async fn find(&self, id: &str, site: Option<SiteName>) -> Result<Vec<Waiting>, Status> {
        let parsed: MessageId = id.parse().map_err(|_| {
            status::invalid(
                "the ID is malformed: expected the one that `queued as` or `ddadm queue list` says",
            )
        })?;
        let mut found = self.0.store.find(parsed).await?;
        let elsewhere = some_sites(&found);
        found.retain(|it| site.as_ref().is_none_or(|site| it.delivery.site == *site));
        match (found.is_empty(), self.0.knows_all(), site) {
            (false, ..) => Ok(found),
            (true, Knowledge::Partial, ..) => Err(status::not_all_known()),
            (true, Knowledge::Complete, Some(site)) if !elsewhere.is_empty() => {
                Err(status::absent(format!(
                    "the message `{parsed}` does not wait for the site `{site}`; it waits for {elsewhere}"
                )))
            }
            (true, Knowledge::Complete, ..) => Err(status::unknown("message", id)),
        }
    }

    /// The answer to a change that ended deliveries, and its line in the audit.
    fn changed(
        &self,
        who: &Caller,
        what: &str,
        ids: &[DeliveryId],
        done: Result<u64, InHand>,
    ) -> Result<Response<pb::Changed>, Status> {
        let deliveries = done.map_err(|_| in_hand())?;
        let shown: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let what = format!("mail {what}: {}", shown.join(", "));
        self.0.editor.audit(now(), who.who(), &what);
        Ok(Response::new(pb::Changed { deliveries }))
    }

    async fn selected(&self, selection: pb::DeliverySelection) -> Result<Vec<DeliveryId>, Status> {
        // Asked first: what is known after that was open when all was known.
        let knowledge = self.0.knows_all();
        let site = self.known_site(&selection.site)?;
        let found = self.find(&selection.id, site).await?;
        let is_earlier = found.iter().any(|it| it.earlier_start);
        if is_earlier && knowledge == Knowledge::Partial {
            // The record that settles it may still come.
            return Err(status::not_all_known());
        }
        Ok(found.into_iter().map(|it| it.delivery).collect())
    }
}

/// `one`, `two`, `three` and 4 more: whom a message waits for, in a sentence.
fn some_sites(waiting: &[Waiting]) -> String {
    const NAMED: usize = 3;
    let names: Vec<String> = waiting
        .iter()
        .take(NAMED)
        .map(|it| format!("`{}`", it.delivery.site))
        .collect();
    let more = waiting.len().saturating_sub(NAMED);
    let rest = (more > 0).then(|| format!(" and {more} more"));
    names.join(", ") + &rest.unwrap_or_default()
}

fn in_hand() -> Status {
    status::refused("in hand: an agent is handing it over now, try again in a moment")
}

/// Empty: all.
fn site(name: &str) -> Result<Option<SiteName>, Status> {
    match name {
        "" => Ok(None),
        name => name
            .parse()
            .map(Some)
            .map_err(|_| status::unknown("site", name)),
    }
}

async fn list(
    context: &Context,
    site: Option<SiteName>,
    items: &Items<pb::QueuedDelivery>,
) -> Result<(), Status> {
    let mut after = None;
    loop {
        let reading = context.store.list(site.clone(), after, PAGE);
        let (page, next) = reading.await?;
        for (row, _) in rows(context, page).await? {
            if items.send(Ok(row)).await.is_err() {
                return Ok(());
            }
        }
        if next.is_none() {
            return Ok(());
        }
        after = next;
    }
}

/// Whatever was settled meanwhile is left out; what is damaged is not, for somebody has to see it.
pub(super) async fn rows(
    context: &Context,
    waiting: Vec<Waiting>,
) -> Result<Vec<(pb::QueuedDelivery, Option<Envelope>)>, Status> {
    let ids = waiting.iter().map(|it| it.delivery.clone()).collect();
    let out: HashSet<DeliveryId> = context.dispatch.is_out(ids).await.into_iter().collect();
    let ids = waiting.iter().map(|it| it.delivery.clone()).collect();
    let envelopes = context.store.envelopes(ids).await?;
    let mut rows = Vec::with_capacity(waiting.len());
    let mut sites = HashMap::new();
    for (it, envelope) in waiting.into_iter().zip(envelopes) {
        let is_out = out.contains(&it.delivery);
        let site = &it.delivery.site;
        if !sites.contains_key(site) {
            let view = context.dispatch.site_view(site.clone()).await;
            sites.insert(site.clone(), view);
        }
        let site = sites.get(site).and_then(Option::as_ref);
        let (row, envelope) = match envelope {
            Ok(Some(envelope)) => (row(&it, &envelope, is_out), Some(envelope)),
            Ok(None) => continue,
            Err(error @ StoreError::Damaged(_)) => (unreadable(&it, &error), None),
            Err(error) => return Err(error.into()),
        };
        let (stands, next) = stands(&it, is_out, site, now());
        let row = pb::QueuedDelivery {
            stands: stands.to_owned(),
            next_ms: at_ms(next),
            ..row
        };
        rows.push((row, envelope));
    }
    Ok(rows)
}

/// A delivery whose record cannot be read: what the index knows of it, and why there is no more.
fn unreadable(it: &Waiting, error: &StoreError) -> pb::QueuedDelivery {
    pb::QueuedDelivery {
        id: it.delivery.message.to_string(),
        site: it.delivery.site.to_string(),
        bytes: it.bytes,
        arrived_ms: it.arrived.as_millisecond(),
        attempts: it.attempts,
        in_doubt: it.in_doubt,
        failed: it.failed,
        last: error.to_string(),
        ..pb::QueuedDelivery::default()
    }
}

/// Where a delivery stands, and when it is tried if that is not now. Pure.
fn stands(
    it: &Waiting,
    out: bool,
    site: Option<&SiteView>,
    now: Timestamp,
) -> (&'static str, Option<Timestamp>) {
    let of_site = site.and_then(|site| site.next_attempt);
    let next = own_time(it).max(of_site).filter(|at| *at > now);
    match (out, it.failed, it.in_doubt) {
        (true, ..) => ("out", None),
        (_, true, _) => ("failed", None),
        _ if site.is_none_or(|site| site.state == "held") => ("held", None),
        (.., true) => ("in-doubt", next),
        _ if is_parked(it) => ("kept", next),
        _ if next.is_some() => ("waiting", next),
        _ => ("due", None),
    }
}

/// What is kept has no time of its own: it goes when its home is asked again.
fn own_time(it: &Waiting) -> Option<Timestamp> {
    it.not_before.filter(|_| !is_parked(it))
}

fn row(it: &Waiting, envelope: &Envelope, out: bool) -> pb::QueuedDelivery {
    let open = envelope.recipients.iter();
    let open = open.filter(|recipient| it.open.contains(&recipient.number));
    pb::QueuedDelivery {
        id: it.delivery.message.to_string(),
        site: it.delivery.site.to_string(),
        reverse_path: envelope.reverse_path.as_str().to_owned(),
        recipients: open.map(|it| it.path.as_str().to_owned()).collect(),
        bytes: it.bytes,
        arrived_ms: it.arrived.as_millisecond(),
        attempts: it.attempts,
        not_before_ms: at_ms(own_time(it)),
        in_doubt: it.in_doubt,
        last: it.last.clone(),
        out,
        failed: it.failed,
        // Said by whoever knows the site.
        next_ms: 0,
        stands: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Position;

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn waiting(not_before: Option<&str>) -> Waiting {
        Waiting {
            delivery: DeliveryId {
                message: MessageId::new(1_800_000_000_000, [0; 10]),
                site: "home".parse().unwrap(),
            },
            position: Position::made_up(0, 1),
            arrived: NOW,
            not_before: not_before.map(|at| at.parse().unwrap()),
            attempts: 1,
            breaks: 0,
            in_doubt: false,
            failed: false,
            kept: true,
            warned: false,
            last: String::new(),
            bytes: 1,
            open: Vec::new(),
            earlier_start: false,
        }
    }

    #[test]
    fn a_few_sites_of_many_are_named() {
        let to = |n: usize| {
            let mut it = waiting(None);
            it.delivery.site = format!("home{n}").parse().unwrap();
            it
        };
        let all: Vec<Waiting> = (1..=5).map(to).collect();
        assert_eq!(some_sites(&[]), "");
        assert_eq!(some_sites(&all[..2]), "`home1`, `home2`");
        assert_eq!(some_sites(&all[..3]), "`home1`, `home2`, `home3`");
        assert_eq!(some_sites(&all), "`home1`, `home2`, `home3` and 2 more");
    }

    #[test]
    fn what_is_held_for_damage_says_so_also_where_its_record_cannot_be_read() {
        let held = Waiting {
            failed: true,
            ..waiting(None)
        };
        let error = StoreError::Damaged(held.delivery.clone());
        assert!(unreadable(&held, &error).failed);
        assert_eq!(stands(&held, false, None, NOW), ("failed", None));
    }

    #[test]
    fn what_is_kept_goes_when_its_home_is_asked_again() {
        let home = |state, next: Option<&str>| SiteView {
            state,
            next_attempt: next.map(|at| at.parse().unwrap()),
            ..SiteView::default()
        };
        let (soon, late) = ("2030-01-01T00:00:00Z", "2031-01-01T00:00:00Z");
        let parked = Some("9000-01-01T00:00:00Z");
        for (own, site, expected, next) in [
            (parked, home("waiting", Some(soon)), "kept", Some(soon)),
            (parked, home("flowing", None), "kept", None),
            (parked, home("held", None), "held", None),
            (
                Some(late),
                home("waiting", Some(soon)),
                "waiting",
                Some(late),
            ),
            (None, home("waiting", Some(soon)), "waiting", Some(soon)),
            (None, home("flowing", None), "due", None),
        ] {
            let stands = stands(&waiting(own), false, Some(&site), NOW);
            let next: Option<Timestamp> = next.map(|at| at.parse().unwrap());
            assert_eq!(stands, (expected, next), "{own:?} {site:?}");
        }
        assert_eq!(own_time(&waiting(parked)), None);
        assert!(own_time(&waiting(Some(late))).is_some());
    }
}

//! Outages: a site's contact is told once that its mail waits, and once that it flows again.
//!
//! | the machine stops … | after the restart |
//! | --- | --- |
//! | before the mail is on record | it is due as before |
//! | with its id on record, before it is in the queue | written again under the same id |
//! | with it in the queue, before that is on record | found in the queue, and not written again |
//!
//! # Invariants
//! - Nobody is told through the site itself: the notice would wait with the rest.
//! - While the wall clock is in doubt nobody is told anything.
//!
//! # Not here
//! When somebody is told ([`judge`]), and the words ([`crate::dsn::notice`]).

pub mod judge;
mod record;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dd_proto::name::SiteName;
use dd_proto::site::Site;
use jiff::Timestamp;

use crate::dispatch::{Handle, Mail};
use crate::dsn::notice::{self, Notice};
use crate::dsn::{Notifier, new_id};
use crate::history::book::Book;
use crate::registry::Registry;
use crate::store::{Remembered, Store, StoreError};
use judge::{Seen, Told, Watched};
use record::Entry;

const LOOK: Duration = Duration::from_secs(60);

/// Who looks, and tells.
#[derive(Debug)]
pub struct Outages {
    pub registry: Registry,
    pub store: Store,
    pub dispatch: Handle,
    pub notifier: Notifier,
    pub book: Arc<Book>,
}

/// What is known of each site.
#[derive(Debug, Default)]
struct All(HashMap<SiteName, (Watched, Option<Entry>)>);

impl Outages {
    /// Looks every minute, for ever; `now` reads the wall clock.
    pub async fn watch(self, now: fn() -> Timestamp) {
        let mut all_known = self.store.all_known();
        // Before that nobody can say which mails are in the queue.
        if all_known.wait_for(|known| *known).await.is_err() {
            return;
        }
        let mut all = match self.recall() {
            Ok(all) => all,
            Err(error) => {
                tracing::error!(%error, "what was told of outages cannot be read: it is told anew");
                All::default()
            }
        };
        loop {
            self.look(&mut all, now()).await;
            tokio::time::sleep(LOOK).await;
        }
    }

    fn recall(&self) -> Result<All, StoreError> {
        let records = self.store.records(record::FAMILY)?;
        let known = records.iter().filter_map(|found| {
            let entry = record::decode(&found.value)?;
            Some((found.key.parse().ok()?, (Watched::default(), Some(entry))))
        });
        Ok(All(known.collect()))
    }

    async fn look(&self, all: &mut All, now: Timestamp) {
        if self.dispatch.clock_alarm().await.is_some() {
            return;
        }
        let sites = self.registry.sites();
        self.forget(all).await;
        for site in sites {
            let (watched, entry) = all.0.entry(site.name.clone()).or_default();
            self.look_at(&site, watched, entry, now).await;
            // There may be tens of thousands.
            tokio::task::yield_now().await;
        }
    }

    /// Of sites that are no more.
    async fn forget(&self, all: &mut All) {
        let mut gone = Vec::new();
        all.0.retain(|site, (_, entry)| {
            let stays = self.registry.site(site).is_some();
            if !stays && entry.is_some() {
                gone.push((site.to_string(), None));
            }
            stays
        });
        if !gone.is_empty() {
            self.remember(gone).await;
        }
    }

    async fn look_at(
        &self,
        site: &Site,
        watched: &mut Watched,
        entry: &mut Option<Entry>,
        now: Timestamp,
    ) {
        let Some(after) = site.schedule.outage_notice else {
            return;
        };
        if let Some(known) = *entry
            && known.owed.is_some()
        {
            *entry = Some(self.pay(site, known, now).await);
        }
        let waits = self.store.count(&site.name).messages > 0 && site.hold.is_none();
        let is_open = entry.is_some_and(|it| it.told.until.is_none());
        if !waits && !is_open {
            return watched.nothing_waits(now);
        }
        let seen = Seen {
            history: &self.book.of(&site.name),
            mail: match waits {
                true => judge::Mail::Waits,
                false => judge::Mail::None,
            },
            pace: site.schedule.retry_interval,
        };
        let told = entry.map(|it| it.told);
        if let Some(news) = watched.look(&seen, told.as_ref(), after, now) {
            self.tell(site, news, entry, now).await;
        }
    }

    async fn tell(&self, site: &Site, told: Told, entry: &mut Option<Entry>, now: Timestamp) {
        let owed = notice::can_be_told(site).then(|| new_id(now, rand::random()));
        let new = Entry { told, owed };
        // Without room it is told later, for it could not be told once only.
        if !self.record(site, &new).await {
            return;
        }
        tracing::warn!(
            target: "site",
            site = %site.name,
            contact = site.contact.as_ref().map(ToString::to_string),
            told = owed.is_some(),
            since = %told.since,
            why = ?told.why,
            until = told.until.map(|it| it.to_string()),
            "{}",
            match told.until {
                None => "mail has waited for long because the site is away",
                Some(_) => "the site's mail flows again",
            }
        );
        *entry = Some(self.pay(site, new, now).await);
    }

    /// Writes the mail that is on record, unless it is in the queue already.
    async fn pay(&self, site: &Site, entry: Entry, now: Timestamp) -> Entry {
        let Some(id) = entry.owed else { return entry };
        let paid = Entry {
            owed: None,
            ..entry
        };
        match self.store.find(id).await {
            Ok(found) if found.is_empty() => {}
            Ok(_) => {
                self.record(site, &paid).await;
                return paid;
            }
            Err(error) => {
                tracing::error!(site = %site.name, %error, "the site's contact is not told yet");
                return entry;
            }
        }
        let notice = self.notice(site, &entry.told);
        // The contact may have gone since.
        if let Some(submission) = self.notifier.notice_as(id, site, &notice, now) {
            let mail = Mail::of(&submission);
            match self.store.accept(submission).await {
                Ok(waiting) => {
                    self.notifier.notice_written();
                    self.dispatch.arrived(mail.arrived(waiting)).await;
                }
                Err(error) => {
                    tracing::error!(site = %site.name, %error, "the site's contact is not told yet");
                    return entry;
                }
            }
        }
        self.record(site, &paid).await;
        paid
    }

    fn notice(&self, site: &Site, told: &Told) -> Notice {
        let Told {
            why, since, until, ..
        } = *told;
        let count = self.store.count(&site.name);
        let history = self.book.of(&site.name);
        let last = history.runs.first().map(|run| run.last.detail.clone());
        Notice {
            language: notice::Language::of(site),
            what: match until {
                None => notice::What::Away {
                    why,
                    since,
                    messages: count.messages,
                    bytes: count.bytes,
                    detail: last.unwrap_or_default(),
                },
                Some(until) => notice::What::FlowsAgain { since, until },
            },
        }
    }

    async fn record(&self, site: &Site, entry: &Entry) -> bool {
        let value = Some(record::encode(entry));
        self.remember(vec![(site.name.to_string(), value)]).await
    }

    async fn remember(&self, records: Vec<(String, Option<Bytes>)>) -> bool {
        match self.store.remember(record::FAMILY, records).await {
            Ok(remembered) => remembered == Remembered::Written,
            Err(error) => {
                tracing::warn!(%error, "what was told of an outage cannot be written down");
                false
            }
        }
    }
}

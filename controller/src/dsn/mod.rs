//! Notifications: what senders are told about their mail, and what the people who look after a site are told.
//!
//! [`whether`] says, purely, who is owed a word; [`text`] writes it (with [`words`] for people and [`fields`] for
//! programs); [`cap`] gives it its time; [`notice`] writes to a site's contact. All of it leaves through the queue, to
//! the site that [`smarthost`] builds in.
//!
//! ```text
//! settlement or delay warning ──▶ whether ──▶ text ──▶ one log record with what it is about ──▶ queue of `smarthost`
//! ```
//!
//! # Invariants
//! - Nothing is ever written about a message with the null reverse-path.
//! - A report is accepted by the very record that settles what it is about (see [`crate::store::Owing`]).
//!
//! # Not here
//! When something fails, expires or is late: [`crate::dispatch`].

mod cap;
mod fields;
pub mod notice;
mod outage;
pub mod refused;
pub mod smarthost;
pub mod text;
pub mod whether;
mod words;

#[cfg(test)]
mod golden_tests;
#[cfg(test)]
pub(crate) mod samples;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dd_proto::envelope::{Envelope, Recipient};
use dd_proto::id::{MessageId, RecipientNumber};
use dd_proto::path::{ForwardPath, Mailbox, ReversePath};
use dd_proto::site::Site;
use jiff::Timestamp;

use crate::intake::accept::{Content, Submission};
use crate::intake::header;
use crate::intake::policy::Space;
use crate::store::{Notification, Spooled};
use cap::Cap;
use notice::Notice;
use text::{Composed, Letterhead, Original, Report};
use whether::{Action, Fate};

pub use text::MAX_RETURNED;

/// Writes notifications. Clones share caps and counters.
#[derive(Debug, Clone)]
pub struct Notifier(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    letterhead: Letterhead,
    cap: Mutex<Cap>,
    written: Written,
}

/// Counted since the start.
#[derive(Debug, Default)]
struct Written {
    failed: AtomicU64,
    delayed: AtomicU64,
    relayed: AtomicU64,
    notices: AtomicU64,
    capped: AtomicU64,
    undeliverable: AtomicU64,
}

/// What was written since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    pub failed: u64,
    pub delayed: u64,
    pub relayed: u64,
    /// To the contacts of sites.
    pub notices: u64,
    /// Put off because their sender had had many.
    pub capped: u64,
    /// Refused by the smarthost, or not taken in time: nobody is told of these but operators.
    pub undeliverable: u64,
}

/// A message that something has become of.
#[derive(Debug)]
pub struct About<'a> {
    pub id: MessageId,
    pub envelope: &'a Envelope,
    pub arrived: Timestamp,
    /// From its beginning on, up to [`MAX_RETURNED`]; empty where it cannot be read.
    pub content: &'a [u8],
    pub bytes: u64,
    /// The address and port of the host that answered.
    pub peer: Option<&'a str>,
}

/// When and how a notification is written.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    pub now: Timestamp,
    pub since_start: Duration,
    pub space: Space,
}

impl Notifier {
    pub fn new(letterhead: Letterhead) -> Self {
        Self(Arc::new(Inner {
            letterhead,
            cap: Mutex::new(Cap::new()),
            written: Written::default(),
        }))
    }

    /// The report that is owed, if one is: one for all these recipients.
    pub fn report(
        &self,
        about: &About<'_>,
        fates: &[Fate],
        moment: Moment,
        random: [u8; 10],
    ) -> Option<Notification> {
        let entries = whether::owed(about.envelope, fates);
        let ReversePath::Mailbox(sender) = &about.envelope.reverse_path else {
            return None;
        };
        if entries.is_empty() {
            return None;
        }
        let report = Report {
            id: new_id(moment.now, random),
            from: &self.0.letterhead,
            now: moment.now,
            space: moment.space,
            original: Original {
                id: about.id,
                envelope: about.envelope,
                arrived: about.arrived,
                content: about.content,
                bytes: about.bytes,
            },
            entries: &entries,
            peer: about.peer,
        };
        let composed = text::compose(&report);
        self.count(report.worst());
        let wait = self.wait(sender, moment.since_start);
        let (id, now) = (report.id, moment.now);
        tracing::info!(
            target: "mail",
            %id,
            about = %about.id,
            recipients = sender.as_str(),
            what = report.worst().as_str(),
            put_off_s = wait.as_secs(),
            "notification"
        );
        Some(Notification {
            id,
            envelope: addressed(sender, &composed),
            site: smarthost::name(),
            content: composed.content.into(),
            arrived: now,
            not_before: (!wait.is_zero())
                .then(|| now.saturating_add(wait).unwrap_or(Timestamp::MAX)),
        })
    }

    /// A mail to whoever looks after a site, ready for the store. None where the site has no contact.
    pub fn notice(
        &self,
        site: &Site,
        notice: &Notice,
        now: Timestamp,
        random: [u8; 10],
    ) -> Option<Submission<Spooled>> {
        self.notice_as(new_id(now, random), site, notice, now)
    }

    /// The same, with an id that was made before. None also where it would wait at the site that it is about.
    pub fn notice_as(
        &self,
        id: MessageId,
        site: &Site,
        notice: &Notice,
        now: Timestamp,
    ) -> Option<Submission<Spooled>> {
        let contact = site.contact.as_ref()?;
        if notice.what.is_about_waiting_mail() && !notice::can_be_told(site) {
            return None;
        }
        let composed = notice::compose(&self.0.letterhead, id, now, site, contact, notice);
        Some(Submission {
            id,
            envelope: addressed(contact, &composed),
            message_id: header::message_id(&composed.content).into(),
            deliveries: vec![(smarthost::name(), vec![RecipientNumber(0)])],
            content: Content::Inline(composed.content.into()),
            arrived: now,
        })
    }

    /// A mail to a contact is in the queue.
    pub fn notice_written(&self) {
        self.0.written.notices.fetch_add(1, Ordering::Relaxed);
    }

    /// A notification was settled without having been delivered. It is not answered with another one.
    pub fn undeliverable(&self, id: MessageId, recipients: &str, reply: &str) {
        self.0.written.undeliverable.fetch_add(1, Ordering::Relaxed);
        tracing::error!(
            target: "mail",
            %id,
            recipients,
            reply,
            "a notification could not be delivered; nobody was told what it says"
        );
    }

    pub fn counters(&self) -> Counters {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let written = &self.0.written;
        Counters {
            failed: of(&written.failed),
            delayed: of(&written.delayed),
            relayed: of(&written.relayed),
            notices: of(&written.notices),
            capped: of(&written.capped),
            undeliverable: of(&written.undeliverable),
        }
    }

    fn count(&self, action: Action) {
        let counter = match action {
            Action::Failed => &self.0.written.failed,
            Action::Delayed => &self.0.written.delayed,
            Action::Relayed => &self.0.written.relayed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn wait(&self, sender: &Mailbox, since_start: Duration) -> Duration {
        let mut cap = self.0.cap.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = cap.wait(sender, since_start);
        self.0
            .written
            .capped
            .fetch_add(u64::from(!wait.is_zero()), Ordering::Relaxed);
        wait
    }
}

/// Of a mail of our own.
pub fn new_id(now: Timestamp, random: [u8; 10]) -> MessageId {
    MessageId::new(u64::try_from(now.as_millisecond()).unwrap_or(0), random)
}

/// RFC 5321 §4.5.5: from nobody, so that nothing is ever sent about it.
fn addressed(to: &Mailbox, composed: &Composed) -> Envelope {
    Envelope {
        reverse_path: ReversePath::Null,
        body: composed.body,
        encoding: composed.encoding,
        ret: None,
        envid: None,
        recipients: vec![Recipient {
            number: RecipientNumber(0),
            path: ForwardPath(to.clone()),
            notify: None,
            orcpt: None,
        }],
        client: None,
    }
}

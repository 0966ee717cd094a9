//! What a member sees of the site, gathered and put into words.
//!
//! # Invariants
//! Nothing of a message is shown but its sender, its size and when it came.

use std::sync::Arc;

use dd_proto::report::PeerCertificate;
use dd_proto::site::{Proof, Site};
use dd_proto::units::is_endless;
use jiff::Timestamp;

use super::Web;
use super::advice::{Found, advice};
use super::check::{self, Check};
use super::language::Language;
use super::session::{Looked, Progress, Signed};
use super::strays;
use super::tries::{self, Try};
use super::words::Words;
use crate::dispatch::{LastAttempt, SiteView};
use crate::history;
use crate::registry::shown::{Shown as Remembered, Sight, key_is_no_proof};
use crate::store::{StoreError, Waiting};
use crate::wakeup::outcome::Outcome;

/// Rows of waiting mail on the page.
const ROWS: usize = 8;
/// How far the oldest is looked for.
const LOOKED_AT: usize = 200;
/// A certificate that is about to expire; the contact is written to as well.
const SOON_DAYS: i64 = 30;

/// The part of the page that changes by itself.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) tone: &'static str,
    pub(super) headline: &'static str,
    pub(super) lead: &'static str,
    pub(super) advice: Option<String>,
    /// What the last try found, in full.
    pub(super) detail: Option<String>,
    pub(super) next_try: Option<When>,
    pub(super) last_try: Option<When>,
    /// When the site last took mail; None: not known.
    pub(super) last_mail: Option<When>,
    pub(super) days: Vec<Day>,
    pub(super) working: bool,
    pub(super) said: Option<Said>,
    pub(super) waiting: WaitingMail,
    pub(super) who: Who,
    pub(super) certificate: Shown,
    pub(super) tries: Vec<Try>,
    pub(super) call: Option<LastCall>,
    pub(super) checking: bool,
    pub(super) checks: Option<Vec<Check>>,
    /// Its machine was taken for another site's.
    pub(super) stray: Option<String>,
    pub(super) as_of: String,
}

/// A moment, twice.
#[derive(Debug)]
pub(super) struct When {
    pub(super) relative: String,
    pub(super) exact: String,
    /// RFC 3339; HTML takes at most three digits of a second.
    pub(super) iso: String,
}

/// What came of *deliver now*.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) tone: &'static str,
    pub(super) text: String,
}

#[derive(Debug)]
pub(super) struct WaitingMail {
    pub(super) count: u64,
    pub(super) size: String,
    pub(super) oldest: Option<When>,
    pub(super) complete: bool,
    pub(super) rows: Vec<Row>,
    pub(super) more: u64,
}

#[derive(Debug)]
pub(super) struct Row {
    pub(super) sender: String,
    pub(super) size: String,
    pub(super) arrived: When,
}

/// What answered the last time.
#[derive(Debug)]
pub(super) enum Who {
    NotTried,
    Nobody,
    Somebody {
        proved: bool,
        address: String,
        certificate: Option<Card>,
    },
}

/// A certificate for people.
#[derive(Debug)]
pub(super) struct Card {
    pub(super) subject: String,
    pub(super) issuer: String,
    pub(super) names: String,
    pub(super) fingerprint: String,
    pub(super) tone: &'static str,
    pub(super) expired: bool,
    pub(super) soon: bool,
    pub(super) until: String,
}

/// The site's own certificate, as it was last seen.
#[derive(Debug)]
pub(super) enum Shown {
    Seen {
        card: Box<Card>,
        /// Since when the key is another one than before, where the proof does not rest on it.
        changed: Option<When>,
    },
    Unseen,
    NotNeeded,
}

/// How the attempts of a day ended.
#[derive(Debug)]
pub(super) struct Day {
    pub(super) date: String,
    pub(super) counts: String,
}

#[derive(Debug)]
pub(super) struct LastCall {
    pub(super) at: When,
    pub(super) door: &'static str,
    pub(super) client: String,
    pub(super) reported: Option<String>,
}

impl Web {
    /// # Errors
    /// The queue cannot be read.
    pub(super) async fn live(
        &self,
        site: &Arc<Site>,
        signed: &Signed,
        language: Language,
        now: Timestamp,
    ) -> Result<Live, StoreError> {
        let eye = Eye { language, now };
        let view = self.dispatch.site_view(site.name.clone()).await;
        let view = view.unwrap_or_else(|| SiteView::unseen(site));
        let last = view.last_attempts.first();
        let progress = signed.delivery.as_ref().map(|it| it.borrow().clone());
        let looked = signed.check.as_ref().map(|it| it.borrow().clone());
        let why = view.why.unwrap_or_default();
        let (reason, detail) = last.map_or(("", ""), |it| (&*it.reason, &*it.detail));
        let (tone, headline, lead) = eye.state(&view);
        let call = self.wakeup.last_call(&site.name);
        let past = self.dispatch.measured().history.of(&site.name);
        let hosts: Vec<String> = site.hosts.iter().map(ToString::to_string).collect();
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let found = Found {
            why,
            reason,
            detail,
            hosts: &hosts,
        };
        Ok(Live {
            tone,
            headline,
            lead,
            advice: advice(&found, language),
            detail: Some(detail.to_owned()).filter(|it| !why.is_empty() && !it.is_empty()),
            next_try: view.next_attempt.map(|at| eye.when(at)),
            last_try: past.runs.first().map(|it| eye.when(it.last.at)),
            last_mail: past.last_relayed.map(|at| eye.when(at)),
            days: past.days.iter().map(|day| eye.day(day)).collect(),
            working: matches!(progress, Some(Progress::Working)),
            said: progress.and_then(|it| eye.said(it)),
            waiting: self.waiting(site, eye).await?,
            who: last.map_or(Who::NotTried, |it| eye.who(it)),
            certificate: eye.certificate(site, self.wakeup.registry().shown(&site.name).as_deref()),
            tries: tries::rows(&past.runs, &hosts, eye),
            call: call.map(|call| LastCall {
                at: eye.when(call.at),
                door: call.door.word(),
                client: call.client.to_string(),
                reported: call.reported.map(|it| it.to_string()),
            }),
            checking: matches!(looked, Some(Looked::Working)),
            checks: looked.and_then(|it| check::rows(&it, language, now)),
            stray: strays::notice(&view.answered_for, language),
            as_of: language.moment(now),
        })
    }

    async fn waiting(&self, site: &Site, eye: Eye) -> Result<WaitingMail, StoreError> {
        let count = self.store.count(&site.name);
        let listing = self.store.list(Some(site.name.clone()), None, LOOKED_AT);
        let (mut found, _) = listing.await?;
        found.sort_by_key(|it| it.arrived);
        let oldest = found.first().map(|it| eye.when(it.arrived));
        let mut rows = Vec::new();
        for it in found.iter().take(ROWS) {
            rows.extend(self.row(it, eye).await);
        }
        Ok(WaitingMail {
            count: count.messages,
            size: eye.language.size(count.bytes),
            oldest,
            complete: self.wakeup.knows_all(),
            more: count.messages.saturating_sub(rows.len() as u64),
            rows,
        })
    }

    /// None where it has just been delivered, or cannot be read.
    async fn row(&self, it: &Waiting, eye: Eye) -> Option<Row> {
        let loaded = self.store.load(&it.delivery).await.ok()??;
        let sender = loaded.envelope.reverse_path.as_str();
        let sender = match sender {
            "" | "<>" => eye.words().null_sender,
            sender => sender,
        };
        Some(Row {
            sender: sender.to_owned(),
            size: eye.language.size(it.bytes),
            arrived: eye.when(it.arrived),
        })
    }
}

/// Whose eyes, and when they look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Eye {
    pub(super) language: Language,
    pub(super) now: Timestamp,
}

impl Eye {
    pub(super) fn words(self) -> &'static Words {
        self.language.words()
    }

    pub(super) fn when(self, at: Timestamp) -> When {
        When {
            relative: self.language.relative(at, self.now),
            exact: self.language.moment(at),
            iso: format!("{at:.3}"),
        }
    }

    fn state(self, view: &SiteView) -> (&'static str, &'static str, &'static str) {
        let w = self.words();
        match (view.state, view.why) {
            ("held", _) => ("hold", w.head_held, w.lead_held),
            ("flowing", _) => ("busy", w.head_flowing, w.lead_flowing),
            ("proving" | "ready", _) => ("busy", w.head_trying, w.lead_trying),
            ("waiting", Some("down")) => ("bad", w.head_down, w.lead_down),
            ("waiting", Some("wrong-host")) => ("bad", w.head_wrong, w.lead_wrong),
            ("waiting", Some("refused")) => ("warn", w.head_refused, w.lead_refused),
            ("waiting", Some("busy")) => ("warn", w.head_busy, w.lead_busy),
            ("waiting", _) => ("warn", w.head_deferred, w.lead_deferred),
            _ => ("good", w.head_idle, w.lead_idle),
        }
    }

    fn said(self, progress: Progress) -> Option<Said> {
        let w = self.words();
        let of = |tone, text: &str| {
            let text = text.to_owned();
            Some(Said { tone, text })
        };
        let outcome = match progress {
            Progress::Working => return None,
            Progress::TooOften => return of("warn", w.o_often),
            Progress::Done(outcome) => outcome,
        };
        match outcome.result {
            "nothing-waiting" => of("good", w.o_nothing),
            "done" => {
                let tone = match outcome.deferred + outcome.failed {
                    0 => "good",
                    _ => "warn",
                };
                of(tone, &self.counts(&outcome))
            }
            "pending" => of("busy", w.o_pending),
            "not-reached" => of("bad", w.o_down),
            "wrong-host" => of("bad", w.o_wrong),
            "refused" => of("warn", w.o_refused),
            "held" => of("hold", w.o_held),
            _ => of("good", w.o_released),
        }
    }

    fn counts(self, outcome: &Outcome) -> String {
        let w = self.words();
        let noun = match outcome.relayed {
            1 => w.messages_one,
            _ => w.messages_many,
        };
        let mut text = format!("{} {noun} {}", outcome.relayed, w.m_delivered);
        for (count, word) in [
            (outcome.deferred, w.m_deferred),
            (outcome.failed, w.m_failed),
        ] {
            if count > 0 {
                text.push_str(&format!(", {count} {word}"));
            }
        }
        text.push('.');
        text
    }

    fn who(self, last: &LastAttempt) -> Who {
        if last.outcome == "unreachable" {
            return Who::Nobody;
        }
        Who::Somebody {
            proved: is_proved(last),
            address: last.address.clone(),
            certificate: last.peer.as_ref().map(|it| self.card(it)),
        }
    }

    fn certificate(self, site: &Site, shown: Option<&Remembered>) -> Shown {
        let hosts: Vec<String> = site.hosts.iter().map(ToString::to_string).collect();
        let sights = shown.map(|it| it.sights.as_slice()).unwrap_or_default();
        let of_hosts = |it: &&Sight| hosts.contains(&it.host) && it.certificate.is_some();
        let seen = sights.iter().find(of_hosts);
        match (seen, &site.proof) {
            (Some(sight), _) => {
                let peer = sight.certificate.as_ref().expect("it was looked for");
                let before = |it: &&Sight| it.host == sight.host && it.key() != sight.key();
                let changed = key_is_no_proof(&site.proof) && sights.iter().any(|it| before(&it));
                Shown::Seen {
                    card: Box::new(self.card(peer)),
                    changed: changed.then(|| self.when(sight.first)),
                }
            }
            (None, Proof::StaticIp { .. } | Proof::Port | Proof::Configured) => Shown::NotNeeded,
            (None, _) => Shown::Unseen,
        }
    }

    fn day(self, day: &history::Day) -> Day {
        let counts = day.counts().map(|(outcome, count)| {
            let (_, word) = self.words().outcome(outcome);
            format!("{count} {word}")
        });
        Day {
            date: self.language.civil(day.date),
            counts: counts.collect::<Vec<_>>().join(", "),
        }
    }

    fn card(self, peer: &PeerCertificate) -> Card {
        let left = peer.not_after.duration_since(self.now);
        let expired = left.is_negative();
        let soon = !expired && left.as_hours() < 24 * SOON_DAYS;
        Card {
            subject: peer.subject.clone(),
            issuer: peer.issuer.clone(),
            names: peer.names.join(", "),
            fingerprint: grouped(&peer.sha256),
            tone: match (expired, soon) {
                (true, _) => "bad",
                (_, true) => "warn",
                _ => "good",
            },
            expired,
            soon,
            until: match is_endless(peer.not_after) {
                true => self.language.words().no_end.to_owned(),
                false => self.language.date(peer.not_after),
            },
        }
    }
}

fn is_proved(it: &LastAttempt) -> bool {
    !matches!(it.outcome, "unreachable" | "wrong-host")
}

/// Hexadecimal digits in pairs, so that a line can break between them.
fn grouped(hex: &str) -> String {
    let pairs: Vec<String> = hex
        .as_bytes()
        .chunks(2)
        .map(|pair| String::from_utf8_lossy(pair).to_uppercase())
        .collect();
    pairs.join(":\u{200b}")
}

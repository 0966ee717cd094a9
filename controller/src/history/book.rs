//! The histories of all sites, shared: dispatch adds to it, pages read it, and the keeper writes it down.
//!
//! # Invariants
//! Nobody holds its lock for longer than one site takes. What has changed is written down within minutes where it is
//! news, and within hours where it is the same once more: ten thousand sites that are away cost a write each in six hours.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use dd_proto::name::SiteName;
use jiff::{SignedDuration, Timestamp};

use super::{History, News, record};
use crate::dispatch::LastAttempt;

const SOON: SignedDuration = SignedDuration::from_mins(10);
const LATE: SignedDuration = SignedDuration::from_hours(6);

const LOCK: &str = "no holder of this lock panics";

/// One page a site.
#[derive(Debug, Default)]
pub struct Book(Mutex<HashMap<SiteName, Page>>);

#[derive(Debug, Default)]
struct Page {
    history: History,
    /// None: as it stands in the store.
    unwritten: Option<News>,
    written: Option<Timestamp>,
}

impl Page {
    fn is_due(&self, now: Timestamp) -> bool {
        let Some(news) = self.unwritten else {
            return false;
        };
        let pause = match news {
            News::Yes => SOON,
            News::No => LATE,
        };
        // A clock that was set back must not keep it waiting.
        let since = self.written.map(|at| now.duration_since(at).abs());
        since.is_none_or(|since| since >= pause)
    }
}

impl Book {
    fn pages(&self) -> MutexGuard<'_, HashMap<SiteName, Page>> {
        self.0.lock().expect(LOCK)
    }

    /// As an earlier start left it. What has happened since then is not lost.
    pub(super) fn recall(&self, site: SiteName, history: History) {
        self.pages().entry(site).or_insert_with(|| Page {
            history,
            ..Page::default()
        });
    }

    pub fn attempted(&self, site: &SiteName, attempt: &LastAttempt) {
        let mut pages = self.pages();
        let page = match pages.get_mut(site) {
            Some(page) => page,
            None => pages.entry(site.clone()).or_default(),
        };
        let news = page.history.attempted(attempt);
        page.unwritten = Some(match page.unwritten {
            Some(News::Yes) => News::Yes,
            _ => news,
        });
    }

    pub fn of(&self, site: &SiteName) -> History {
        let pages = self.pages();
        let page = pages.get(site);
        page.map(|page| page.history.clone()).unwrap_or_default()
    }

    /// At most `most` of those that are to be written down by now; they count as written.
    pub(super) fn due(&self, now: Timestamp, most: usize) -> Vec<(SiteName, Bytes)> {
        self.take(now, most, |page| page.is_due(now))
    }

    /// Everything that is not written yet.
    pub(super) fn unwritten(&self, now: Timestamp) -> Vec<(SiteName, Bytes)> {
        self.take(now, usize::MAX, |page| page.unwritten.is_some())
    }

    fn take(
        &self,
        now: Timestamp,
        most: usize,
        which: impl Fn(&Page) -> bool,
    ) -> Vec<(SiteName, Bytes)> {
        let mut pages = self.pages();
        let those = pages.iter_mut().filter(|(_, page)| which(page)).take(most);
        let taken = those.map(|(site, page)| {
            page.unwritten = None;
            page.written = Some(now);
            (site.clone(), record::encode(&page.history))
        });
        taken.collect()
    }

    /// These could not be written down after all: they are due once more, after a pause.
    pub(super) fn not_written(&self, sites: impl Iterator<Item = SiteName>) {
        let mut pages = self.pages();
        for site in sites {
            if let Some(page) = pages.get_mut(&site) {
                page.unwritten = Some(News::Yes);
            }
        }
    }

    /// Sites that are no more, by this; their pages are gone.
    pub(super) fn forget(&self, is_there: impl Fn(&SiteName) -> bool) -> Vec<SiteName> {
        let mut gone = Vec::new();
        self.pages().retain(|site, _| {
            let stays = is_there(site);
            if !stays {
                gone.push(site.clone());
            }
            stays
        });
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::history::tests::attempt;

    #[test]
    fn news_is_written_soon_and_the_same_once_more_late() {
        let book = Book::default();
        let home: SiteName = "home".parse().unwrap();
        let at = |text: &str| -> Timestamp { text.parse().unwrap() };
        let due = |time: &str| book.due(at(time), 10).len();
        assert_eq!(due("2026-11-30T12:00:00Z"), 0);
        book.attempted(&home, &attempt("2026-11-30T12:00:00Z", "unreachable", ""));
        assert_eq!(due("2026-11-30T12:00:00Z"), 1);
        assert_eq!(due("2026-11-30T12:00:01Z"), 0);
        book.attempted(&home, &attempt("2026-11-30T12:03:00Z", "unreachable", ""));
        assert_eq!(due("2026-11-30T12:30:00Z"), 0);
        assert_eq!(due("2026-11-30T18:00:00Z"), 1);
        book.attempted(&home, &attempt("2026-11-30T18:03:00Z", "relayed", ""));
        book.attempted(&home, &attempt("2026-11-30T18:03:00Z", "unreachable", ""));
        assert_eq!(due("2026-11-30T18:09:59Z"), 0);
        assert_eq!(due("2026-11-30T18:10:00Z"), 1);
        assert_eq!(book.unwritten(at("2026-11-30T18:10:00Z")), []);
    }

    #[test]
    fn a_site_that_is_gone_is_forgotten() {
        let book = Book::default();
        let home: SiteName = "home".parse().unwrap();
        book.attempted(&home, &attempt("2026-11-30T12:00:00Z", "relayed", ""));
        assert_eq!(book.forget(|_| true), []);
        assert_eq!(book.forget(|_| false), std::slice::from_ref(&home));
        assert_eq!(book.of(&home), History::default());
    }
}

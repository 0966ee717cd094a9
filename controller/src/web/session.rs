//! Who is signed in to the portal: in memory, bound to one site, with an end.
//!
//! # Invariants
//! - An id is made here, at sign-in, and never taken from a client: nobody can be given a session that somebody else
//!   knows.
//! - A session ends when it was not used for half an hour, after twelve hours, when its site goes, and when the site's
//!   password changes, but for the session that changed it.
//! - Only digests of ids are kept.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dd_proto::name::SiteName;
use dd_proto::pb::AgentCheck;
use dd_proto::site::Site;
use dd_proto::unshown::Unshown;
use rand::{CryptoRng, RngExt as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::sync::watch;

use crate::authority::request::RequestError;
use crate::wakeup::failures::Failures;
use crate::wakeup::outcome::Outcome;

const IDLE: Duration = Duration::from_secs(30 * 60);
const LIFE: Duration = Duration::from_secs(12 * 3600);
const MOST: usize = 20_000;
const MOST_PER_SITE: usize = 20;

/// What a browser keeps, and nobody else.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct SessionId(String);

impl SessionId {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionId")
    }
}

/// How far a *deliver now* is.
#[derive(Debug, Clone)]
pub(super) enum Progress {
    Working,
    Done(Outcome),
    TooOften,
}

/// How far a *check my server* is.
#[derive(Debug, Clone)]
pub(super) enum Looked {
    Working,
    /// What each agent saw.
    Done(Arc<[AgentCheck]>),
}

/// Who uses a session: a page that looks for news by itself keeps nobody signed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Person,
    Page,
}

/// What is said once, on the next page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Notice {
    Held,
    Resumed,
    BadDate,
    PasswordChanged,
    WrongPassword,
    UnfitPassword,
    PasswordsDiffer,
    WakeUrl(Unshown),
    WakeRevoked,
    ContactChanged,
    ContactGone,
    BadContact,
    Issued,
    /// A private key came where a request was asked for.
    WasAKey,
    /// A certificate request was refused.
    Request(RequestError),
    TooOften,
    NotNow,
}

#[derive(Debug)]
struct Session {
    site: SiteName,
    password: [u8; 32],
    csrf: String,
    began: Duration,
    used: Duration,
    delivery: Option<watch::Receiver<Progress>>,
    check: Option<watch::Receiver<Looked>>,
    failures: Option<Failures>,
    notice: Option<Notice>,
}

/// Everybody who is signed in.
#[derive(Debug, Default)]
pub(super) struct Sessions(HashMap<[u8; 32], Session>);

/// A session as a page sees it.
#[derive(Debug, Clone)]
pub(super) struct Signed {
    pub(super) site: SiteName,
    pub(super) csrf: String,
    pub(super) delivery: Option<watch::Receiver<Progress>>,
    pub(super) check: Option<watch::Receiver<Looked>>,
    /// Sign-ins that had failed before this one.
    pub(super) failures: Option<Failures>,
}

impl Sessions {
    /// A new one; `now` is monotonic.
    pub(super) fn begin(
        &mut self,
        site: &Site,
        failures: Option<Failures>,
        now: Duration,
        rng: &mut impl CryptoRng,
    ) -> SessionId {
        self.0.retain(|_, session| session.lives(now));
        self.make_room(|session| session.site == site.name, MOST_PER_SITE);
        self.make_room(|_| true, MOST);
        let id = SessionId(random(rng));
        let session = Session {
            site: site.name.clone(),
            password: digest(site.password_hash.as_deref().unwrap_or_default()),
            csrf: random(rng),
            began: now,
            used: now,
            delivery: None,
            check: None,
            failures,
            notice: None,
        };
        self.0.insert(digest(id.as_str()), session);
        id
    }

    /// The longest unused one goes.
    fn make_room(&mut self, of: impl Fn(&Session) -> bool, most: usize) {
        let those = self.0.iter().filter(|(_, session)| of(session));
        if those.clone().count() < most {
            return;
        }
        let oldest = those.min_by_key(|(_, session)| session.used);
        if let Some(key) = oldest.map(|(key, _)| *key) {
            self.0.remove(&key);
        }
    }

    /// The session of this id, if it lives and `site` is still as it was at sign-in.
    pub(super) fn find(
        &mut self,
        id: &str,
        now: Duration,
        by: By,
        site: impl Fn(&SiteName) -> Option<Arc<Site>>,
    ) -> Option<Signed> {
        let key = digest(id);
        let session = self.0.get_mut(&key)?;
        let hash = site(&session.site).and_then(|site| site.password_hash.clone());
        let same = hash.is_some_and(|hash| digest(&hash) == session.password);
        if !same || !session.lives(now) {
            self.0.remove(&key);
            return None;
        }
        if by == By::Person {
            session.used = now;
        }
        Some(Signed {
            site: session.site.clone(),
            csrf: session.csrf.clone(),
            delivery: session.delivery.clone(),
            check: session.check.clone(),
            failures: session.failures,
        })
    }

    pub(super) fn end(&mut self, id: &str) {
        self.0.remove(&digest(id));
    }

    /// This one goes on with the site's new password.
    pub(super) fn keep(&mut self, id: &str, password_hash: &str) {
        if let Some(session) = self.0.get_mut(&digest(id)) {
            session.password = digest(password_hash);
        }
    }

    pub(super) fn deliver(&mut self, id: &str, progress: watch::Receiver<Progress>) {
        if let Some(session) = self.0.get_mut(&digest(id)) {
            session.delivery = Some(progress);
        }
    }

    pub(super) fn look(&mut self, id: &str, looked: watch::Receiver<Looked>) {
        if let Some(session) = self.0.get_mut(&digest(id)) {
            session.check = Some(looked);
        }
    }

    pub(super) fn say(&mut self, id: &str, notice: Notice) {
        if let Some(session) = self.0.get_mut(&digest(id)) {
            session.notice = Some(notice);
        }
    }

    /// What was to be said; it is said once.
    pub(super) fn said(&mut self, id: &str) -> Option<Notice> {
        self.0.get_mut(&digest(id))?.notice.take()
    }
}

impl Session {
    fn lives(&self, now: Duration) -> bool {
        now < self.used + IDLE && now < self.began + LIFE
    }
}

impl Signed {
    /// Whether a form came from a page of this session.
    pub(super) fn sent(&self, token: &str) -> bool {
        self.csrf.as_bytes().ct_eq(token.as_bytes()).into()
    }
}

/// 256 bits.
fn random(rng: &mut impl CryptoRng) -> String {
    let bytes: [u8; 32] = rng.random();
    URL_SAFE_NO_PAD.encode(bytes)
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    fn site(name: &str, hash: &str) -> Arc<Site> {
        let mut site = crate::inflow::closed(&"home.example".parse().unwrap());
        site.name = name.parse().unwrap();
        site.password_hash = Some(hash.to_owned());
        Arc::new(site)
    }

    fn minutes(n: u64) -> Duration {
        Duration::from_secs(60 * n)
    }

    #[test]
    fn a_session_ends_when_it_is_idle_or_old_and_a_page_keeps_it_not_alive() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut sessions = Sessions::default();
        let home = site("home", "hash");
        let id = sessions.begin(&home, None, minutes(0), &mut rng);
        let mut lives = |at, by| {
            let found = sessions.find(id.as_str(), minutes(at), by, |_| Some(home.clone()));
            found.is_some()
        };
        assert!(lives(29, By::Person));
        assert!(lives(50, By::Page));
        assert!(!lives(59, By::Page));
        let id = sessions.begin(&home, None, minutes(0), &mut rng);
        let mut last = false;
        for at in (0..=720).step_by(20) {
            let found = sessions.find(id.as_str(), minutes(at), By::Person, |_| Some(home.clone()));
            last = found.is_some();
            assert!(last || at == 720, "{at}");
        }
        assert!(!last);
    }

    #[test]
    fn an_id_that_was_not_made_here_is_nobody() {
        let mut sessions = Sessions::default();
        let fixed = "A".repeat(43);
        let home = site("home", "hash");
        for id in ["", "x", &fixed] {
            let found = sessions.find(id, minutes(0), By::Person, |_| Some(home.clone()));
            assert!(found.is_none());
        }
    }

    #[test]
    fn a_new_password_ends_all_sessions_but_the_one_that_set_it() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut sessions = Sessions::default();
        let (old, new) = (site("home", "old"), site("home", "new"));
        let this = sessions.begin(&old, None, minutes(0), &mut rng);
        let other = sessions.begin(&old, None, minutes(0), &mut rng);
        assert_ne!(this, other);
        sessions.keep(this.as_str(), "new");
        let mut lives = |id: &SessionId| {
            let found = sessions.find(id.as_str(), minutes(1), By::Person, |_| Some(new.clone()));
            found.is_some()
        };
        assert!(lives(&this));
        assert!(!lives(&other));
        let gone = sessions.find(this.as_str(), minutes(1), By::Person, |_| None);
        assert!(gone.is_none());
    }

    #[test]
    fn a_site_has_so_many_sessions_and_the_longest_unused_goes() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut sessions = Sessions::default();
        let home = site("home", "hash");
        let first = sessions.begin(&home, None, minutes(0), &mut rng);
        for n in 1..=20 {
            sessions.begin(&home, None, minutes(n), &mut rng);
        }
        assert_eq!(sessions.0.len(), MOST_PER_SITE);
        let found = sessions.find(first.as_str(), minutes(20), By::Person, |_| {
            Some(home.clone())
        });
        assert!(found.is_none());
    }

    #[test]
    fn a_form_of_another_session_is_refused() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut sessions = Sessions::default();
        let home = site("home", "hash");
        let mut signed = || {
            let id = sessions.begin(&home, None, minutes(0), &mut rng);
            let found = sessions.find(id.as_str(), minutes(0), By::Person, |_| Some(home.clone()));
            found.unwrap()
        };
        let (one, two) = (signed(), signed());
        assert!(one.sent(&one.csrf) && !one.sent(&two.csrf) && !one.sent(""));
    }
}

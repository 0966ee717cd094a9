//! Signing in with a site's name and password, for every door that asks for them.
//!
//! argon2 is slow on purpose, so it is what an attacker would tire the controller out with. Three buckets stand before
//! it: of the client's address, of its network, and of the account. Who signs in gets the tokens back, so only wrong
//! passwords cost. One address cannot empty the bucket of its network, nor one network that of an account, for the larger
//! one fills faster; and where an account was last signed in to from an address, guesses from elsewhere do not keep that
//! address out.
//!
//! # Invariants
//! - No password is hashed before all buckets have given a token.
//! - Names that exist and names that do not are answered alike, take the same buckets and the same time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dd_proto::name::SiteName;
use dd_proto::site::Site;

use super::failures::{FailedSignIns, Failures, FailuresByDoor};
use super::{Door, monotonic, wall};
use crate::credentials::{Match, Passwords, Typist};
use crate::limit::bucket::{Buckets, Empty, Rate};
use crate::limit::line::{Sparing, cut};
use crate::limit::origin::{host, network};
use crate::registry::Registry;

const ADDRESS: Rate = Rate {
    burst: 10,
    refill: Duration::from_secs(10),
};
const NETWORK: Rate = Rate {
    burst: 100,
    refill: Duration::from_secs(1),
};
const ACCOUNT: Rate = Rate {
    burst: 200,
    refill: Duration::from_secs(10),
};
/// As many failures within two spans no forgetful member makes.
const ATTACK: u64 = 200;
const RUSH: Duration = Duration::from_secs(5 * 60);
const MOST: usize = 50_000;
/// One line for each account and network; what comes in between is counted.
const LINES: Rate = Rate {
    burst: 1,
    refill: Duration::from_secs(60),
};
/// Addresses that are remembered as an account's own: there are as many accounts as sites, for only who was right is
/// remembered.
const KNOWN_EACH: usize = 32;

/// What came of it.
#[derive(Debug, Clone)]
pub enum SignIn {
    As(Arc<Site>),
    /// No such site, no password set, or another one.
    Wrong,
    /// Too many were wrong; again after this time.
    TooOften(Duration),
    /// Too many at once: nothing was compared.
    Busy,
}

/// Everybody who can sign in.
#[derive(Debug)]
pub struct Members {
    registry: Registry,
    passwords: Arc<Passwords>,
    guesses: Mutex<Guesses>,
    failures: Mutex<FailedSignIns>,
    counts: FailuresByDoor,
    began: Instant,
}

const LOCK: &str = "no holder of this lock panics";

impl Members {
    pub(super) fn new(
        registry: Registry,
        passwords: Arc<Passwords>,
        counts: FailuresByDoor,
        began: Instant,
    ) -> Self {
        Self {
            registry,
            passwords,
            guesses: Mutex::default(),
            failures: Mutex::default(),
            counts,
            began,
        }
    }

    /// `user` is what somebody typed.
    pub async fn sign_in(
        &self,
        user: &str,
        password: String,
        client: IpAddr,
        door: Door,
    ) -> SignIn {
        let guess = Guess::of(account(user), client);
        let now = monotonic(self.began);
        let (taken, typist) = {
            let mut guesses = self.guesses.lock().expect(LOCK);
            (guesses.take(&guess, now), guesses.typist(&guess))
        };
        if let Err(Empty(wait)) = taken {
            self.failed(guess, client, door, "too often");
            return SignIn::TooOften(wait);
        }
        let name: Option<SiteName> = user.parse().ok();
        let site = name.and_then(|name| self.registry.site(&name));
        let hash = site.as_ref().and_then(|site| site.password_hash.clone());
        match (self.passwords.verify(password, hash, typist).await, site) {
            (Ok(Match::Same), Some(site)) => {
                self.guesses.lock().expect(LOCK).was_right(guess);
                SignIn::As(site)
            }
            (Ok(_), _) => {
                self.failed(guess, client, door, "wrong name or password");
                SignIn::Wrong
            }
            (Err(_), _) => SignIn::Busy,
        }
    }

    /// One sentence for operators, while so many sign-ins fail that somebody must be guessing.
    pub fn under_attack(&self) -> Option<String> {
        let guesses = self.guesses.lock().expect(LOCK);
        let failures = guesses.rush.lately(monotonic(self.began));
        (failures >= ATTACK).then(|| {
            format!(
                "sign-ins to the portal and the wake-up doors fail by the dozen, {failures} within the last {} minutes: somebody guesses passwords; the log has `sign-in failed` with who and for whom",
                2 * RUSH.as_secs() / 60
            )
        })
    }

    /// A line that an operator or fail2ban can read. The name is a stranger's words: printable, and cut before.
    fn failed(&self, guess: Guess, client: IpAddr, door: Door, why: &'static str) {
        self.counts.add(door);
        let now = monotonic(self.began);
        self.remember(&guess, client, now);
        let site: String = cut(&guess.account).to_owned();
        let failures = self.guesses.lock().expect(LOCK).failed(guess, now);
        let Some(failures) = failures else {
            return;
        };
        // Whoever guesses at many accounts could still write many lines.
        static LINES: Sparing = Sparing::new(60, Duration::from_secs(1));
        if let Some(unsaid) = LINES.due(wall()) {
            let (client, door) = (client.to_canonical(), door.word());
            tracing::warn!(site, %client, door, why, failures, unsaid, "sign-in failed");
        }
    }

    /// For the member of that site, if there is one.
    fn remember(&self, guess: &Guess, client: IpAddr, now: Duration) {
        let name = guess.account.parse().ok();
        if let Some(name) = name.filter(|name| self.registry.site(name).is_some()) {
            self.failures.lock().expect(LOCK).add(&name, client, now);
        }
    }

    /// What failed since the member last signed in to the portal.
    pub fn failures_at(&self, site: &SiteName) -> Option<Failures> {
        self.failures.lock().expect(LOCK).of(site)
    }

    /// The same, and counting begins anew.
    pub fn take_failures_at(&self, site: &SiteName) -> Option<Failures> {
        self.failures.lock().expect(LOCK).take(site)
    }

    /// The site is gone.
    pub(super) fn forget(&self, site: &SiteName) {
        self.failures.lock().expect(LOCK).take(site);
        let account = account(site.as_str());
        self.guesses.lock().expect(LOCK).forget(&account);
    }

    /// How long ago that was.
    pub fn since(&self, at: Duration) -> Duration {
        monotonic(self.began).saturating_sub(at)
    }
}

/// What somebody typed, as the buckets see it.
fn account(user: &str) -> Box<str> {
    user.chars().take(64).flat_map(char::to_lowercase).collect()
}

/// Who tries what, as the buckets see it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Guess {
    account: Box<str>,
    host: IpAddr,
    network: IpAddr,
}

impl Guess {
    fn of(account: Box<str>, client: IpAddr) -> Self {
        Self {
            account,
            host: host(client),
            network: network(client),
        }
    }
}

#[derive(Debug)]
struct Guesses {
    addresses: Buckets<IpAddr>,
    networks: Buckets<IpAddr>,
    accounts: Buckets<Box<str>>,
    /// The newest last.
    known: HashMap<Box<str>, Vec<IpAddr>>,
    lines: Buckets<(Box<str>, IpAddr)>,
    /// Failed since the last line.
    unsaid: u64,
    rush: Rush,
}

/// How many sign-ins failed lately: in the span that runs, and in the one before.
#[derive(Debug, Default)]
struct Rush {
    span: u64,
    running: u64,
    before: u64,
}

impl Rush {
    fn failed(&mut self, now: Duration) {
        let span = now.as_secs() / RUSH.as_secs();
        if span != self.span {
            self.before = match span == self.span + 1 {
                true => self.running,
                false => 0,
            };
            (self.span, self.running) = (span, 0);
        }
        self.running += 1;
    }

    fn lately(&self, now: Duration) -> u64 {
        match now.as_secs() / RUSH.as_secs() - self.span {
            0 => self.running + self.before,
            1 => self.running,
            _ => 0,
        }
    }
}

impl Default for Guesses {
    fn default() -> Self {
        Self {
            addresses: Buckets::new(ADDRESS, MOST),
            networks: Buckets::new(NETWORK, MOST),
            accounts: Buckets::new(ACCOUNT, MOST),
            known: HashMap::new(),
            lines: Buckets::new(LINES, MOST),
            unsaid: 0,
            rush: Rush::default(),
        }
    }
}

impl Guesses {
    /// From all buckets or from none: what one refuses costs the others nothing, and makes no entry in them. So a network
    /// makes no more entries for its addresses than it has tokens.
    fn take(&mut self, guess: &Guess, now: Duration) -> Result<(), Empty> {
        let asks_the_account = !self.is_known(guess);
        self.addresses.look(&guess.host, now)?;
        self.networks.look(&guess.network, now)?;
        if asks_the_account {
            self.accounts.look(&guess.account, now)?;
            self.accounts.take(guess.account.clone(), now)?;
        }
        self.networks.take(guess.network, now)?;
        self.addresses.take(guess.host, now)
    }

    /// How many failed since the last line, where it is time for one.
    fn failed(&mut self, guess: Guess, now: Duration) -> Option<u64> {
        self.unsaid += 1;
        self.rush.failed(now);
        let line = self.lines.take((guess.account, guess.network), now);
        line.ok().map(|()| std::mem::take(&mut self.unsaid))
    }

    fn was_right(&mut self, guess: Guess) {
        self.addresses.give_back(&guess.host);
        self.networks.give_back(&guess.network);
        if !self.is_known(&guess) {
            self.accounts.give_back(&guess.account);
        }
        // The one that was used last is forgotten last.
        let known = self.known.entry(guess.account).or_default();
        known.retain(|host| *host != guess.host);
        if known.len() >= KNOWN_EACH {
            known.remove(0);
        }
        known.push(guess.host);
    }

    fn forget(&mut self, account: &str) {
        self.known.remove(account);
    }

    fn typist(&self, guess: &Guess) -> Typist {
        match self.is_known(guess) {
            true => Typist::Known,
            false => Typist::Stranger,
        }
    }

    fn is_known(&self, guess: &Guess) -> bool {
        let known = self.known.get(&guess.account);
        known.is_some_and(|known| known.contains(&guess.host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess(account: &str, client: &str) -> Guess {
        Guess::of(account.into(), client.parse().unwrap())
    }

    fn granted(guesses: &mut Guesses, guess: &Guess, times: usize) -> usize {
        let taken = (0..times).filter(|_| guesses.take(guess, Duration::ZERO).is_ok());
        taken.count()
    }

    #[test]
    fn of_ten_thousand_guesses_from_one_address_ten_are_hashed() {
        let mut guesses = Guesses::default();
        let stranger = guess("home", "192.0.2.9");
        assert_eq!(granted(&mut guesses, &stranger, 10_000), 10);
        // In the same network, for the same account, a member is not kept out.
        assert_eq!(granted(&mut guesses, &guess("home", "192.0.2.1"), 1), 1);
    }

    #[test]
    fn a_network_and_an_account_have_their_end_too() {
        let mut guesses = Guesses::default();
        let from_network = (1..=50).map(|n| guess("home", &format!("192.0.2.{n}")));
        let in_network: usize = from_network.map(|it| granted(&mut guesses, &it, 10)).sum();
        assert_eq!(in_network, 100);
        let from_everywhere = (1..=50).map(|n| guess("home", &format!("198.51.{n}.1")));
        let in_all: usize = from_everywhere
            .map(|it| granted(&mut guesses, &it, 10))
            .sum();
        assert_eq!(in_all, 100);
        assert_eq!(granted(&mut guesses, &guess("other", "203.0.113.1"), 1), 1);
    }

    #[test]
    fn one_network_of_many_addresses_keeps_nobody_else_out() {
        let mut guesses = Guesses::default();
        let all = (0..60_000u32).map(|n| guess("home", &format!("2001:db8:1:{n:x}::1")));
        let tried = all.filter(|it| guesses.take(it, Duration::ZERO).is_ok());
        assert_eq!(tried.count(), 100);
        assert!(guesses.addresses.len() <= 256);
        assert_eq!(
            granted(&mut guesses, &guess("other", "2001:db8:2::1"), 1),
            1
        );
    }

    #[test]
    fn many_networks_that_fill_the_table_keep_nobody_out() {
        let mut guesses = Guesses::default();
        let begun = Duration::from_secs(1000);
        for n in 0..2 * u32::try_from(MOST).unwrap() {
            let address = format!("2001:{:x}:{:x}::1", n / 50_000, n % 50_000);
            let account = format!("site{n}");
            assert!(guesses.take(&guess(&account, &address), begun).is_ok());
        }
        assert!(guesses.addresses.len() <= MOST && guesses.accounts.len() <= MOST);
        let member = guess("home", "203.0.113.7");
        assert!(guesses.take(&member, begun).is_ok());
    }

    #[test]
    fn an_account_remembers_its_newest_addresses_whatever_others_do() {
        let mut guesses = Guesses::default();
        let first = guess("home", "203.0.113.7");
        guesses.was_right(first.clone());
        for n in 0..1000 {
            guesses.was_right(guess("other", &format!("198.51.{}.{}", n / 250, n % 250)));
        }
        assert!(guesses.is_known(&first));
        assert_eq!(guesses.known["other"].len(), KNOWN_EACH);
        for n in 1..KNOWN_EACH {
            guesses.was_right(guess("home", &format!("192.0.2.{n}")));
            guesses.was_right(first.clone());
        }
        guesses.was_right(guess("home", "192.0.2.99"));
        assert!(guesses.is_known(&first), "it was used just before");
        assert!(!guesses.is_known(&guess("home", "192.0.2.1")));
    }

    #[test]
    fn of_a_site_that_is_gone_no_address_is_known() {
        let mut guesses = Guesses::default();
        let member = guess("home", "203.0.113.7");
        guesses.was_right(member.clone());
        assert_eq!(guesses.typist(&member), Typist::Known);
        guesses.forget(&account("HOME"));
        assert_eq!(guesses.typist(&member), Typist::Stranger);
    }

    #[test]
    fn many_failures_are_an_attack_until_they_are_over() {
        let mut rush = Rush::default();
        let at = Duration::from_secs;
        for _ in 0..150 {
            rush.failed(at(290));
        }
        for _ in 0..100 {
            rush.failed(at(310));
        }
        assert_eq!(rush.lately(at(310)), 250);
        assert_eq!(rush.lately(at(610)), 100);
        assert_eq!(rush.lately(at(910)), 0);
        rush.failed(at(2000));
        assert_eq!(rush.lately(at(2000)), 1);
    }

    #[test]
    fn failures_leave_a_line_a_minute_that_counts_them() {
        let mut guesses = Guesses::default();
        let mut failed =
            |client, seconds| guesses.failed(guess("home", client), Duration::from_secs(seconds));
        assert_eq!(failed("192.0.2.1", 0), Some(1));
        assert_eq!(failed("192.0.2.2", 1), None);
        assert_eq!(failed("192.0.2.1", 59), None);
        assert_eq!(failed("198.51.100.1", 59), Some(3));
        assert_eq!(failed("192.0.2.1", 60), Some(1));
    }

    #[test]
    fn who_is_right_pays_nothing_and_is_not_kept_out_by_others() {
        let mut guesses = Guesses::default();
        let member = guess("home", "203.0.113.7");
        for _ in 0..1000 {
            assert_eq!(granted(&mut guesses, &member, 1), 1);
            guesses.was_right(member.clone());
        }
        for n in 1..=50 {
            granted(&mut guesses, &guess("home", &format!("198.51.{n}.1")), 10);
        }
        assert_eq!(granted(&mut guesses, &guess("home", "203.0.114.7"), 1), 0);
        assert_eq!(granted(&mut guesses, &member, 1), 1);
    }
}

//! What members prove themselves with to the wake-up doors: a password, kept as argon2id, and a secret that is part of
//! a URL, kept as SHA-256.
//!
//! A secret is made here and has 192 random bits, so a plain digest does: nobody can guess what it is a digest of, and
//! it is found by its digest. A password may be anything a member thought of; its hash has to be slow.
//!
//! # Invariants
//! Nothing here keeps a password or a secret in clear. Whether a name exists cannot be told from how long a check
//! takes: [`Passwords::verify`] works as long without a hash to compare with. Passwords are hashed off the
//! runtime's threads, those of strangers on half of the cores, where they yield to whatever else there is to do: each takes
//! 19 MiB and tens of milliseconds. Only so many wait for their turn. Those who are known wait behind no stranger. Whoever
//! goes away while one is hashed gives the core back when that is done, for nothing stops a hash.

use std::borrow::Cow;
use std::sync::Arc;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use icu_normalizer::ComposingNormalizerBorrowed;
use rand::{CryptoRng, RngExt as _};
use rustix::process::setpriority_process;
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Letters and digits that cannot be taken for each other on paper or over the phone.
const ALPHABET: &[u8; 31] = b"abcdefghjkmnpqrstuvwxyz23456789";
/// 24 of 31 are 118 bits.
const GENERATED: usize = 24;
/// Bytes; 192 bits.
const SECRET: usize = 24;

/// Why there is no hash.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    #[error("a password has 8 to 1024 printable characters: choose another one")]
    Unfit,
    #[error("the password cannot be hashed: {0}")]
    Hash(argon2::password_hash::Error),
    #[error("the password cannot be hashed: {0}")]
    Ended(#[from] tokio::task::JoinError),
    #[error(transparent)]
    Busy(#[from] Busy),
}

/// Too many passwords wait to be hashed already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords are being checked: try again in a moment")]
pub struct Busy;

/// What came of comparing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    Same,
    Other,
}

/// So many wait for each core, at most: a second or two of work.
const WAITING_PER_CORE: usize = 64;

/// Whose password it is, as far as that is known before it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Typist {
    /// An operator, or a client from which this account was signed in to before.
    Known,
    Stranger,
}

/// The one place where passwords are hashed and compared.
#[derive(Debug, Default)]
pub struct Passwords {
    known: Lane,
    strangers: Lane,
}

/// Those who wait for their password to be hashed, one behind the other.
#[derive(Debug)]
struct Lane {
    cores: Arc<Semaphore>,
    room: Arc<Semaphore>,
}

/// A core and a place in the lane, both given back when dropped.
type Turn = [OwnedSemaphorePermit; 2];

impl Default for Lane {
    fn default() -> Self {
        let cores = hashed_at_once();
        Self {
            cores: Arc::new(Semaphore::new(cores)),
            room: Arc::new(Semaphore::new(cores * WAITING_PER_CORE)),
        }
    }
}

impl Lane {
    async fn turn(&self) -> Result<Turn, Busy> {
        let place = self.room.clone().try_acquire_owned().map_err(|_| Busy)?;
        let core = self.cores.clone().acquire_owned().await.map_err(|_| Busy)?;
        Ok([place, core])
    }
}

/// The niceness of a stranger's password: where mail wants the core as well, a tenth of it is left for that. A member who
/// comes from a new address is a stranger too, so it is not the least there is.
const YIELDS: i32 = 10;

/// At most this many passwords of strangers are hashed at a time, each on a thread of its own, and as many of those who are
/// known, on threads of the runtime's pool for what blocks. It is half of the cores: whatever strangers do, mail has the
/// others. Those who are known wait behind no stranger, so that both together may take all cores for as long as their few
/// passwords last.
pub fn hashed_at_once() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1))
}

impl Passwords {
    /// The PHC string.
    ///
    /// # Errors
    /// It is too short, too long or has control characters.
    pub async fn hash(&self, password: String) -> Result<String, PasswordError> {
        fits(&password)?;
        let turn = self.known.turn().await?;
        let hashing = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let password = prepared(&password);
            let hashed: Result<PasswordHash, _> =
                Argon2::default().hash_password(password.as_bytes());
            hashed.map(|hash| hash.to_string())
        });
        hashing.await?.map_err(PasswordError::Hash)
    }

    /// Compares with a PHC string; with none (no such site, or one without a password) it takes as long.
    ///
    /// # Errors
    /// Too many wait for theirs.
    pub async fn verify(
        &self,
        password: String,
        hash: Option<String>,
        typist: Typist,
    ) -> Result<Match, Busy> {
        if fits(&password).is_err() {
            return Ok(Match::Other);
        }
        let lane = match typist {
            Typist::Known => &self.known,
            Typist::Stranger => &self.strangers,
        };
        let turn = lane.turn().await?;
        let compared = move || {
            let _turn = turn;
            let prepared = prepared(&password);
            match compare(&prepared, hash.as_deref()) {
                // One that was hashed as it was typed, before passwords were prepared.
                Match::Other if prepared != password => compare(&password, hash.as_deref()),
                found => found,
            }
        };
        match typist {
            Typist::Known => {
                let comparing = tokio::task::spawn_blocking(compared);
                Ok(comparing.await.unwrap_or(Match::Other))
            }
            Typist::Stranger => yielding(compared).await,
        }
    }
}

/// Works on a thread of its own, which yields to all others. A hash takes longer than to make a thread.
///
/// # Errors
/// There is no thread to be had.
async fn yielding<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Busy> {
    let (sender, done) = oneshot::channel();
    let thread = std::thread::Builder::new().name("strangers".to_owned());
    let made = thread.spawn(move || {
        // In Linux that is this thread alone (setpriority(2)). Where it is forbidden, the work is as urgent as any other.
        let _ = setpriority_process(None, YIELDS);
        // Whoever asked may be gone.
        let _ = sender.send(work());
    });
    made.map_err(|_| Busy)?;
    done.await.map_err(|_| Busy)
}

fn compare(password: &str, hash: Option<&str>) -> Match {
    let argon = Argon2::default();
    let Some(hash) = hash.and_then(|text| PasswordHash::new(text).ok()) else {
        let spent: Result<PasswordHash, _> =
            argon.hash_password_with_salt(password.as_bytes(), &[0; 16]);
        drop(spent);
        return Match::Other;
    };
    match argon.verify_password(password.as_bytes(), &hash) {
        Ok(()) => Match::Same,
        Err(_) => Match::Other,
    }
}

/// What somebody typed, from the bytes that a client made of it. RFC 7617 §2 leaves the charset open where it was not agreed,
/// and old clients send the one they run in: what is not UTF-8 is read as Latin-1, which Python's requests and a browser's
/// `btoa` send as well.
pub fn typed(bytes: Vec<u8>) -> String {
    match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => error.as_bytes().iter().copied().map(char::from).collect(),
    }
}

/// RFC 8265 §4.2.2, OpaqueString: keyboards make `\u{e4}` of one character or of two, and blanks of many kinds.
fn prepared(password: &str) -> Cow<'_, str> {
    let blank = |c: char| {
        matches!(
            c,
            '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}'
        )
    };
    let normalizer = ComposingNormalizerBorrowed::new_nfc();
    match password.contains(blank) {
        true => normalizer
            .normalize(&password.replace(blank, " "))
            .into_owned()
            .into(),
        false => normalizer.normalize(password),
    }
}

fn fits(password: &str) -> Result<(), PasswordError> {
    let printable = password.chars().all(|c| !c.is_control());
    match password.chars().count() {
        8..=1024 if printable => Ok(()),
        _ => Err(PasswordError::Unfit),
    }
}

/// A password for a member who was given none.
pub fn generate_password(rng: &mut impl CryptoRng) -> String {
    let letter = |_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]);
    (0..GENERATED).map(letter).collect()
}

/// The last part of a `/wake/` URL.
pub fn generate_wake_secret(rng: &mut impl CryptoRng) -> String {
    let bytes: [u8; SECRET] = rng.random();
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What is kept of a secret, and what it is found by.
pub fn wake_digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    #[test]
    fn eight_printable_characters_are_a_password() {
        let long = "x".repeat(1025);
        for (password, good) in [
            ("12345678", true),
            ("pä$$ wörd", true),
            ("1234567", false),
            ("1234\t5678", false),
            ("", false),
            (long.as_str(), false),
        ] {
            assert_eq!(fits(password).is_ok(), good, "{password:?}");
        }
    }

    #[tokio::test]
    async fn a_password_is_the_same_whichever_keyboard_wrote_it() {
        let passwords = Passwords::default();
        let composed = "gr\u{fc}\u{df}e aus K\u{f6}ln";
        let hash = passwords.hash(composed.to_owned()).await.unwrap();
        for (typed, expected) in [
            (composed, Match::Same),
            ("gru\u{308}\u{df}e aus Ko\u{308}ln", Match::Same),
            ("gr\u{fc}\u{df}e\u{a0}aus\u{3000}K\u{f6}ln", Match::Same),
            ("Gr\u{fc}\u{df}e aus K\u{f6}ln", Match::Other),
            ("grusse aus Koln", Match::Other),
        ] {
            let found = passwords.verify(typed.to_owned(), Some(hash.clone()), Typist::Known);
            assert_eq!(found.await.unwrap(), expected, "{typed}");
        }
        // Hashed as it was typed.
        let typed = "gru\u{308}\u{df}e aus Ko\u{308}ln";
        let hashed: PasswordHash = Argon2::default().hash_password(typed.as_bytes()).unwrap();
        let old = passwords.verify(typed.to_owned(), Some(hashed.to_string()), Typist::Known);
        assert_eq!(old.await.unwrap(), Match::Same);
    }

    #[tokio::test]
    async fn only_the_password_that_was_hashed_matches() {
        let passwords = Passwords::default();
        let hash = passwords.hash("correct horse".to_owned()).await.unwrap();
        assert!(hash.starts_with("$argon2id$"), "{hash}");
        for (password, hash, expected) in [
            ("correct horse", Some(hash.clone()), Match::Same),
            ("correct hors", Some(hash.clone()), Match::Other),
            ("", Some(hash), Match::Other),
            ("correct horse", None, Match::Other),
            ("correct horse", Some("no hash".to_owned()), Match::Other),
        ] {
            let matched = passwords
                .verify(password.to_owned(), hash, Typist::Stranger)
                .await;
            assert_eq!(matched, Ok(expected), "{password}");
        }
    }

    /// Polls it once: a hash begins, and takes its time.
    fn begun<T>(future: &mut std::pin::Pin<Box<impl Future<Output = T>>>) {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(future.as_mut().poll(&mut context).is_pending());
    }

    #[tokio::test]
    async fn who_is_known_waits_behind_no_stranger_and_who_goes_away_frees_no_core() {
        let passwords = Passwords::default();
        // Nothing stops a hash that runs, so it keeps its turn though nobody waits for it any more.
        let mut gone = Box::pin(passwords.verify("a wrong guess".to_owned(), None, Typist::Known));
        begun(&mut gone);
        drop(gone);
        let free = passwords.known.cores.available_permits();
        assert!(free < hashed_at_once(), "19 MiB are not filled that fast");
        let guess = || passwords.verify("a wrong guess".to_owned(), None, Typist::Stranger);
        let all = hashed_at_once() * WAITING_PER_CORE;
        let mut guesses: Vec<_> = (0..all).map(|_| Box::pin(guess())).collect();
        guesses.iter_mut().for_each(begun);
        assert_eq!(guess().await, Err(Busy));
        let member = passwords.verify("correct horse".to_owned(), None, Typist::Known);
        assert_eq!(member.await, Ok(Match::Other));
    }

    #[tokio::test]
    async fn what_strangers_make_us_do_yields_to_mail_and_nothing_else_does() {
        let niceness = || rustix::process::getpriority_process(None).unwrap();
        let own = niceness();
        assert_eq!(yielding(niceness).await, Ok(own.max(YIELDS)));
        assert_eq!(niceness(), own);
        assert_eq!(yielding(|| panic!("of the work")).await, Err::<(), _>(Busy));
    }

    #[test]
    fn what_is_made_up_is_long_and_never_the_same_twice() {
        let mut rng = StdRng::seed_from_u64(1);
        let (one, two) = (
            generate_wake_secret(&mut rng),
            generate_wake_secret(&mut rng),
        );
        assert_ne!(one, two);
        assert_eq!(one.len(), 32);
        assert_ne!(wake_digest(&one), wake_digest(&two));
        let (one, two) = (generate_password(&mut rng), generate_password(&mut rng));
        assert_ne!(one, two);
        assert!(fits(&one).is_ok(), "{one}");
    }
}

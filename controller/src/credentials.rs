//! What members prove themselves with to the wake-up doors: a password, kept as argon2id, and a secret that is part of
//! a URL, kept as SHA-256.
//!
//! A secret is made here and has 192 random bits, so a plain digest does: nobody can guess what it is a digest of, and
//! it is found by its digest. A password may be anything a member thought of; its hash has to be slow.
//!
//! # Invariants
//! Nothing here keeps a password or a secret in clear. Whether a name exists cannot be told from how long a check
//! takes: [`Passwords::verify`] works as long without a hash to compare with. One password is hashed at a time on each
//! core, off the runtime's threads: each takes 19 MiB and tens of milliseconds. Only so many wait for their turn.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::{CryptoRng, RngExt as _};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Semaphore, SemaphorePermit};

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

/// The one place where passwords are hashed and compared.
#[derive(Debug)]
pub struct Passwords {
    cores: Semaphore,
    room: Semaphore,
}

impl Default for Passwords {
    fn default() -> Self {
        let cores = hashed_at_once();
        Self {
            cores: Semaphore::new(cores),
            room: Semaphore::new(cores * WAITING_PER_CORE),
        }
    }
}

/// At most this many passwords are hashed at a time, each on a thread of the runtime's pool for what blocks: half of the
/// cores, for mail needs the others.
pub fn hashed_at_once() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1))
}

impl Passwords {
    /// A core and a place in the queue, both given back when dropped.
    async fn turn(&self) -> Result<[SemaphorePermit<'_>; 2], Busy> {
        let place = self.room.try_acquire().map_err(|_| Busy)?;
        let core = self.cores.acquire().await.map_err(|_| Busy)?;
        Ok([place, core])
    }

    /// The PHC string.
    ///
    /// # Errors
    /// It is too short, too long or has control characters.
    pub async fn hash(&self, password: String) -> Result<String, PasswordError> {
        fits(&password)?;
        let _turn = self.turn().await?;
        let hashing = tokio::task::spawn_blocking(move || {
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
    pub async fn verify(&self, password: String, hash: Option<String>) -> Result<Match, Busy> {
        if fits(&password).is_err() {
            return Ok(Match::Other);
        }
        let _turn = self.turn().await?;
        let comparing = tokio::task::spawn_blocking(move || compare(&password, hash.as_deref()));
        Ok(comparing.await.unwrap_or(Match::Other))
    }
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
            let matched = passwords.verify(password.to_owned(), hash).await;
            assert_eq!(matched, Ok(expected), "{password}");
        }
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

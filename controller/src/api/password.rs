//! Wake-up passwords → argon2id.
//!
//! # Invariants
//! One is hashed at a time, off the runtime's threads: each takes 19 MiB and tens of milliseconds.

use argon2::Argon2;
use argon2::password_hash::PasswordHasher as _;
use tokio::sync::Mutex;
use tonic::Status;

use super::status;

/// The one place where passwords are hashed.
#[derive(Debug, Default)]
pub struct Passwords(Mutex<()>);

impl Passwords {
    /// The PHC string; None where there is no password.
    pub(super) async fn hash(&self, password: Option<String>) -> Result<Option<String>, Status> {
        let Some(password) = password else {
            return Ok(None);
        };
        check(&password)?;
        let _one = self.0.lock().await;
        let hashing = tokio::task::spawn_blocking(move || {
            Argon2::default()
                .hash_password(password.as_bytes())
                .map(|hash| hash.to_string())
        });
        match hashing.await {
            Ok(Ok(hash)) => Ok(Some(hash)),
            Ok(Err(error)) => Err(status::trouble(&error)),
            Err(error) => Err(status::trouble(&error)),
        }
    }
}

fn check(password: &str) -> Result<(), Status> {
    let printable = |c: char| !c.is_control();
    match password.chars().count() {
        8..=200 if password.chars().all(printable) => Ok(()),
        _ => Err(status::invalid(
            "a password has 8 to 200 printable characters: choose another one",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_printable_characters_are_a_password() {
        let long = "x".repeat(201);
        for (password, good) in [
            ("12345678", true),
            ("pä$$ wörd", true),
            ("1234567", false),
            ("1234\t5678", false),
            ("", false),
            (long.as_str(), false),
        ] {
            assert_eq!(check(password).is_ok(), good, "{password:?}");
        }
    }
}

//! `registry.toml` beside the state: the registry as people read it, for a backup that needs no running controller.
//!
//! # Invariants
//! It is rewritten at most once a minute, whole (a stop leaves the old one or the new one), with mode 0600. While
//! damage is known it is not rewritten: the last good one stays until `ddadm registry apply`. A clean stop writes it once
//! more; what changed in the last minute before a kill is written at the next start.

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Registry;

const NAME: &str = "registry.toml";
const PAUSE: Duration = Duration::from_secs(60);

/// Keeps the copy in `state_dir` up to date until dropped.
pub async fn keep(registry: Registry, state_dir: PathBuf) {
    let mut changes = registry.changes();
    loop {
        changes.borrow_and_update();
        bring_up_to_date(&registry, &state_dir).await;
        tokio::time::sleep(PAUSE).await;
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// At a clean stop, and whenever the registry has changed.
pub async fn bring_up_to_date(registry: &Registry, state_dir: &Path) {
    match registry.is_damaged() {
        true => tracing::warn!(
            "{NAME} is left as it was: the registry is damaged; `ddadm registry apply` ends that"
        ),
        false => write(registry.export(), state_dir.to_owned()).await,
    }
}

async fn write(text: String, state_dir: PathBuf) {
    let writing = tokio::task::spawn_blocking(move || replace(&state_dir, &text));
    let written = writing.await.map_err(io::Error::other);
    if let Err(error) = written.and_then(|written| written) {
        tracing::error!(%error, "{NAME} cannot be written; the registry itself is unharmed");
    }
}

/// A stop on the way leaves `registry.toml.new` at most, which the next time takes over.
fn replace(directory: &Path, text: &str) -> io::Result<()> {
    let path = directory.join(NAME);
    if std::fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(());
    }
    let new = directory.join("registry.toml.new");
    let _ = std::fs::remove_file(&new);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, &path)?;
    std::fs::File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_copy_is_replaced_whole_and_is_nobody_elses() {
        let directory = tempfile::tempdir().unwrap();
        // What a stop left.
        std::fs::write(directory.path().join("registry.toml.new"), "torn").unwrap();
        for text in ["one", "two", "two"] {
            replace(directory.path(), text).unwrap();
            let path = directory.path().join(NAME);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            assert!(!directory.path().join("registry.toml.new").exists());
        }
    }
}

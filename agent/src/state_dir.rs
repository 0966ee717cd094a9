//! The agent's state directory: made where there is none, and locked, so that Hello speaks for every earlier process.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Why the agent has no place to keep its state.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    #[error("the state directory {path} cannot be used: {source}", path = path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("another dd-agent uses the state directory {path}; stop it first", path = path.display())]
    InUse { path: PathBuf },
}

/// The state directory, locked for as long as this lives.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Creates it if absent (0700) and locks it.
    ///
    /// # Errors
    /// It cannot be made or written, or another process holds it.
    pub fn lock(path: &Path) -> Result<Self, StateDirError> {
        let error = |source| StateDirError::Io {
            path: path.to_owned(),
            source,
        };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(error)?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(error)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(std::fs::TryLockError::WouldBlock) => Err(StateDirError::InUse {
                path: path.to_owned(),
            }),
            Err(std::fs::TryLockError::Error(source)) => Err(error(source)),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let first = StateDir::lock(&path).unwrap();
        assert!(matches!(
            StateDir::lock(&path),
            Err(StateDirError::InUse { .. })
        ));
        drop(first);
        assert!(StateDir::lock(&path).is_ok());
    }
}

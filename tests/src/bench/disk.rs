//! Whether a directory lies on a disk: what is synced into memory costs nothing and promises nothing.

use std::path::Path;

/// statfs(2).
const IN_MEMORY: [(u64, &str); 2] = [(0x0102_1994, "tmpfs"), (0x8584_58f6, "ramfs")];

/// A directory in memory.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path} lies in memory ({kind}): a benchmark of durable mail needs a disk; name another place with --dir"
)]
pub struct InMemory {
    path: String,
    kind: &'static str,
}

/// # Errors
/// It lies in memory.
///
/// # Panics
/// There is no such directory.
pub fn check(directory: &Path) -> Result<(), InMemory> {
    let found = rustix::fs::statfs(directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let kind = u64::try_from(found.f_type).unwrap_or_default() & 0xffff_ffff;
    match IN_MEMORY.iter().find(|(magic, _)| *magic == kind) {
        None => Ok(()),
        Some((_, kind)) => Err(InMemory {
            path: directory.display().to_string(),
            kind,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_refused_and_a_disk_is_not() {
        assert!(check(Path::new("/dev/shm")).is_err());
        assert!(check(Path::new(env!("CARGO_MANIFEST_DIR"))).is_ok());
    }
}

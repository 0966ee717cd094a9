//! Whether something could be made in a directory, without making it.

use std::io;
use std::path::Path;

use rustix::fs::{Access, access};

/// Whether files could be made in this directory; one that is not there yet would be made first.
///
/// # Errors
/// Why not.
pub fn directory(path: &Path) -> io::Result<()> {
    match std::fs::metadata(path) {
        Ok(found) if !found.is_dir() => Err(io::ErrorKind::NotADirectory.into()),
        Ok(_) => Ok(access(path, Access::WRITE_OK | Access::EXEC_OK)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => directory(Path::new(".")),
            Some(parent) => directory(parent),
            None => Err(error),
        },
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_can_be_used_that_is_there_or_could_be_made() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(directory(place.path()).is_ok());
        assert!(directory(&place.path().join("a/b/c")).is_ok());
        assert!(directory(&file).is_err());
        assert!(directory(&file.join("below")).is_err());
        assert!(directory(Path::new("relative-to-here")).is_ok());
    }
}

//! Keys, certificates and requests as files: bounded when read, replaced whole when written.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use dd_proto::pem::{self, Kind};

use crate::failure::Failure;

/// A request with more than this is none.
const MAX_CSR_BYTES: u64 = 64 << 10;

/// A request as DER, from PEM or DER.
pub(crate) fn request(file: &Path) -> Result<Vec<u8>, Failure> {
    let refused = |why: String| Failure::Refused(format!("{} {why}", file.display()));
    let mut content = Vec::new();
    std::fs::File::open(file)
        .and_then(|open| open.take(MAX_CSR_BYTES + 1).read_to_end(&mut content))
        .map_err(|error| refused(format!("cannot be read: {error}")))?;
    if content.len() as u64 > MAX_CSR_BYTES {
        return Err(refused("is too large for a certificate request".into()));
    }
    pem::read_one(&content, Kind::Request)
        .map_err(|error| Failure::Refused(format!("{}: {error}", file.display())))
}

/// Made first, for its owner only, so that nothing is issued that cannot be kept.
pub(crate) fn directory(path: &Path) -> Result<PathBuf, Failure> {
    let refused = |error| Failure::Refused(format!("{} cannot be used: {error}", path.display()));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(refused)?;
    std::fs::canonicalize(path).map_err(refused)
}

pub(crate) fn write(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let steps = || {
        let _ = std::fs::remove_file(&temporary);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    steps().map_err(|error: std::io::Error| {
        Failure::Refused(format!("{} cannot be written: {error}", path.display()))
    })
}

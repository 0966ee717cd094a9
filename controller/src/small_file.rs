//! Files that an operator names in the configuration: certificates, keys, passwords.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// No file is read further than that; none of these is ever larger.
const MAX_BYTES: u64 = 1 << 20;

/// # Errors
/// It cannot be read.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

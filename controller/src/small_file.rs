//! Files that an operator names in the configuration: certificates, keys, passwords.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// None of these is ever larger, and no file is read further.
const MAX_BYTES: u64 = 1 << 20;

/// # Errors
/// It cannot be read, or is larger than any such file.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let upto = MAX_BYTES + 1;
    File::open(path)?.take(upto).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > MAX_BYTES {
        true => Err(io::Error::other("it is larger than a mebibyte")),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_a_whole_or_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        let largest = vec![b'\n'; 1 << 20];
        std::fs::write(&path, &largest).unwrap();
        assert_eq!(read(&path).unwrap(), largest);
        std::fs::write(&path, [&largest[..], b"\n"].concat()).unwrap();
        let error = read(&path).unwrap_err();
        assert_eq!(error.to_string(), "it is larger than a mebibyte");
    }
}

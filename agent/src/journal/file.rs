//! The journal's files: a new one in the place of the old, and that something was lost.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

/// Its content says that records were lost, and is told as part of the boot id.
const DOUBT: &str = "journal.doubt";

/// A new file beside the old one, with this content and room for so much more, on the disk.
pub(super) fn make(path: &Path, content: &[u8], room: usize) -> std::io::Result<File> {
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path.with_extension("new"))?;
    file.write_all(content)?;
    // Written, for a hole would find out later that there is no room.
    file.write_all(&vec![0; room])?;
    file.sync_all()?;
    file.set_len(content.len() as u64)?;
    file.seek(SeekFrom::End(0))?;
    Ok(file)
}

/// The new file takes the old one's place.
pub(super) fn replace(path: &Path) -> std::io::Result<()> {
    std::fs::rename(path.with_extension("new"), path)
}

/// It is not wanted after all.
pub(super) fn abandon(path: &Path) {
    let _ = std::fs::remove_file(path.with_extension("new"));
}

/// Makes names in a directory durable.
pub(crate) fn sync_directory(directory: &Path) -> std::io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Of which loss of records the controller has to know; empty: none.
pub(super) fn doubt(directory: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    match File::open(directory.join(DOUBT)) {
        Ok(mut file) => _ = file.read_to_string(&mut text)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(text)
}

/// Remembers another loss, for as long as the directory is there.
pub(super) fn lost(directory: &Path) -> std::io::Result<String> {
    let doubt = format!("{:016x}", rand::random::<u64>());
    let mut file = File::create(directory.join(DOUBT))?;
    file.write_all(doubt.as_bytes())?;
    file.sync_all()?;
    sync_directory(directory)?;
    Ok(doubt)
}

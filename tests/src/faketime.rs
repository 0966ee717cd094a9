//! Debian's faketime: a program whose wall clock is wrong, while the time it measures goes on as usual.

use std::fs;
use std::path::Path;

/// Debian's library.
const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// The variables that set a program's wall clock off by `offset`, such as `+20d`.
pub fn off_by(offset: &str) -> Vec<(String, String)> {
    variables(("FAKETIME", offset))
}

/// The variables that let a file say how far a program's wall clock is off, and change it while the program runs.
pub fn told_by(file: &str) -> Vec<(String, String)> {
    variables(("FAKETIME_TIMESTAMP_FILE", file))
}

/// Says in `file` how far it is off; whoever reads it finds the old word or the new one.
///
/// # Panics
/// The file cannot be written.
pub fn set(file: &Path, offset: &str) {
    let new = file.with_extension("new");
    let written = fs::write(&new, format!("{offset}\n")).and_then(|()| fs::rename(&new, file));
    written.expect("a file of our own");
}

fn variables(offset: (&str, &str)) -> Vec<(String, String)> {
    [
        ("LD_PRELOAD", LIBRARY),
        offset,
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

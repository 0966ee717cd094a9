//! A wake-up password, read from standard input and from nowhere else: an argument would show in the process list.

use std::io::Read;

use crate::args::site::SiteFlags;
use crate::failure::Failure;

const MIN_CHARACTERS: usize = 8;

/// More is no password but a file given by mistake.
const MAX_BYTES: u64 = 1024;

/// # Errors
/// Standard input cannot be read, or does not hold 8 or more printable characters on one line.
pub(super) fn asked(flags: &SiteFlags, stdin: &mut dyn Read) -> Result<Option<String>, Failure> {
    match flags.password_stdin {
        true => read(stdin).map(Some),
        false => Ok(None),
    }
}

/// # Errors
/// As [`asked`].
pub(super) fn read(stdin: &mut dyn Read) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    stdin
        .take(MAX_BYTES + 2)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::Refused(format!("standard input cannot be read: {error}")))?;
    parse(&bytes).ok_or_else(|| {
        Failure::Usage(format!(
            "--password-stdin takes one line of {MIN_CHARACTERS} or more printable characters, at most {MAX_BYTES} bytes"
        ))
    })
}

/// Exactly one line end is dropped: a space before it belongs to the password.
fn parse(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let fits = text.len() as u64 <= MAX_BYTES
        && text.chars().count() >= MIN_CHARACTERS
        && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_eight_printable_characters_and_one_line_end_is_dropped() {
        for (input, password) in [
            ("12345678", Some("12345678")),
            ("12345678\n", Some("12345678")),
            (" spaces stay \n", Some(" spaces stay ")),
            ("pässwört\n", Some("pässwört")),
            ("12345678\n\n", None),
            ("12345678\r\n", None),
            ("1234567\n", None),
            ("1234\t678\n", None),
            ("", None),
        ] {
            assert_eq!(parse(input.as_bytes()).as_deref(), password, "{input:?}");
        }
        assert_eq!(parse(b"12345678\xff"), None);
        assert_eq!(parse("x".repeat(1025).as_bytes()), None);
        assert!(parse("x".repeat(1024).as_bytes()).is_some());
    }
}

//! Certificates, revocation lists, requests and keys as PEM (RFC 7468) and DER: the one reader of what people bring, and
//! the text in which we hand such things out.
//!
//! Files come from many tools and by many ways, so the reader forgives what cannot be mistaken: a byte order mark, UTF-16,
//! indentation, any line ends, blank lines, text around the sections, and sections that follow each other on one line.
//!
//! # Invariants
//! - All or nothing: every BEGIN marker anywhere in the text is either a section that was read, or a section of another
//!   known kind, or the whole text is refused. A file that was read in part would look as if it had been read.
//! - A revocation list is never passed over: whoever put it there relies on it.

use std::borrow::Cow;

use pem::{EncodeConfig, LineEnding, Pem};

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Certificate,
    RevocationList,
    Request,
    PrivateKey,
}

impl Kind {
    /// The name in sentences.
    fn noun(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::RevocationList => "revocation list",
            Self::Request => "certificate request",
            Self::PrivateKey => "private key",
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Certificate => "CERTIFICATE",
            Self::RevocationList => "X509 CRL",
            Self::Request => "CERTIFICATE REQUEST",
            Self::PrivateKey => "PRIVATE KEY",
        }
    }
}

/// Why a text or file was refused; whoever names it puts the file's name in front.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    #[error("it is empty: expected a {}", .0.noun())]
    Empty(Kind),
    #[error("it holds no {noun}: expected PEM (`-----BEGIN {label}-----`) or DER", noun = .0.noun(), label = .0.label())]
    None(Kind),
    #[error("it holds {count} {}s: expected one", .kind.noun())]
    Several { kind: Kind, count: usize },
    #[error("it is {format}; convert it with `{command}`")]
    Container {
        format: &'static str,
        command: &'static str,
    },
    #[error("line {line}: `{label}` {what}")]
    Section {
        line: usize,
        label: String,
        what: &'static str,
    },
}

const DECRYPT: &str = "is an encrypted key: write it in the clear with `openssl pkey -in FILE -out NEW.key`, for its owner only";

/// What a section's label says.
enum Meaning {
    Is(Kind),
    /// Of no use here, and in no way a part of what is looked for.
    Beside,
    /// May hold what is looked for in a form that is not read.
    Refused(&'static str),
}

fn meaning(label: &str) -> Meaning {
    match label {
        // RFC 7468 §5.1, §6, §7: old labels for the same.
        "CERTIFICATE" | "X509 CERTIFICATE" | "X.509 CERTIFICATE" => Meaning::Is(Kind::Certificate),
        "X509 CRL" | "CRL" => Meaning::Is(Kind::RevocationList),
        "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => Meaning::Is(Kind::Request),
        "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY" => Meaning::Is(Kind::PrivateKey),
        "EC PARAMETERS"
        | "DH PARAMETERS"
        | "X9.42 DH PARAMETERS"
        | "PUBLIC KEY"
        | "RSA PUBLIC KEY" => Meaning::Beside,
        "TRUSTED CERTIFICATE" => Meaning::Refused(
            "is OpenSSL's own form; convert it with `openssl x509 -in FILE -out NEW.pem`",
        ),
        "PKCS7" | "PKCS #7 SIGNED DATA" | "CMS" => Meaning::Refused(
            "is PKCS#7; convert it with `openssl pkcs7 -print_certs -in FILE -out NEW.pem`",
        ),
        "ENCRYPTED PRIVATE KEY" => Meaning::Refused(DECRYPT),
        "OPENSSH PRIVATE KEY" => Meaning::Refused(
            "is a key of OpenSSH; convert it with `ssh-keygen -p -m PKCS8 -f FILE`",
        ),
        "DSA PRIVATE KEY" => {
            Meaning::Refused("is a DSA key, which TLS has no use for any more; make one of P-256")
        }
        _ => Meaning::Refused("is no kind of section that is known here; take it out of the file"),
    }
}

/// Everything of a kind that a text or DER file holds, as DER; never empty.
///
/// # Errors
/// There is nothing of that kind, or something in it cannot be read.
pub fn read(content: &[u8], kind: Kind) -> Result<Vec<Vec<u8>>, PemError> {
    let text = text_of(content);
    if !text.contains(BEGIN) {
        return der(content, kind).map(|der| vec![der]);
    }
    let mut found = Vec::new();
    for section in sections(&text)? {
        found.extend(section.of_kind(kind)?);
    }
    match found.is_empty() {
        true => Err(PemError::None(kind)),
        false => Ok(found),
    }
}

/// The only one of its kind.
///
/// # Errors
/// There is none, or more than one, or something in it cannot be read.
pub fn read_one(content: &[u8], kind: Kind) -> Result<Vec<u8>, PemError> {
    let mut all = read(content, kind)?;
    match (all.len(), all.pop()) {
        (1, Some(one)) => Ok(one),
        (count, _) => Err(PemError::Several { kind, count }),
    }
}

/// Whether somebody took a private key for what was asked for: one in any PEM section, or as DER. PKCS#8 (RFC 5958 §2),
/// RFC 8017 §A.1.2, RFC 5915 §3 and PKCS#12 (RFC 7292 §4) begin with a version, which no request or certificate does. The
/// portal's page may have put a request's label around such DER.
pub fn holds_a_key(content: &[u8]) -> bool {
    let text = text_of(content);
    let begins_with_version = |der: &[u8]| matches!(inside(der), Some(([0x02, ..], true)));
    if !text.contains(BEGIN) {
        return begins_with_version(content);
    }
    let labelled = text
        .match_indices(BEGIN)
        .filter_map(|(at, _)| text[at + BEGIN.len()..].split(DASHES).next());
    let mut labelled = labelled.map(|label| label.ends_with("PRIVATE KEY"));
    let request = || read_one(content, Kind::Request);
    labelled.any(|is| is) || request().is_ok_and(|der| begins_with_version(&der))
}

/// As text, whatever encoding an editor or shell gave it; without a byte order mark.
fn text_of(content: &[u8]) -> Cow<'_, str> {
    let wide = |unit: fn([u8; 2]) -> u16, bytes: &[u8]| {
        let units: Vec<u16> = bytes
            .chunks_exact(2)
            .map(|it| unit([it[0], it[1]]))
            .collect();
        Cow::Owned(String::from_utf16_lossy(&units))
    };
    match content {
        [0xff, 0xfe, rest @ ..] => wide(u16::from_le_bytes, rest),
        [0xfe, 0xff, rest @ ..] => wide(u16::from_be_bytes, rest),
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8_lossy(rest),
        _ => String::from_utf8_lossy(content),
    }
}

/// One section: from its BEGIN marker to the next one.
struct Section<'a> {
    line: usize,
    label: &'a str,
    /// With its marker.
    text: &'a str,
}

/// As many as there are BEGIN markers.
fn sections(text: &str) -> Result<Vec<Section<'_>>, PemError> {
    let begins: Vec<usize> = text.match_indices(BEGIN).map(|(at, _)| at).collect();
    let line_of = |at: usize| 1 + lines_in(&text[..at]);
    let before = &text[..begins.first().copied().unwrap_or(0)];
    if let Some(at) = before.find(END) {
        return Err(without_begin(before, at, line_of(at)));
    }
    // Counted on from section to section: there may be many.
    let (mut lines, mut counted) = (1, 0);
    begins
        .iter()
        .enumerate()
        .map(|(index, begin)| {
            let end = begins.get(index + 1).copied().unwrap_or(text.len());
            let section = &text[*begin..end];
            lines += lines_in(&text[counted..*begin]);
            counted = *begin;
            let line = lines;
            let cut = |label: &str, what| PemError::Section {
                line,
                label: shown(label),
                what,
            };
            let after = &section[BEGIN.len()..];
            let (label, body) = after
                .split_once(DASHES)
                .ok_or_else(|| cut(after, "has no end of its first line"))?;
            let (_, rest) = body
                .split_once(END)
                .ok_or_else(|| cut(label, "has no END line: the file is cut off"))?;
            if let Some(at) = rest.find(END) {
                let at = end - rest.len() + at;
                return Err(without_begin(text, at, line_of(at)));
            }
            Ok(Section {
                line,
                label,
                text: section,
            })
        })
        .collect()
}

/// An END marker whose BEGIN marker lost a dash, or was cut away: its section must not be passed over either.
fn without_begin(text: &str, at: usize, line: usize) -> PemError {
    let label = text[at + END.len()..]
        .split(DASHES)
        .next()
        .unwrap_or_default();
    PemError::Section {
        line,
        label: shown(label),
        what: "ends here, but its BEGIN line is missing or damaged",
    }
}

/// LF, CR LF and CR alone end a line.
fn lines_in(text: &str) -> usize {
    let ends = text
        .bytes()
        .filter(|byte| matches!(byte, b'\n' | b'\r'))
        .count();
    ends - text.matches("\r\n").count()
}

impl Section<'_> {
    /// Its DER, where it is of that kind.
    fn of_kind(&self, kind: Kind) -> Result<Option<Vec<u8>>, PemError> {
        let of_keys = kind == Kind::PrivateKey;
        match meaning(self.label) {
            Meaning::Is(found) if found == kind => self.contents(kind).map(Some),
            Meaning::Is(Kind::RevocationList) => {
                Err(self.refused("is a revocation list, which is not read here: `ddadm ca crl NAME --import FILE` takes it in"))
            }
            Meaning::Is(_) | Meaning::Beside => Ok(None),
            // What a key lies in matters only to whoever wants the key.
            Meaning::Refused(_) if !of_keys && self.label.ends_with("PRIVATE KEY") => Ok(None),
            Meaning::Refused(what) => Err(self.refused(what)),
        }
    }

    fn contents(&self, kind: Kind) -> Result<Vec<u8>, PemError> {
        // Blanks around lines and empty lines mean nothing; a header (RFC 1421) is only in encrypted keys.
        let lines: Vec<&str> = self
            .text
            .split(['\n', '\r'])
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        let text = lines.join("\n");
        if text.contains("Proc-Type:") && text.contains("ENCRYPTED") {
            return Err(self.refused(DECRYPT));
        }
        let section = pem::parse(text).map_err(|error| {
            self.refused(match error {
                pem::PemError::MismatchedTags(..) => "ends with another label than it begins with",
                _ => "cannot be decoded: it is damaged, or was not copied whole",
            })
        })?;
        let der = section.into_contents();
        match is_one_value(&der) {
            true => Ok(der),
            false => Err(self.refused(match kind {
                Kind::PrivateKey => "holds no key: it is damaged, or was not copied whole",
                _ => "holds no DER: it is damaged, or was not copied whole",
            })),
        }
    }

    fn refused(&self, what: &'static str) -> PemError {
        PemError::Section {
            line: self.line,
            label: shown(self.label),
            what,
        }
    }
}

/// A file that is DER itself: the first bytes tell what it holds.
fn der(content: &[u8], kind: Kind) -> Result<Vec<u8>, PemError> {
    if content.iter().all(u8::is_ascii_whitespace) {
        return Err(PemError::Empty(kind));
    }
    let container = |format, command| Err(PemError::Container { format, command });
    match inside(content) {
        Some((inner, true)) => match inner {
            // The object identifier of signedData (RFC 2315 §14).
            [
                0x06,
                0x09,
                0x2a,
                0x86,
                0x48,
                0x86,
                0xf7,
                0x0d,
                0x01,
                0x07,
                0x02,
                ..,
            ] => container(
                "PKCS#7 in DER",
                "openssl pkcs7 -inform DER -print_certs -in FILE -out NEW.pem",
            ),
            // Version 3 of a PFX (RFC 7292 §4).
            [0x02, 0x01, 0x03, ..] => container(
                "PKCS#12 (PFX)",
                match kind {
                    Kind::PrivateKey => "openssl pkcs12 -nocerts -nodes -in FILE -out NEW.key",
                    _ => "openssl pkcs12 -nokeys -in FILE -out NEW.pem",
                },
            ),
            _ => Ok(content.to_vec()),
        },
        _ => Err(PemError::None(kind)),
    }
}

/// The contents of a SEQUENCE, and whether it is all there is (X.690 §8.1).
fn inside(content: &[u8]) -> Option<(&[u8], bool)> {
    let (0x30, rest) = content.split_first().map(|(tag, rest)| (*tag, rest))? else {
        return None;
    };
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match *first {
        short @ 0..=0x7f => (usize::from(short), rest),
        long @ 0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            let length = digits
                .iter()
                .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            (length, rest)
        }
        _ => return None,
    };
    Some((rest, rest.len() == length))
}

fn is_one_value(der: &[u8]) -> bool {
    matches!(inside(der), Some((_, true)))
}

fn shown(label: &str) -> String {
    label
        .chars()
        .take(40)
        .flat_map(char::escape_debug)
        .collect()
}

/// The PEM text of a certificate's DER (§5).
pub fn certificate(der: &[u8]) -> String {
    text(Kind::Certificate, der)
}

/// Of a revocation list's (§6).
pub fn revocation_list(der: &[u8]) -> String {
    text(Kind::RevocationList, der)
}

/// Of a private key's in PKCS#8 (§10).
pub fn private_key(der: &[u8]) -> String {
    text(Kind::PrivateKey, der)
}

fn text(kind: Kind, der: &[u8]) -> String {
    let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
    pem::encode_config(&Pem::new(kind.label(), der), config)
}

#[cfg(test)]
#[path = "pem_tests.rs"]
mod tests;

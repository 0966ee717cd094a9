//! Certificates and lists as programs of others make them, and what of them no agent can use: the doors at which they come
//! in are driven by the same tables.

use bytes::Bytes;
use dd_proto::pem::{self, Kind};

/// Each with a word of the reason for which it is refused; empty: it is taken.
pub(super) const AUTHORITIES: &[(&str, &str)] = &[
    ("ca", ""),
    ("authority-endless", ""),
    ("authority-p521", ""),
    ("authority-ed25519", ""),
    ("authority-sha1", ""),
    ("authority-brainpool", "kind brainpoolP256r1"),
    ("authority-secp256k1", "kind secp256k1"),
    ("authority-explicit", "explicit parameters"),
    ("authority-ed448", "kind Ed448"),
    ("authority-rsapss", "kind RSA-PSS"),
    ("authority-rsa1024", "1024 bits"),
    ("authority-v1", "version 1"),
    ("authority-noca", "basicConstraints CA:TRUE"),
];

/// Lists of the authority `ca`, beside `list-good`, each with a word of the reason for which it is refused.
pub(super) const UNUSABLE_LISTS: &[(&str, &str)] = &[
    ("list-v1", "version 1"),
    ("list-nonext", "nextUpdate"),
    ("list-delta", "delta"),
    ("list-indirect", "indirect"),
    ("list-reasons", "reasons"),
    ("list-users", "distribution point"),
    ("list-unknown", "critical extension"),
    ("list-sha1", "SHA-1 with ECDSA"),
];

pub(super) fn certificate(name: &str) -> Bytes {
    made_by_tools(name, Kind::Certificate)
}

pub(super) fn list(name: &str) -> Bytes {
    made_by_tools(name, Kind::RevocationList)
}

/// As it stands in a file.
pub(super) fn text(name: &str) -> String {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../proto/pki/tests/data");
    std::fs::read_to_string(format!("{data}/{name}.pem")).unwrap()
}

fn made_by_tools(name: &str, kind: Kind) -> Bytes {
    pem::read_one(text(name).as_bytes(), kind).unwrap().into()
}

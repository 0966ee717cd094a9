//! What a sender's report calls a proof that was withheld: RFC 3463 §3.8, security and policy, of the class *temporary*.
//!
//! Who answered was not the site, so nothing it said itself is passed on as the site's reply.

use dd_proto::smtp::status::Status;

/// By the greppable word of the refusal. A word of another agent's own is some trouble with a proof.
pub fn status(reason: &str) -> Status {
    let detail = match reason {
        // Security features not supported: no TLS where it is needed.
        "NoStartTls" | "StartTlsRefused" | "TlsFellAway" => 4,
        // Cryptographic algorithm not supported.
        "TlsTooOld" => 6,
        // Cryptographic failure: a certificate that is not the site's, or not a good one.
        "UnknownIssuer"
        | "SelfSigned"
        | "SameNameOtherKey"
        | "ChainIncomplete"
        | "NameMismatch"
        | "NameOnlyInCn"
        | "NameNotPermitted"
        | "ChainNotAllowed"
        | "UnsafeSignature"
        | "UnsupportedKey"
        | "CertificateVersion1"
        | "CriticalExtension"
        | "BadRevocationList"
        | "FingerprintNotListed"
        | "Expired"
        | "NotYetValid"
        | "CaUsedAsEndEntity"
        | "Revoked"
        | "RevocationUnknown"
        | "WeakKey"
        | "AnchorExpired"
        | "AnchorNotYetValid"
        | "NoAnchor"
        | "BadCertificate"
        | "WrongPurpose"
        | "HandshakeFailed" => 5,
        // RFC 3463 §3.5: routing loop detected.
        "Loop" => return Status::new(4, 4, 6),
        _ => 0,
    };
    Status::new(4, 7, detail)
}

/// The words of all refusals, as the manual lists them.
#[cfg(test)]
pub(crate) fn documented() -> impl Iterator<Item = &'static str> {
    let manual = include_str!("../../../docs/verification.md");
    let (_, table) = manual.split_once("\n## Refusals\n").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.flat_map(|row| {
        let (cell, _) = row.split_once(" | ").unwrap();
        cell.split([',', '`', ' ']).filter(|it| !it.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_of_our_agent_has_its_code() {
        let words = documented();
        let mut others = Vec::new();
        for word in words {
            match status(word).to_string().as_str() {
                "4.7.4" | "4.7.5" | "4.7.6" | "4.4.6" => {}
                code => others.push(format!("{word} {code}")),
            }
        }
        assert_eq!(
            others,
            [
                "AddressNotListed 4.7.0",
                "PortIsPublic 4.7.0",
                "TurnedAway 4.7.0",
                "NoEsmtp 4.7.0",
                "NotSmtp 4.7.0"
            ]
        );
    }
}

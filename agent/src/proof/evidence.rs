//! A refusal as it travels: the reason, one sentence for the member, and what was wanted and seen.

use std::fmt::Write as _;

use dd_proto::report::RefusalReason;
use dd_proto::site::{Certified, Proof};

use super::observed::describe;
use super::{Refusal, Seen, Terms, TlsSeen};
use crate::tls::name_sent;

/// Complete: whoever reads it needs nothing else to judge it.
pub(crate) fn reason_for(refusal: &Refusal, terms: &Terms, seen: &Seen) -> RefusalReason {
    let wanted = match refusal {
        Refusal::TlsFellAway(_) => format!("{}, and TLS as before", wanted(&terms.proof)),
        _ => wanted(&terms.proof),
    };
    RefusalReason {
        reason: refusal.reason().to_owned(),
        sentence: refusal.to_string(),
        wanted,
        seen: was_seen(terms, seen),
    }
}

fn wanted(proof: &Proof) -> String {
    let certified = |it: &Certified| {
        format!(
            "a certificate for {} issued by the authority `{}`",
            it.name, it.authority
        )
    };
    match proof {
        Proof::StaticIp {
            addresses,
            certificate,
        } => {
            let addresses = format!("an address out of {}", joined(addresses.iter()));
            match certificate {
                Some(it) => format!("{addresses}, and {}", certified(it)),
                None => addresses,
            }
        }
        Proof::Certificate(it) => certified(it),
        Proof::Fingerprint { listed } => {
            format!("a certificate or key out of {}", joined(listed.iter()))
        }
        Proof::Public { name } => format!("a certificate for {name} issued by a public authority"),
        Proof::Port => "the agreed host on a port other than 25".to_owned(),
        Proof::Configured => "the configured smarthost".to_owned(),
    }
}

fn joined<T: ToString>(all: impl Iterator<Item = T>) -> String {
    let all: Vec<String> = all.map(|it| it.to_string()).collect();
    all.join(", ")
}

fn was_seen(terms: &Terms, seen: &Seen) -> String {
    let mut text = seen.peer.to_string();
    let chain = match &seen.tls {
        TlsSeen::NotAsked => return text,
        TlsSeen::NotOffered => return text + " without STARTTLS",
        TlsSeen::Refused(reply) => {
            let _ = write!(text, ", which answers STARTTLS with `{reply}`");
            return text;
        }
        TlsSeen::Failed { chain, .. } => chain,
        TlsSeen::Up(up) => {
            let _ = write!(text, " with {}", up.version);
            &up.chain
        }
    };
    // Which of its certificates a host shows depends on the name it is asked for.
    if let Some(name) = name_sent(terms, &seen.host.name) {
        let _ = write!(text, ", asked for {name},");
    }
    match describe(chain) {
        None => text + " with no certificate that can be read",
        Some(it) => {
            let names = match it.names.is_empty() {
                true => "no name".to_owned(),
                false => it.names.join(", "),
            };
            let _ = write!(
                text,
                " with the certificate {} for {names} ({}) issued by {}, valid from {} to {}",
                it.sha256, it.subject, it.issuer, it.not_before, it.not_after
            );
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{certified, seen_at, terms};
    use super::*;

    #[test]
    fn a_reason_says_what_was_wanted_and_what_was_there() {
        let listed = |certificate| Proof::StaticIp {
            addresses: ["192.0.2.7".parse().unwrap()].into(),
            certificate,
        };
        let public = Proof::Public {
            name: "home.example".parse().unwrap(),
        };
        for (proof, tls, wanted, was) in [
            (
                Proof::Certificate(certified()),
                TlsSeen::NotOffered,
                "a certificate for home.example issued by the authority `ca`",
                "192.0.2.9:25 without STARTTLS",
            ),
            (
                public,
                TlsSeen::Refused("454 no".into()),
                "a certificate for home.example issued by a public authority",
                "192.0.2.9:25, which answers STARTTLS with `454 no`",
            ),
            (
                listed(None),
                TlsSeen::NotAsked,
                "an address out of 192.0.2.7",
                "192.0.2.9:25",
            ),
            (
                listed(Some(certified())),
                TlsSeen::NotAsked,
                "an address out of 192.0.2.7, and a certificate for home.example issued by the authority `ca`",
                "192.0.2.9:25",
            ),
        ] {
            let seen = seen_at("192.0.2.9", 25, tls);
            let reason = reason_for(&Refusal::NoStartTls, &terms(proof), &seen);
            assert_eq!(
                (reason.wanted.as_str(), reason.seen.as_str()),
                (wanted, was)
            );
        }
    }

    #[test]
    fn a_certificate_is_described_whole() {
        let pem = include_str!("../../tests/data/rsa1024-cert.pem");
        let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
        let tls = TlsSeen::Failed {
            refusal: Refusal::UnknownIssuer,
            chain: vec![pem.contents.into()],
        };
        let terms = terms(Proof::Port);
        let seen = was_seen(&terms, &seen_at("192.0.2.9", 25, tls));
        for part in [
            "192.0.2.9:25, asked for home.example, with the certificate",
            "home.example",
            "issued by CN=",
            "valid from ",
        ] {
            assert!(seen.contains(part), "{seen}");
        }
    }
}

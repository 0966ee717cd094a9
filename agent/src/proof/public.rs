//! The proof `public`: a chain to one of the roots of the web PKI, and the site's defined name in the certificate.
//!
//! Path and name are rustls's own check ([`crate::tls`]) over Mozilla's roots as they were when this was built; the
//! machine's own store of roots is never looked at.

use dd_pki::judge;
use dd_proto::site;
use jiff::Timestamp;

use super::certificate::secured;
use super::{Checked, Proof, Refusal, Seen, Terms, TlsUse, Verified};

#[derive(Debug)]
pub(super) struct Public;

impl Proof for Public {
    fn kind(&self) -> &'static str {
        "public"
    }

    fn tls(&self, _terms: &Terms) -> TlsUse {
        TlsUse::Needed
    }

    fn rule(&self, terms: &Terms, seen: &Seen, _now: Timestamp) -> Result<Verified, Refusal> {
        let up = secured(seen)?;
        match (&terms.proof, &up.checked) {
            (
                site::Proof::Public { name: wanted },
                Checked::AgainstPublicRoots { name: checked },
            ) if wanted == checked => {
                judge::keys_are_strong(&up.chain)?;
                judge::issuers_may_issue(&up.chain)?;
                Ok(Verified::by(self.kind()))
            }
            _ => Err(Refusal::UnknownIssuer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{seen_at, terms};
    use super::super::{TlsSeen, TlsUp};
    use super::*;

    #[test]
    fn only_the_defined_name_checked_against_the_public_roots_is_proof() {
        let terms = terms(site::Proof::Public {
            name: "home.example".parse().unwrap(),
        });
        let name = |text: &str| text.parse().unwrap();
        for (checked, proved) in [
            (
                Checked::AgainstPublicRoots {
                    name: name("home.example"),
                },
                true,
            ),
            (
                Checked::AgainstPublicRoots {
                    name: name("other.example"),
                },
                false,
            ),
            // A private authority is no public one, whatever it certified.
            (
                Checked::AgainstAnchors {
                    name: name("home.example"),
                    anchors: Vec::new(),
                },
                false,
            ),
            (Checked::OnlyRecorded, false),
        ] {
            let tls = TlsSeen::Up(TlsUp {
                version: "TLSv1.3".into(),
                cipher: String::new(),
                chain: Vec::new(),
                checked: checked.clone(),
                asked: crate::proof::Asked::No,
            });
            let ruling = Public.rule(
                &terms,
                &seen_at("192.0.2.7", 25, tls),
                Timestamp::UNIX_EPOCH,
            );
            assert_eq!(ruling.is_ok(), proved, "{checked:?}");
        }
    }
}

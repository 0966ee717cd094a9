//! The proof `configured`: the provider's own smarthost, named in the controller's configuration. The configuration is the proof.

use dd_proto::site;
use jiff::Timestamp;

use super::{Proof, Refusal, Seen, Terms, TlsUse, Verified};

#[derive(Debug)]
pub(super) struct Configured;

impl Proof for Configured {
    fn kind(&self) -> &'static str {
        "configured"
    }

    fn tls(&self, _terms: &Terms) -> TlsUse {
        TlsUse::WhereOffered
    }

    fn rule(&self, terms: &Terms, seen: &Seen, _now: Timestamp) -> Result<Verified, Refusal> {
        match terms.proof {
            site::Proof::Configured => Ok(Verified::by(self.kind())),
            _ => Err(Refusal::AddressNotListed {
                address: seen.peer.ip(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::TlsSeen;
    use super::super::tests::{seen_at, terms};
    use super::*;

    #[test]
    fn only_what_the_configuration_names_is_proved_by_it() {
        let seen = seen_at("192.0.2.7", 25, TlsSeen::NotOffered);
        let rule = |proof| Configured.rule(&terms(proof), &seen, Timestamp::UNIX_EPOCH);
        assert!(rule(site::Proof::Configured).is_ok());
        assert!(rule(site::Proof::Port).is_err());
    }
}

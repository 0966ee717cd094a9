//! The proof `static-ip`: the address we are connected to is one of those listed for the site; and, where the record
//! asks for it, the certificate is the site's too.

use dd_proto::site;
use jiff::Timestamp;

use super::{Proof, Refusal, Seen, Terms, TlsUse, Verified, certificate};

#[derive(Debug)]
pub(super) struct StaticIp;

impl Proof for StaticIp {
    fn kind(&self) -> &'static str {
        "static-ip"
    }

    fn tls(&self, terms: &Terms) -> TlsUse {
        match terms.proof.certified() {
            Some(_) => TlsUse::Needed,
            None => TlsUse::WhereOffered,
        }
    }

    fn rule(&self, terms: &Terms, seen: &Seen, now: Timestamp) -> Result<Verified, Refusal> {
        // An IPv4-mapped peer is the IPv4 host; the list is written in either form.
        let address = seen.peer.ip().to_canonical();
        let site::Proof::StaticIp {
            addresses,
            certificate,
        } = &terms.proof
        else {
            return Err(Refusal::AddressNotListed { address });
        };
        if !addresses
            .iter()
            .any(|listed| listed.to_canonical() == address)
        {
            return Err(Refusal::AddressNotListed { address });
        }
        if let Some(certified) = certificate {
            certificate::certified(certified, seen, now)?;
        }
        Ok(Verified::by(self.kind()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::TlsSeen;
    use super::super::tests::{seen_at, terms};
    use super::*;

    #[test]
    fn only_a_listed_address_is_proved() {
        let terms = terms(site::Proof::StaticIp {
            addresses: ["192.0.2.7", "2001:db8::7"]
                .map(|a| a.parse().unwrap())
                .into(),
            certificate: None,
        });
        for (peer, proved) in [
            ("192.0.2.7", true),
            ("2001:db8::7", true),
            ("::ffff:192.0.2.7", true),
            ("192.0.2.8", false),
            ("2001:db8::8", false),
            ("::192.0.2.7", false),
        ] {
            let seen = seen_at(peer, 25, TlsSeen::NotOffered);
            let ruling = StaticIp.rule(&terms, &seen, Timestamp::UNIX_EPOCH);
            assert_eq!(ruling.is_ok(), proved, "{peer}");
        }
    }
}

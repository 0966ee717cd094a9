//! The proof `port`: an agreed host on an agreed port other than 25. Nothing further is proved, and operators are told so.

use jiff::Timestamp;

use super::{Proof, Refusal, Seen, Terms, TlsUse, Verified};

#[derive(Debug)]
pub(super) struct Port;

impl Proof for Port {
    fn kind(&self) -> &'static str {
        "port"
    }

    fn tls(&self, _terms: &Terms) -> TlsUse {
        TlsUse::WhereOffered
    }

    fn rule(&self, _terms: &Terms, seen: &Seen, _now: Timestamp) -> Result<Verified, Refusal> {
        // Port 25 is where any stranger's mail server answers, so it says nothing about who that is.
        if seen.peer.port() == 25 || seen.host.port.get() != seen.peer.port() {
            return Err(Refusal::PortIsPublic);
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
    fn the_public_port_proves_nothing() {
        let terms = terms(dd_proto::site::Proof::Port);
        for (port, proved) in [(25, false), (2525, true), (26, true)] {
            let seen = seen_at("192.0.2.7", port, TlsSeen::NotOffered);
            let ruling = Port.rule(&terms, &seen, Timestamp::UNIX_EPOCH);
            assert_eq!(ruling.is_ok(), proved, "{port}");
        }
    }
}

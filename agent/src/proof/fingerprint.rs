//! The proof `fingerprint`: the far end's own certificate, or its public key, is one of those listed for the site.
//!
//! TLS has shown that the far end holds the key. Who issued the certificate, for which name and until when does not
//! count: the list says which key it is. Several are listed while a key is changed.

use dd_proto::fingerprint::Fingerprint as Digest;
use dd_proto::site;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::certificate::secured;
use super::{Proof, Refusal, Seen, Terms, TlsUse, Verified};
use crate::tls::name_sent;

#[derive(Debug)]
pub(super) struct Fingerprint;

impl Proof for Fingerprint {
    fn kind(&self) -> &'static str {
        "fingerprint"
    }

    fn tls(&self, _terms: &Terms) -> TlsUse {
        TlsUse::Needed
    }

    fn rule(&self, terms: &Terms, seen: &Seen, _now: Timestamp) -> Result<Verified, Refusal> {
        let up = secured(seen)?;
        let der = up.chain.first().ok_or(Refusal::BadCertificate)?;
        let key = dd_pki::key::of_certificate(der).ok_or(Refusal::BadCertificate)?;
        let whole = Digest(Sha256::digest(der).into());
        let key = Digest(Sha256::digest(key).into());
        match &terms.proof {
            site::Proof::Fingerprint { listed }
                if listed.contains(&whole) || listed.contains(&key) =>
            {
                Ok(Verified::by(self.kind()))
            }
            _ => Err(Refusal::FingerprintNotListed {
                certificate: whole,
                key,
                asked: match name_sent(terms, &seen.host.name) {
                    Some(name) => format!(" when asked for {name}"),
                    None => String::new(),
                },
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{seen_at, terms};
    use super::super::{Checked, TlsSeen, TlsUp};
    use super::*;
    use rcgen::{CertificateParams, KeyPair, PublicKeyData as _};

    #[test]
    fn only_a_listed_certificate_or_key_is_proved() {
        let key = KeyPair::generate().unwrap();
        let certificate = |name: &str| {
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            params.self_signed(&key).unwrap().der().clone()
        };
        let (now, renewed) = (certificate("home.example"), certificate("other.example"));
        let whole = Digest(Sha256::digest(&now).into());
        let of_key = Digest(Sha256::digest(key.subject_public_key_info()).into());
        let other = Digest([7; 32]);
        for (listed, chain, proved) in [
            (vec![whole], vec![now.clone()], true),
            (vec![other, whole], vec![now.clone()], true),
            (vec![of_key], vec![now.clone()], true),
            // The key stays when the certificate is renewed with it.
            (vec![of_key], vec![renewed.clone()], true),
            (vec![whole], vec![renewed.clone()], false),
            (vec![other], vec![now.clone()], false),
            // What counts is the server's own certificate, not one that it sends along.
            (vec![whole], vec![renewed, now], false),
            (vec![whole], vec![], false),
        ] {
            let terms = terms(site::Proof::Fingerprint {
                listed: listed.into_iter().collect(),
            });
            let tls = TlsSeen::Up(TlsUp {
                version: "TLSv1.3".into(),
                cipher: String::new(),
                chain,
                checked: Checked::OnlyRecorded,
                asked: crate::proof::Asked::No,
            });
            let seen = seen_at("192.0.2.7", 25, tls);
            let ruling = Fingerprint.rule(&terms, &seen, Timestamp::UNIX_EPOCH);
            assert_eq!(ruling.is_ok(), proved, "{ruling:?}");
        }
    }
}

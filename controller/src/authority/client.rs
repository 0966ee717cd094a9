//! Clients of the control plane: whom a certificate names, by which key, and until when TLS lets it in.
//!
//! # Invariants
//! Every certificate that is let in was found good by rustls's own verifier over exactly this authority. What is added
//! here is only *as of when* it is asked: of an agent's that has ended, as of its last second.
//!
//! # Not here
//! Whether the key is the one the registry knows, and that one whose certificate has ended may renew it and nothing
//! else: [`crate::api::roles`].

use std::sync::Arc;
use std::time::Duration;

use dd_proto::name::{AdminName, AgentName};
use jiff::Timestamp;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::{ADMIN_URI, AGENT_URI};

/// For so long after its end an agent's certificate still serves to renew it.
pub const GRACE: Duration = Duration::from_secs(30 * 86_400);

/// A key, by the SHA-256 of its public half (SubjectPublicKeyInfo, DER): what an agent or an administrator
/// *is*.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AgentKey(pub [u8; 32]);

impl AgentKey {
    pub fn of(public: &[u8]) -> Self {
        Self(Sha256::digest(public).into())
    }
}

impl std::fmt::Debug for AgentKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "AgentKey({a:02x}{b:02x}{c:02x}{d:02x}…)")
    }
}

/// Whom a certificate of this authority names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    Agent { name: AgentName, key: AgentKey },
    Admin { name: AdminName, key: AgentKey },
}

/// A client's certificate, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    pub subject: Subject,
    pub not_after: Timestamp,
}

impl Client {
    /// None of whatever names neither an agent nor an administrator, or several.
    pub fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let names = certificate.subject_alternative_name().ok()??;
        let [GeneralName::URI(uri)] = names.value.general_names[..] else {
            return None;
        };
        let key = AgentKey::of(certificate.public_key().raw);
        let subject = match (uri.strip_prefix(AGENT_URI), uri.strip_prefix(ADMIN_URI)) {
            (Some(name), _) => Subject::Agent {
                name: name.parse().ok()?,
                key,
            },
            (_, Some(name)) => Subject::Admin {
                name: name.parse().ok()?,
                key,
            },
            _ => return None,
        };
        let not_after = certificate.validity().not_after.timestamp();
        let not_after = Timestamp::from_second(not_after).ok()?;
        Some(Self { subject, not_after })
    }
}

/// rustls's verifier, which is asked again about an agent's certificate that has ended.
#[derive(Debug)]
pub(super) struct Verifier(pub(super) Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Verifier {
    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.0.verify_client_cert(leaf, intermediates, now);
        match (&verified, last_second(leaf, now)) {
            (Err(Error::InvalidCertificate(ended)), Some(then)) if is_expiry(ended) => {
                self.0.verify_client_cert(leaf, intermediates, then)
            }
            _ => verified,
        }
    }

    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

fn is_expiry(error: &CertificateError) -> bool {
    matches!(
        error,
        CertificateError::Expired | CertificateError::ExpiredContext { .. }
    )
}

/// The last second of an agent's certificate that has ended and may still be renewed.
fn last_second(leaf: &[u8], now: UnixTime) -> Option<UnixTime> {
    let client = Client::read(leaf)?;
    let Subject::Agent { .. } = client.subject else {
        return None;
    };
    let not_after = Duration::from_secs(u64::try_from(client.not_after.as_second()).ok()?);
    let now = Duration::from_secs(now.as_secs());
    let may_renew = now > not_after && now <= not_after + GRACE;
    may_renew.then(|| UnixTime::since_unix_epoch(not_after))
}

#[cfg(test)]
mod tests {
    use super::super::{AGENT_LIFE, ControlAuthority, Request, client};
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    const NOW: u64 = 1_800_000_000;

    fn at(after: Duration) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(NOW) + after)
    }

    fn authority() -> ControlAuthority {
        let state = tempfile::tempdir().unwrap();
        ControlAuthority::open(state.path(), now()).unwrap()
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn agent(authority: &ControlAuthority) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let request = CertificateParams::new(Vec::new())
            .unwrap()
            .serialize_request(&key)
            .unwrap();
        let request = Request::parse(request.der()).unwrap();
        let chain = authority
            .issue_agent(&request, &"out1".parse().unwrap(), now())
            .unwrap();
        chain[0].clone().into()
    }

    #[test]
    fn an_agents_certificate_that_has_ended_is_let_in_for_thirty_days_and_no_longer() {
        let (ours, foreign) = (authority(), authority());
        let verifier = ours.verifier().unwrap();
        let second = Duration::from_secs(1);
        for (after, good) in [
            (Duration::ZERO, true),
            (AGENT_LIFE, true),
            (AGENT_LIFE + second, true),
            (AGENT_LIFE + GRACE, true),
            (AGENT_LIFE + GRACE + second, false),
        ] {
            let verified = verifier.verify_client_cert(&agent(&ours), &[], at(after));
            assert_eq!(verified.is_ok(), good, "{after:?}: {verified:?}");
            let verified = verifier.verify_client_cert(&agent(&foreign), &[], at(after));
            assert!(verified.is_err(), "another authority's, {after:?}");
        }
    }

    #[test]
    fn an_administrators_certificate_ends_when_it_ends() {
        let ours = authority();
        let verifier = ours.verifier().unwrap();
        let params = client(ADMIN_URI, "anna", AGENT_LIFE, now()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &ours.issuer).unwrap();
        for (after, good) in [
            (AGENT_LIFE, true),
            (AGENT_LIFE + Duration::from_secs(1), false),
        ] {
            let verified = verifier.verify_client_cert(certificate.der(), &[], at(after));
            assert_eq!(verified.is_ok(), good, "{verified:?}");
        }
    }

    #[test]
    fn a_certificate_speaks_for_the_one_name_it_carries() {
        let uri = |text: &str| SanType::URI(text.try_into().unwrap());
        let key = KeyPair::generate().unwrap();
        let agent = Subject::Agent {
            name: "out1".parse().unwrap(),
            key: AgentKey::of(&rcgen::PublicKeyData::subject_public_key_info(&key)),
        };
        let admin = Subject::Admin {
            name: "anna".parse().unwrap(),
            key: AgentKey::of(&rcgen::PublicKeyData::subject_public_key_info(&key)),
        };
        for (names, expected) in [
            (vec![uri("dd:agent:out1")], Some(agent)),
            (vec![uri("dd:admin:anna")], Some(admin)),
            (vec![uri("dd:admin:")], None),
            (vec![uri("dd:agent:a b")], None),
            (vec![uri("https://out1.example")], None),
            (vec![uri("dd:agent:out1"), uri("dd:admin:anna")], None),
            (vec![], None),
        ] {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.subject_alt_names = names;
            let certificate = params.self_signed(&key).unwrap();
            let read = Client::read(certificate.der()).map(|it| it.subject);
            assert_eq!(read, expected);
        }
        assert_eq!(Client::read(b"nothing"), None);
    }
}

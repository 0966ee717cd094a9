//! Revocation lists: whose one is, and whether the verifier can use it.

use rustls::CertRevocationListError;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer as _, X509Certificate, X509Version};
use x509_parser::revocation_list::CertificateRevocationList;

use crate::anchored::{Anchored, Unusable};
use crate::{key, names, provider};

/// Why no verifier here can use a list (RFC 5280 §5).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListFault {
    #[error("it cannot be read: expected an X.509 CRL")]
    Unreadable,
    #[error(
        "it is of version 1, and only version 2 is used: with `openssl ca -gencrl` set `crlnumber` and `crl_extensions` in its configuration, with `keytool -gencrl` add `-ext crlnumber`, with `crlutil` add the extension with `addext`"
    )]
    Version1,
    #[error(
        "it has no extensions: make it with a CRL number (for `openssl ca -gencrl` set `crlnumber` in its configuration)"
    )]
    NoExtensions,
    #[error(
        "it does not say when the next one comes (nextUpdate): make it with that, such as `-crldays 30`"
    )]
    NoNextUpdate,
    #[error("it is a delta list, which only says what has changed: import the complete one")]
    Delta,
    #[error(
        "it is an indirect list, which names certificates of other authorities too: import each authority's own"
    )]
    Indirect,
    #[error("it covers only some reasons of revocation: import one that covers all")]
    SomeReasons,
    #[error(
        "it is for a distribution point that has no full name (issuingDistributionPoint): make it without that extension, for all certificates of the authority"
    )]
    DistributionPoint,
    #[error("it has a critical extension that is not known here: make it without")]
    CriticalExtension,
    #[error("its number is none of RFC 5280 §5.2.3 (up to 20 octets, not negative): make it anew")]
    Number,
    #[error("it is signed with {0}, which is not taken here: have it signed with SHA-256")]
    Signature(String),
    #[error(
        "the authority's certificate does not let its key sign lists (key usage without cRLSign): make it anew with that"
    )]
    MayNotSign,
    #[error("the verifier cannot use it ({0}): make it anew")]
    Other(String),
}

/// A list, as far as it takes to say whose it is.
#[derive(Debug)]
pub struct List<'a>(pub CertificateRevocationList<'a>);

impl<'a> List<'a> {
    /// None where it cannot be read, or something follows it.
    pub fn parse(der: &'a [u8]) -> Option<Self> {
        let (rest, list) = CertificateRevocationList::from_der(der).ok()?;
        rest.is_empty().then_some(Self(list))
    }

    /// Whether it names this issuer, byte for byte: the verifier looks for no other.
    pub fn is_named(&self, issuer: &X509Certificate<'_>) -> bool {
        self.0.issuer().as_raw() == issuer.subject().as_raw()
    }

    /// Whether it says the issuer's name, in whatever way it is written.
    pub fn says_name_of(&self, issuer: &X509Certificate<'_>) -> bool {
        names::same(self.0.issuer(), issuer.subject())
    }

    /// Named and signed by it. That the signature is good is looked at again by the verifier, with each use.
    pub fn is_of(&self, issuer: &X509Certificate<'_>, provider: &CryptoProvider) -> bool {
        self.is_named(issuer) && self.is_signed_by(issuer, provider)
    }

    pub fn is_signed_by(&self, issuer: &X509Certificate<'_>, provider: &CryptoProvider) -> bool {
        let key = &issuer.public_key().subject_public_key.data;
        let signed = self.0.tbs_cert_list.as_ref();
        let signature = &self.0.signature_value.data;
        provider
            .signature_verification_algorithms
            .all
            .iter()
            .any(|algorithm| algorithm.verify_signature(key, signed, signature).is_ok())
    }

    /// The signature's algorithm, where no verifier here takes it.
    pub fn unsupported_signature(&self, provider: &CryptoProvider) -> Option<String> {
        key::unsupported_signature(&self.0.signature_algorithm.algorithm, provider)
    }
}

/// Tries a list, by building the agents' own verifier over its issuer with it.
///
/// # Errors
/// What it lacks.
pub fn judge(der: &[u8], issuer: &[u8]) -> Result<(), ListFault> {
    let list = List::parse(der).ok_or(ListFault::Unreadable)?;
    if let Some(algorithm) = list.unsupported_signature(&provider()) {
        return Err(ListFault::Signature(algorithm));
    }
    let anchor = CertificateDer::from(issuer.to_vec());
    let lists = [CertificateRevocationListDer::from(der.to_vec())];
    match Anchored::new(&[anchor], &lists, &provider()) {
        // An anchor that cannot be used is the anchor's fault, and said of it.
        Ok(_) | Err(Unusable::NoAnchor) => Ok(()),
        Err(Unusable::List(error)) => Err(fault(&error, &list.0)),
        Err(Unusable::UnreadableList) => Err(ListFault::Unreadable),
    }
}

/// The verifier's error in words. Where it only says that it cannot parse, the list itself says why.
fn fault(error: &CertRevocationListError, list: &CertificateRevocationList<'_>) -> ListFault {
    use CertRevocationListError as E;
    match error {
        E::UnsupportedCrlVersion => ListFault::Version1,
        E::UnsupportedDeltaCrl => ListFault::Delta,
        E::UnsupportedIndirectCrl => ListFault::Indirect,
        E::UnsupportedCriticalExtension => ListFault::CriticalExtension,
        E::InvalidCrlNumber => ListFault::Number,
        E::IssuerInvalidForCrl => ListFault::MayNotSign,
        _ if list.version() != Some(X509Version::V2) => ListFault::Version1,
        _ if list.next_update().is_none() => ListFault::NoNextUpdate,
        _ if list.extensions().is_empty() => ListFault::NoExtensions,
        other => partial(list).unwrap_or_else(|| ListFault::Other(format!("{other:?}"))),
    }
}

/// RFC 5280 §5.2.5: a list that is for a part only.
fn partial(list: &CertificateRevocationList<'_>) -> Option<ListFault> {
    list.extensions()
        .iter()
        .find_map(|it| match it.parsed_extension() {
            ParsedExtension::IssuingDistributionPoint(point) => Some(match point {
                point if point.indirect_crl => ListFault::Indirect,
                point if point.only_some_reasons.is_some() => ListFault::SomeReasons,
                _ => ListFault::DistributionPoint,
            }),
            _ => None,
        })
}

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;

//! Distinguished names, compared as RFC 5280 §7.1 asks: by what they say, and not by the string type or the case and blanks
//! in which one tool or another wrote it.
//!
//! # Not here
//! Which name leads to an issuer at a handshake: rustls compares bytes there, and is the only judge. This is for telling
//! people why it did not find one.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, GeneralSubtree};
use x509_parser::x509::X509Name;

/// Whether two names say the same.
pub fn same(one: &X509Name<'_>, other: &X509Name<'_>) -> bool {
    one.as_raw() == other.as_raw() || prepared(one) == prepared(other)
}

/// Whether a certificate limits the directory names of those below it (RFC 5280 §4.2.1.10). Webpki does not judge such
/// limits, and so refuses every chain that has one, whatever it permits.
pub fn limits_directories(certificate: &X509Certificate<'_>) -> bool {
    let Ok(Some(limits)) = certificate.name_constraints() else {
        return false;
    };
    let (permitted, excluded) = (
        &limits.value.permitted_subtrees,
        &limits.value.excluded_subtrees,
    );
    let is_directory = |it: &GeneralSubtree<'_>| matches!(it.base, GeneralName::DirectoryName(_));
    let mut all = permitted.iter().chain(excluded).flatten();
    all.any(is_directory)
}

/// Types and values, in order.
fn prepared(name: &X509Name<'_>) -> Vec<Vec<(String, Vec<u8>)>> {
    name.iter_rdn()
        .map(|rdn| {
            let mut attributes: Vec<_> = rdn
                .iter()
                .map(|it| {
                    let value = match it.as_str() {
                        Ok(text) => folded(text).into_bytes(),
                        Err(_) => it.attr_value().data.to_vec(),
                    };
                    (it.attr_type().to_id_string(), value)
                })
                .collect();
            attributes.sort();
            attributes
        })
        .collect()
}

/// RFC 5280 §7.1: without regard to case, blanks at the ends, or how many blanks there are between words.
fn folded(text: &str) -> String {
    let words: Vec<String> = text.split_whitespace().map(str::to_lowercase).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair};
    use x509_parser::prelude::FromDer as _;

    fn named(name: DnValue) -> Vec<u8> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn limits_of_directory_names_are_seen_among_others() {
        use rcgen::{BasicConstraints, DistinguishedName, GeneralSubtree as Limit, IsCa};
        let directory = || Limit::DirectoryName(DistinguishedName::new());
        let domain = || Limit::DnsName("example".to_owned());
        for (permitted, excluded, expected) in [
            (vec![], vec![], false),
            (vec![domain()], vec![domain()], false),
            (vec![domain(), directory()], vec![], true),
            (vec![], vec![directory()], true),
        ] {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.name_constraints = Some(rcgen::NameConstraints {
                permitted_subtrees: permitted,
                excluded_subtrees: excluded,
            });
            let key = KeyPair::generate().unwrap();
            let made = params.self_signed(&key).unwrap();
            let (_, made) = X509Certificate::from_der(made.der()).unwrap();
            assert_eq!(limits_directories(&made), expected);
        }
    }

    #[test]
    fn names_are_equal_in_whatever_type_and_case_they_are_written() {
        let printable = |text: &str| named(DnValue::PrintableString(text.try_into().unwrap()));
        let utf8 = |text: &str| named(DnValue::Utf8String(text.to_owned()));
        let of = |one: &[u8], other: &[u8]| {
            let (_, one) = X509Certificate::from_der(one).unwrap();
            let (_, other) = X509Certificate::from_der(other).unwrap();
            same(one.subject(), other.subject())
        };
        let members = utf8("Members CA");
        assert!(of(&members, &members));
        assert!(of(&members, &printable("Members CA")));
        assert!(of(&members, &utf8(" members  ca")));
        assert!(!of(&members, &utf8("Members CA 2")));
    }
}

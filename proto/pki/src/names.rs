//! Distinguished names, compared as RFC 5280 §7.1 asks: by what they say, and not by the string type or the case and blanks
//! in which one tool or another wrote it.
//!
//! # Not here
//! Which name leads to an issuer at a handshake: rustls compares bytes there, and is the only judge. This is for telling
//! people why it did not find one.

use x509_parser::x509::X509Name;

/// Whether two names say the same.
pub fn same(one: &X509Name<'_>, other: &X509Name<'_>) -> bool {
    one.as_raw() == other.as_raw() || prepared(one) == prepared(other)
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
    use x509_parser::prelude::{FromDer as _, X509Certificate};

    fn named(name: DnValue) -> Vec<u8> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
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

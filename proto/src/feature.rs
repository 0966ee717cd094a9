//! What an agent has to understand of a site's route plan, beyond what every agent does.
//!
//! Whoever meets a field of the contract that he does not know passes it over. For most fields that is right; an agent that
//! passed over one of these would hand mail over in a way that the site has not asked for. So agents say in their Hello
//! which of them they know, and a site that needs one goes only to those that do.

use std::collections::BTreeSet;

use crate::site::{Family, Speaks, Way};

/// One such thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// `RoutePlan.client_certificate`.
    ClientCertificate,
    /// `RoutePlan.tls_on_connect`.
    TlsOnConnect,
    /// `RoutePlan.lmtp`.
    Lmtp,
    /// `RoutePlan.family`.
    Family,
}

/// Every one that this version knows.
pub const ALL: [Feature; 4] = [
    Feature::ClientCertificate,
    Feature::TlsOnConnect,
    Feature::Lmtp,
    Feature::Family,
];

impl Feature {
    /// In Hello; also the flag of `ddadm site add` that asks for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientCertificate => "client-certificate",
            Self::TlsOnConnect => "tls-on-connect",
            Self::Lmtp => "lmtp",
            Self::Family => "family",
        }
    }

    /// Those that a Hello names. Words of a newer agent are passed over.
    pub fn named<'a>(words: impl IntoIterator<Item = &'a str>) -> BTreeSet<Self> {
        let known = |word: &str| ALL.into_iter().find(|it| it.as_str() == word);
        words.into_iter().filter_map(known).collect()
    }
}

impl Way {
    /// What an agent has to know before it gets the site's mail.
    pub fn needs(&self) -> BTreeSet<Feature> {
        let all = [
            (
                Feature::ClientCertificate,
                self.client_certificate.is_some(),
            ),
            (Feature::TlsOnConnect, self.tls_on_connect),
            (Feature::Lmtp, self.speaks == Speaks::Lmtp),
            (Feature::Family, self.family != Family::Any),
        ];
        let needed = all.into_iter().filter(|(_, needed)| *needed);
        needed.map(|(feature, _)| feature).collect()
    }

    /// The first of these that an agent with such features does not know.
    pub fn lacked_by(&self, features: &BTreeSet<Feature>) -> Option<Feature> {
        self.needs().difference(features).next().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_site_needs_is_named_in_hello_and_other_words_are_passed_over() {
        let words = ALL.map(Feature::as_str);
        let hello = words.into_iter().chain(["newer", ""]);
        assert_eq!(Feature::named(hello), BTreeSet::from(ALL));
        assert!(Way::default().needs().is_empty());
        let mut way = Way {
            client_certificate: Some("member-ca".parse().unwrap()),
            ..Way::default()
        };
        assert_eq!(way.needs(), BTreeSet::from([Feature::ClientCertificate]));
        way.tls_on_connect = true;
        way.speaks = Speaks::Lmtp;
        way.family = Family::V6;
        assert_eq!(way.needs(), BTreeSet::from(ALL));
    }
}

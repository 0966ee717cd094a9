//! What an agent has to understand of a site's route plan, beyond what every agent does.
//!
//! Whoever meets a field of the contract that he does not know passes it over. For most fields that is right; an agent that
//! passed over one of these would hand mail over in a way that the site has not asked for. So agents say in their Hello
//! which of them they know, and a site that needs one goes only to those that do.

use std::collections::BTreeSet;

use crate::site::{Family, Speaks, TlsBegins, Way};

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
    /// `RoutePlan.login`.
    Login,
    /// `RoutePlan.no_tls`.
    NoTls,
}

/// Every one that this version knows.
pub const ALL: [Feature; 6] = [
    Feature::ClientCertificate,
    Feature::TlsOnConnect,
    Feature::Lmtp,
    Feature::Family,
    Feature::Login,
    Feature::NoTls,
];

impl Feature {
    /// In Hello.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientCertificate => "client-certificate",
            Self::TlsOnConnect => "tls-on-connect",
            Self::Lmtp => "lmtp",
            Self::Family => "family",
            Self::Login => "login",
            Self::NoTls => "no-tls",
        }
    }

    /// How the operator asks for it: a flag of `ddadm site add`, or what `controller.toml` says of the smarthost.
    pub fn asked_by(self) -> &'static str {
        match self {
            Self::ClientCertificate => "--client-certificate",
            Self::TlsOnConnect => "--tls-on-connect",
            Self::Lmtp => "--lmtp",
            Self::Family => "--family",
            Self::Login => "`smarthost_user`",
            Self::NoTls => "`smarthost_tls = \"never\"`",
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
        self.needed().collect()
    }

    fn needed(&self) -> impl Iterator<Item = Feature> + use<> {
        let all = [
            (
                Feature::ClientCertificate,
                self.client_certificate.is_some(),
            ),
            (Feature::TlsOnConnect, self.tls == TlsBegins::OnConnect),
            (Feature::Lmtp, self.speaks == Speaks::Lmtp),
            (Feature::Family, self.family != Family::Any),
            (Feature::Login, self.login.is_some()),
            (Feature::NoTls, self.tls == TlsBegins::Never),
        ];
        let needed = all.into_iter().filter(|(_, needed)| *needed);
        needed.map(|(feature, _)| feature)
    }

    /// The first of these that an agent with such features does not know.
    pub fn lacked_by(&self, features: &BTreeSet<Feature>) -> Option<Feature> {
        self.needed().find(|needed| !features.contains(needed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::auth::Login;

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
        way.tls = TlsBegins::OnConnect;
        way.speaks = Speaks::Lmtp;
        way.family = Family::V6;
        way.login = Some(Login::new("us".to_owned(), "secret".to_owned()).unwrap());
        let mut needed = way.needs();
        way.tls = TlsBegins::Never;
        needed.extend(way.needs());
        assert_eq!(needed, BTreeSet::from(ALL));
        needed.remove(&Feature::Login);
        assert_eq!(way.lacked_by(&needed), Some(Feature::Login));
    }
}

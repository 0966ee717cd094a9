//! Every domain under its parents, so that what lies below one is found without a look at all of them.

use std::collections::BTreeMap;

use dd_proto::domain::Domain;

/// Domains, by their labels from the right.
#[derive(Debug, Default)]
pub(super) struct Below(BTreeMap<String, Domain>);

/// `example.home.` for `home.example`: what lies below begins with it.
fn key(domain: &Domain) -> String {
    let mut key = String::with_capacity(domain.as_str().len() + 1);
    for label in domain.as_str().rsplit('.') {
        key.push_str(label);
        key.push('.');
    }
    key
}

impl Below {
    pub(super) fn insert(&mut self, domain: &Domain) {
        self.0.insert(key(domain), domain.clone());
    }

    pub(super) fn remove(&mut self, domain: &Domain) {
        self.0.remove(&key(domain));
    }

    /// This one and those below it.
    pub(super) fn of<'a>(&'a self, domain: &Domain) -> impl Iterator<Item = &'a Domain> + use<'a> {
        let key = key(domain);
        let from = self.0.range(key.clone()..);
        from.take_while(move |(it, _)| it.starts_with(&key))
            .map(|(_, domain)| domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_below_a_domain_is_found() {
        let mut below = Below::default();
        let domain = |text: &str| text.parse::<Domain>().unwrap();
        for text in [
            "a.example",
            "b.a.example",
            "xa.example",
            "a.example.net",
            "c.example",
        ] {
            below.insert(&domain(text));
        }
        let of = |below: &Below, text: &str| {
            let found = below.of(&domain(text)).map(|it| it.as_str().to_owned());
            found.collect::<Vec<_>>()
        };
        assert_eq!(of(&below, "a.example"), ["a.example", "b.a.example"]);
        assert_eq!(of(&below, "example").len(), 4);
        assert_eq!(of(&below, "net"), ["a.example.net"]);
        below.remove(&domain("a.example"));
        assert_eq!(of(&below, "a.example"), ["b.a.example"]);
    }
}

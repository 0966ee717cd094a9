//! What a change of a record changed, for the audit: what was there, and what is there now.
//!
//! # Invariants
//! No password, secret or hash is told, only that there is another one.

use std::collections::BTreeMap;

use dd_proto::site::Site;

use super::agents::AgentRecord;
use super::file;

/// Hashes of what members sign in with, and what people call that.
const SECRET: [(&str, &str); 2] = [
    ("password-hash", "password"),
    ("wake-secret-hash", "wake-secret"),
];
/// Characters of one value.
const MOST: usize = 300;

/// The fields that differ, as `name old → new`; empty where none does.
pub(super) fn site(old: &Site, new: &Site) -> String {
    fields(&file::site_keys(old), &file::site_keys(new))
}

/// All fields of a site, as `name value`.
pub(super) fn whole(site: &Site) -> String {
    let keys = file::site_keys(site);
    let shown = keys.iter().map(|(key, value)| match secret(key) {
        Some(name) => format!("{name} set"),
        None => format!("{key} {}", short(value)),
    });
    shown.collect::<Vec<_>>().join("; ")
}

/// The same of an agent; all fields of one that is new.
pub(super) fn agent(old: Option<&AgentRecord>, new: &AgentRecord) -> String {
    let old = old.map(file::agent_fields).unwrap_or_default();
    fields(&old, &file::agent_fields(new))
}

fn fields(old: &BTreeMap<&str, String>, new: &BTreeMap<&str, String>) -> String {
    let mut names: Vec<&str> = old.keys().chain(new.keys()).copied().collect();
    names.sort_unstable();
    names.dedup();
    let differing = names.iter().filter_map(|name| {
        let (before, now) = (old.get(name), new.get(name));
        if before == now {
            return None;
        }
        Some(match (secret(name), before, now) {
            (Some(name), None, _) => format!("{name} set"),
            (Some(name), _, None) => format!("{name} taken away"),
            (Some(name), ..) => format!("{name} changed"),
            (None, before, now) => {
                let shown =
                    |value: Option<&String>| value.map_or("none".to_owned(), |it| short(it));
                format!("{name} {} → {}", shown(before), shown(now))
            }
        })
    });
    differing.collect::<Vec<_>>().join("; ")
}

fn secret(key: &str) -> Option<&'static str> {
    let secret = SECRET.iter().find(|(it, _)| *it == key);
    secret.map(|(_, name)| *name)
}

fn short(value: &str) -> String {
    match value.char_indices().nth(MOST) {
        None => value.to_owned(),
        Some((end, _)) => format!("{}…", &value[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inflow;

    #[test]
    fn a_change_is_told_with_what_was_there_before() {
        let old = inflow::closed(&"home.example".parse().unwrap());
        assert_eq!(site(&old, &old), "");
        let mut new = old.clone();
        new.limits.connections = 3;
        new.limits.quota_messages = Some(10);
        assert_eq!(
            site(&old, &new),
            "connections 1 → 3; quota-messages none → 10"
        );
        assert_eq!(
            site(&new, &old),
            "connections 3 → 1; quota-messages 10 → none"
        );
        new = old.clone();
        new.domains = (0..100)
            .map(|n| format!("number-{n}.example").parse().unwrap())
            .collect();
        assert!(site(&old, &new).chars().count() < 2 * MOST, "it is bounded");
    }

    #[test]
    fn secrets_and_their_hashes_are_never_told() {
        let mut old = inflow::closed(&"home.example".parse().unwrap());
        let mut new = old.clone();
        new.password_hash = Some("$argon2id$first".to_owned());
        new.wake_hash = Some([0x5a; 32]);
        assert_eq!(site(&old, &new), "password set; wake-secret set");
        old = new.clone();
        new.password_hash = Some("$argon2id$second".to_owned());
        new.wake_hash = None;
        let told = site(&old, &new);
        assert_eq!(told, "password changed; wake-secret taken away");
        for text in [told, whole(&old), whole(&new)] {
            assert!(!text.contains("argon2"), "{text}");
            assert!(!text.contains("5a5a"), "{text}");
        }
    }
}

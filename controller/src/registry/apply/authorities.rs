//! The authorities of a file beside those that there are.
//!
//! An export may be of any age, and nothing in it says of which. So it must not decide what counts as proof: an older
//! one would bring back a certificate that is revoked, or a key that has been given up.
//!
//! # Invariants
//! - Of two revocation lists of one issuer the newer one stays. Our own are made from what was issued and revoked.
//! - The certificates of an authority that is here stay as they are. An imported one's change only where its table says
//!   `replace = true`, which no export says; our own ones' change only by a roll-over.

use std::collections::BTreeMap;

use bytes::Bytes;
use dd_proto::fingerprint::Fingerprint;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::{Plan, check_count};
use crate::registry::Change;
use crate::registry::authorities::{self, Authority, MAX_AUTHORITIES, Origin};
use crate::registry::file::{AuthorityEntry, File, FileError};
use crate::registry::lists::{self, OfOneTime};

/// An authority of the file over the one that there is.
#[derive(Debug)]
struct Merged {
    authority: Authority,
    changes: Vec<String>,
    not_taken: Vec<String>,
    lacks: Vec<String>,
}

impl Change {
    pub(super) fn plan_authorities(
        &self,
        file: &File,
        now: Timestamp,
        plan: &mut Plan,
    ) -> Result<(), FileError> {
        let known = self.registry.authorities();
        let known: BTreeMap<_, _> = known.iter().map(|it| (it.name.clone(), it)).collect();
        check_count(&known, &file.authorities, "authorities", MAX_AUTHORITIES)?;
        for (name, entry) in &file.authorities {
            let error = |message: String| FileError {
                line: entry.line,
                message: format!("authority {name}: {message}"),
            };
            let old = known.get(name).copied();
            let merged = match old {
                Some(old) => over(old, &entry.value),
                None => new(name, &entry.value),
            };
            let mut merged = merged.map_err(error)?;
            let made = self.lists_where_keys_are(&merged.authority, now);
            if made != merged.authority.revocation_lists {
                merged.authority.revocation_lists = made;
                let told = "revocation lists made from what was issued and revoked";
                merged.changes.push(told.to_owned());
            }
            plan.authority(merged, old.map(|it| &**it));
        }
        let missing = known.keys().filter(|it| !file.authorities.contains_key(it));
        let missing = missing.map(|name| format!("authority {name}"));
        plan.applied.lacks.extend(missing);
        Ok(())
    }
}

impl Plan {
    fn authority(&mut self, merged: Merged, old: Option<&Authority>) {
        let shown = format!("authority {}", merged.authority.name);
        let of_it = |all: Vec<String>| {
            let shown = shown.clone();
            all.into_iter().map(move |it| format!("{shown}: {it}"))
        };
        self.applied.not_taken.extend(of_it(merged.not_taken));
        self.applied.lacks.extend(of_it(merged.lacks));
        let told = match merged.changes.is_empty() {
            true => shown.clone(),
            false => format!("{shown}: {}", merged.changes.join(", ")),
        };
        let unchanged = |old: &Authority| {
            old.certificates == merged.authority.certificates
                && old.revocation_lists == merged.authority.revocation_lists
                && old.origin == merged.authority.origin
        };
        match old {
            Some(old) if unchanged(old) => {
                self.applied.unchanged += 1;
                return;
            }
            Some(_) => self.applied.changed.push(told),
            None => self.applied.added.push(shown),
        }
        let what = match merged.changes.is_empty() {
            true => "applied from a file".to_owned(),
            false => format!("applied from a file: {}", merged.changes.join(", ")),
        };
        self.authorities.push((merged.authority, what));
    }
}

fn new(name: &dd_proto::name::AuthorityName, said: &AuthorityEntry) -> Result<Merged, String> {
    usable_certificates(&said.certificates, &[])?;
    usable_lists(&said.revocation_lists, &[], &said.certificates)?;
    Ok(Merged {
        authority: Authority {
            name: name.clone(),
            version: 0,
            certificates: said.certificates.clone(),
            revocation_lists: said.revocation_lists.clone(),
            origin: said.origin.clone(),
        },
        changes: said.certificates.iter().map(|it| named(it)).collect(),
        not_taken: Vec::new(),
        lacks: Vec::new(),
    })
}

fn over(old: &Authority, said: &AuthorityEntry) -> Result<Merged, String> {
    let is_own = |origin: &Origin| *origin != Origin::Imported;
    match (is_own(&old.origin), is_own(&said.origin)) {
        (true, false) => {
            return Err("it is our own here, and the file says an imported one of this name: give that another name".to_owned());
        }
        (false, true) => {
            return Err("it is an imported one here, and the file says our own of this name: remove it with `ddadm ca remove` first, or give the other one another name".to_owned());
        }
        _ => {}
    }
    let (mut changes, mut not_taken) = (Vec::new(), Vec::new());
    let certificates = match said.replace {
        true => {
            usable_certificates(&said.certificates, &old.certificates)?;
            said.certificates.clone()
        }
        false => old.certificates.clone(),
    };
    for added in named_without(&certificates, &old.certificates) {
        changes.push(format!("{added} added"));
    }
    for gone in named_without(&old.certificates, &certificates) {
        changes.push(format!("{gone} taken out"));
    }
    let how = match is_own(&old.origin) {
        true => "our own authorities change with `ddadm ca rollover` only",
        false => "to replace what is here by what the file says, add `replace = true` to its table",
    };
    for left in named_without(&said.certificates, &certificates) {
        not_taken.push(format!("{left}: {how}"));
    }
    let lacks = named_without(&certificates, &said.certificates);

    lists::check(&said.revocation_lists, &said.certificates).map_err(|it| it.to_string())?;
    let taken = said.revocation_lists.iter();
    let taken: Vec<Bytes> = taken
        .filter(|list| certificates.iter().any(|it| lists::is_of(list, it)))
        .cloned()
        .collect();
    usable_lists(&taken, &old.revocation_lists, &certificates)?;
    let newest = lists::newest(
        &old.revocation_lists,
        &taken,
        &certificates,
        OfOneTime::Stays,
    );
    let newest = newest.map_err(|it| it.to_string())?;
    for older in &newest.older {
        not_taken.push(format!(
            "the revocation list of `{}` of {}: the one of {} that is here stays",
            older.issuer, older.new, older.known
        ));
    }
    let gained = newest.lists.iter();
    let gained = gained.filter(|it| !old.revocation_lists.contains(it));
    for list in gained.filter_map(|der| lists::summary(der)) {
        changes.push(format!(
            "revocation list of `{}` of {}",
            list.issuer, list.this_update
        ));
    }
    if said.origin != old.origin {
        changes.push("permit".to_owned());
    }
    let authority = Authority {
        name: old.name.clone(),
        version: 0,
        certificates,
        revocation_lists: newest.lists,
        origin: said.origin.clone(),
    };
    Ok(Merged {
        authority,
        changes,
        not_taken,
        lacks,
    })
}

/// What is known already is not refused for being unusable: an export has to come back in; `status` tells of it.
fn usable_certificates(said: &[Bytes], known: &[Bytes]) -> Result<(), String> {
    authorities::check(said).map_err(|it| it.to_string())?;
    let new: Vec<Bytes> = without(said, known);
    match new.is_empty() {
        true => Ok(()),
        false => authorities::check_usable(&new).map_err(|it| it.to_string()),
    }
}

fn usable_lists(said: &[Bytes], known: &[Bytes], certificates: &[Bytes]) -> Result<(), String> {
    lists::check(said, certificates).map_err(|it| it.to_string())?;
    lists::check_usable(&without(said, known), certificates).map_err(|it| it.to_string())
}

fn without(all: &[Bytes], those: &[Bytes]) -> Vec<Bytes> {
    let left = all.iter().filter(|it| !those.contains(it));
    left.cloned().collect()
}

fn named_without(all: &[Bytes], those: &[Bytes]) -> Vec<String> {
    without(all, those).iter().map(|it| named(it)).collect()
}

/// As an administrator finds it in `ddadm ca show`.
fn named(certificate: &[u8]) -> String {
    format!(
        "certificate `{}` (SHA-256 {})",
        authorities::subject(certificate),
        Fingerprint(Sha256::digest(certificate).into())
    )
}

//! Administrators: who may call from another machine, and what.
//!
//! # Invariants
//! An administrator is its key, as an agent is: nobody else is let in under the name, and whoever was removed has no
//! rights from that moment on, however long its certificate lasts.
//!
//! # Not here
//! What each role may call: [`crate::api::roles`]. The identity in `<state_dir>/admin/`: [`crate::authority::admin`].

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use dd_proto::name::AdminName;
use jiff::Timestamp;
use prost::Message as _;

use super::record::{self, Damaged, damaged};
use super::{Change, ChangeError, LOCK, Registry, unknown};
use crate::authority::client::AgentKey;
use crate::store::Record;

const MAX_ADMINS: usize = 1000;
/// When an administrator was last seen is written at most once in this time.
const SEEN_AGAIN: Duration = Duration::from_secs(86_400);
const FORMAT: u32 = 1;

/// What an administrator may do; each may do what the ones before may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AdminRole {
    Reader,
    Operator,
    Admin,
}

const ROLES: [(&str, AdminRole); 3] = [
    ("reader", AdminRole::Reader),
    ("operator", AdminRole::Operator),
    ("admin", AdminRole::Admin),
];

/// Why a text is no role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected the role reader, operator or admin")]
pub struct NoRole;

impl FromStr for AdminRole {
    type Err = NoRole;

    fn from_str(text: &str) -> Result<Self, NoRole> {
        let found = ROLES.iter().find(|(name, _)| *name == text);
        found.map(|(_, role)| *role).ok_or(NoRole)
    }
}

impl fmt::Display for AdminRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = ROLES.iter().find(|(_, role)| role == self);
        f.write_str(found.map_or("", |(name, _)| *name))
    }
}

/// Where an administrator's key was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// By the controller itself, in `<state_dir>/admin/`.
    Here,
    /// By whoever asked for the certificate.
    Asked,
}

/// An administrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminRecord {
    pub name: AdminName,
    pub role: AdminRole,
    /// What it is known by. None: it was removed, which is remembered under the name of the controller's own identity
    /// only, so that no later start lets that in again.
    pub key: Option<AgentKey>,
    /// The end of the newest certificate.
    pub until: Timestamp,
    pub origin: Origin,
    /// To the day.
    pub seen: Option<Timestamp>,
}

/// Why the administrators stay as they are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    #[error(
        "there is an administrator `{0}` already: remove it first with `ddadm admin remove {0}`, or choose another name"
    )]
    Exists(AdminName),
    #[error(
        "the key is not the one of the administrator `{0}`: a renewal is for the same key; for another one use `ddadm admin add`"
    )]
    OtherKey(AdminName),
    #[error(
        "the name `{0}` is reserved: the audit has it for the local user who runs ddadm over the socket, and nobody could tell the two apart; choose another name"
    )]
    Reserved(AdminName),
}

/// The audit calls local users by their names, and this one administers every machine.
const LOCAL_ROOT: &str = "root";

/// When each administrator last called, since this start.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<HashMap<AdminName, Timestamp>>);

/// An administrator, as it is stored.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Row {
    #[prost(string, tag = "1")]
    role: String,
    /// SHA-256 of the public key; empty: it was removed.
    #[prost(bytes = "bytes", tag = "2")]
    key: Bytes,
    #[prost(int64, tag = "3")]
    until_ms: i64,
    /// Its key was made by the controller.
    #[prost(bool, tag = "4")]
    here: bool,
    /// 0: never.
    #[prost(int64, tag = "5")]
    seen_ms: i64,
    /// Always [`FORMAT`]: without it, a value whose bytes are lost would be an administrator.
    #[prost(uint32, tag = "15")]
    format: u32,
}

fn encode(admin: &AdminRecord) -> Bytes {
    Row {
        role: admin.role.to_string(),
        key: admin
            .key
            .map(|key| key.0.to_vec())
            .unwrap_or_default()
            .into(),
        until_ms: admin.until.as_millisecond(),
        here: admin.origin == Origin::Here,
        seen_ms: admin.seen.map_or(0, Timestamp::as_millisecond),
        format: FORMAT,
    }
    .encode_to_vec()
    .into()
}

pub(super) fn decode(record: &Record) -> Result<AdminRecord, Damaged> {
    let row = Row::decode(record.value.clone()).map_err(damaged)?;
    if row.format != FORMAT {
        return Err(damaged(format!("its format is {}", row.format)));
    }
    let at = |ms| Timestamp::from_millisecond(ms).map_err(damaged);
    Ok(AdminRecord {
        name: record.key.parse().map_err(damaged)?,
        role: row.role.parse().map_err(damaged)?,
        key: match row.key.is_empty() {
            true => None,
            false => Some(AgentKey(row.key[..].try_into().map_err(damaged)?)),
        },
        until: at(row.until_ms)?,
        origin: match row.here {
            true => Origin::Here,
            false => Origin::Asked,
        },
        seen: match row.seen_ms {
            0 => None,
            ms => Some(at(ms)?),
        },
    })
}

impl Registry {
    /// What is known under a name, also of one that was removed.
    pub fn admin_record(&self, name: &AdminName) -> Option<Arc<AdminRecord>> {
        self.read().admins.get(name).cloned()
    }

    /// Those that are not removed, with when each was last seen.
    pub fn admins(&self) -> Vec<(Arc<AdminRecord>, Option<Timestamp>)> {
        let read = self.read();
        let admins = read.admins.values().filter(|it| it.key.is_some());
        let seen = self.0.seen.0.lock().expect(LOCK);
        admins
            .map(|it| (it.clone(), seen.get(&it.name).copied().max(it.seen)))
            .collect()
    }

    /// What whoever has this key under this name may do now; None: nothing.
    pub fn role_of(&self, name: &AdminName, key: AgentKey, now: Timestamp) -> Option<AdminRole> {
        let read = self.read();
        let admin = read.admins.get(name)?;
        (admin.key == Some(key) && now <= admin.until).then_some(admin.role)
    }

    /// It has called. True where that is worth a record.
    pub fn admin_called(&self, name: &AdminName, now: Timestamp) -> bool {
        let mut seen = self.0.seen.0.lock().expect(LOCK);
        seen.insert(name.clone(), now);
        drop(seen);
        let written = self.admin_record(name).and_then(|admin| admin.seen);
        written.is_none_or(|at| now.duration_since(at).unsigned_abs() >= SEEN_AGAIN)
    }
}

impl Change {
    /// A new administrator, durable before a certificate is made for it.
    ///
    /// # Errors
    /// There is one of this name, or the name is the local root's.
    pub async fn add_admin(
        &self,
        admin: AdminRecord,
        who: &str,
        now: Timestamp,
    ) -> Result<(), ChangeError> {
        if admin.name.as_str() == LOCAL_ROOT {
            return Err(AdminError::Reserved(admin.name).into());
        }
        let known = self.registry.admin_record(&admin.name);
        if known.is_some_and(|known| known.key.is_some()) {
            return Err(AdminError::Exists(admin.name).into());
        }
        if self.registry.read().admins.len() >= MAX_ADMINS {
            return Err(ChangeError::TooMany {
                kind: "administrators",
                most: MAX_ADMINS,
            });
        }
        let what = format!(
            "administrator {} added with the role {}",
            admin.name, admin.role
        );
        self.put_admin(admin).await?;
        self.audit.record(now, who, &what);
        Ok(())
    }

    /// Its rights end, and whatever it is calling ends, when this returns.
    ///
    /// # Errors
    /// There is no such administrator.
    pub async fn remove_admin(
        &self,
        name: &str,
        who: &str,
        now: Timestamp,
    ) -> Result<(), ChangeError> {
        let parsed: Option<AdminName> = name.parse().ok();
        let admin = parsed.and_then(|name| self.registry.admin_record(&name));
        let admin = admin.filter(|admin| admin.key.is_some());
        let admin = admin.ok_or_else(|| unknown("administrator", name))?;
        // The controller's own identity may still lie in the state directory, whoever had its name last.
        if admin.name == crate::authority::admin::name() {
            let removed = AdminRecord {
                key: None,
                origin: Origin::Here,
                ..(*admin).clone()
            };
            self.put_admin(removed).await?;
        } else {
            self.store
                .put(record::ADMIN, admin.name.as_str(), None)
                .await?;
            self.registry.write().admins.remove(&admin.name);
        }
        let what = format!("administrator {} removed", admin.name);
        self.audit.record(now, who, &what);
        Ok(())
    }

    /// A certificate that ends later is about to be made for the same key.
    ///
    /// # Errors
    /// There is no such administrator, or its key is another one.
    pub async fn renew_admin(
        &self,
        name: &AdminName,
        key: AgentKey,
        until: Timestamp,
        who: &str,
        now: Timestamp,
    ) -> Result<(), ChangeError> {
        let admin = self.registry.admin_record(name);
        let admin = admin.filter(|admin| admin.key.is_some());
        let admin = admin.ok_or_else(|| unknown("administrator", name))?;
        if admin.key != Some(key) {
            return Err(AdminError::OtherKey(name.clone()).into());
        }
        self.put_admin(AdminRecord {
            until,
            ..(*admin).clone()
        })
        .await?;
        let what = format!("the certificate of administrator {name} was renewed until {until}");
        self.audit.record(now, who, &what);
        Ok(())
    }

    /// Writes down the day on which an administrator called.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn admin_seen(&self, name: &AdminName, now: Timestamp) -> Result<(), ChangeError> {
        match self.registry.admin_record(name) {
            Some(admin) if admin.key.is_some() => {
                let seen = AdminRecord {
                    seen: Some(now),
                    ..(*admin).clone()
                };
                self.put_admin(seen).await
            }
            _ => Ok(()),
        }
    }

    /// The controller's own identity takes the place of what was known of it. False: something else is known by now, such
    /// as that it was removed.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) async fn register_own_admin(
        &self,
        admin: AdminRecord,
        known: Option<&AdminRecord>,
    ) -> Result<bool, ChangeError> {
        if self.registry.admin_record(&admin.name).as_deref() != known {
            return Ok(false);
        }
        self.put_admin(admin).await?;
        Ok(true)
    }

    /// Whatever was known under the name is replaced.
    async fn put_admin(&self, admin: AdminRecord) -> Result<(), ChangeError> {
        let value = encode(&admin);
        let name = admin.name.clone();
        self.store
            .put(record::ADMIN, name.as_str(), Some(value))
            .await?;
        let mut snapshot = self.registry.write();
        snapshot.damaged.remove(&(record::ADMIN, name.to_string()));
        snapshot.admins.insert(name, Arc::new(admin));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admin() -> AdminRecord {
        AdminRecord {
            name: "anna".parse().unwrap(),
            role: AdminRole::Operator,
            key: Some(AgentKey([3; 32])),
            until: Timestamp::from_second(1_800_000_000).unwrap(),
            origin: Origin::Asked,
            seen: None,
        }
    }

    #[test]
    fn an_administrator_comes_back_as_it_was_stored() {
        let own = AdminRecord {
            origin: Origin::Here,
            seen: Some(Timestamp::from_second(1_700_000_000).unwrap()),
            role: AdminRole::Admin,
            ..admin()
        };
        let removed = AdminRecord {
            key: None,
            ..own.clone()
        };
        for admin in [admin(), own, removed] {
            let stored = Record {
                key: "anna".to_owned(),
                version: 1,
                value: encode(&admin),
            };
            assert_eq!(decode(&stored), Ok(admin));
        }
    }

    #[test]
    fn a_damaged_value_is_no_administrator() {
        for value in [Bytes::new(), Bytes::from_static(&[0x0a, 0x30, 0x01])] {
            let stored = Record {
                key: "anna".to_owned(),
                version: 1,
                value,
            };
            assert!(decode(&stored).is_err());
        }
    }
}

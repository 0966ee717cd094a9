//! `ddadm admin …`: who may administer from another machine.

use std::path::{Path, PathBuf};

use clap::ValueEnum as _;
use dd_proto::name::AdminName;
use dd_proto::{pb, pem};
use serde::Serialize;

use crate::args::{AdminVerb, Role};
use crate::client::Controller;
use crate::failure::Failure;
use crate::files;
use crate::identity::{self, AUTHORITY, CERTIFICATE, KEY, Life};
use crate::output::{Answer, Page, Table, time, time_shown};

pub(crate) async fn run(verb: AdminVerb, controller: &Controller) -> Result<Answer, Failure> {
    match verb {
        AdminVerb::Add {
            name,
            role,
            csr,
            out,
        } => {
            let out = unused(&out)?;
            let (key, csr) = match csr {
                Some(file) => (None, files::request(&file)?),
                None => {
                    let (key, csr) = identity::make()?;
                    (Some(key), csr)
                }
            };
            let request = pb::AddAdminRequest {
                name: name.to_string(),
                role: word(role),
                csr: csr.into(),
            };
            let added = controller.admins().await?.add(request).await;
            let credentials = controller.one(added)?;
            added_answer(&name, role, &Files::write(&out, key, &credentials)?)
        }
        AdminVerb::List => {
            let all = controller
                .admins()
                .await?
                .list(pb::ListAdminsRequest {})
                .await;
            Ok(list(controller.all(all).await?))
        }
        AdminVerb::Remove { name } => {
            let name = name.to_string();
            let request = pb::AdminName { name: name.clone() };
            let removed = controller.admins().await?.remove(request).await;
            controller.one(removed)?;
            let text = format!("{name}: removed; its certificate lets it do nothing any more\n");
            Ok(Answer::new(&Removed { name }, text))
        }
        AdminVerb::Renew => {
            let not_after = controller.renew().await?;
            let not_after_ms = not_after.map_or(0, jiff::Timestamp::as_millisecond);
            let text = format!("renewed; valid until {}\n", time_shown(not_after_ms));
            let not_after = time(not_after_ms);
            Ok(Answer::new(&Renewed { not_after }, text))
        }
    }
}

fn word(role: Role) -> String {
    let value = role.to_possible_value();
    value.map(|it| it.get_name().to_owned()).unwrap_or_default()
}

/// A directory that holds no identity: another one's key is not written over.
fn unused(out: &Path) -> Result<PathBuf, Failure> {
    let out = files::directory(out)?;
    for name in [KEY, CERTIFICATE] {
        if out.join(name).exists() {
            return Err(Failure::Refused(format!(
                "{} holds an identity already: choose another directory for --out",
                out.display()
            )));
        }
    }
    Ok(out)
}

/// What was written.
#[derive(Debug, Serialize)]
struct Files {
    /// None where the key is the administrator's own.
    key: Option<PathBuf>,
    certificate: PathBuf,
    authority: PathBuf,
    #[serde(skip)]
    not_after_ms: i64,
}

impl Files {
    /// The key first: a certificate without its key is of no use.
    fn write(
        out: &Path,
        key: Option<String>,
        credentials: &pb::Credentials,
    ) -> Result<Self, Failure> {
        let key = match key {
            None => None,
            Some(key) => {
                let path = out.join(KEY);
                files::write(&path, &key, 0o600)?;
                Some(path)
            }
        };
        let authority = out.join(AUTHORITY);
        files::write(&authority, &pem::certificate(&credentials.authority), 0o600)?;
        let certificate = out.join(CERTIFICATE);
        let chain = identity::chain(credentials);
        files::write(&certificate, &chain, 0o600)?;
        let life = Life::of(chain.as_bytes());
        Ok(Self {
            key,
            certificate,
            authority,
            not_after_ms: life.map_or(0, |life| life.end.as_millisecond()),
        })
    }
}

#[derive(Debug, Serialize)]
struct Added<'a> {
    name: String,
    role: String,
    not_after: Option<String>,
    files: &'a Files,
}

fn added_answer(name: &AdminName, role: Role, files: &Files) -> Result<Answer, Failure> {
    let shown = |path: &Path| path.display().to_string();
    let mut page = Page::new(&format!("{name} ({})", word(role)));
    page.line("Valid until", &time_shown(files.not_after_ms));
    match &files.key {
        Some(key) => page.line("Key", &shown(key)),
        None => page.line(
            "Key",
            &format!("the one of the request: put it there as {KEY}"),
        ),
    }
    page.line("Certificate", &shown(&files.certificate));
    page.line("Authority's", &shown(&files.authority));
    let directory = files.certificate.parent().unwrap_or(&files.certificate);
    page.line(
        "Used with",
        &format!(
            "ddadm --controller https://…:7443 --identity {}",
            shown(directory)
        ),
    );
    let view = Added {
        name: name.to_string(),
        role: word(role),
        not_after: time(files.not_after_ms),
        files,
    };
    Ok(Answer::new(&view, page.into_text()))
}

#[derive(Debug, Serialize)]
struct Admin {
    name: String,
    role: String,
    not_after: Option<String>,
    last_seen: Option<String>,
}

fn list(admins: Vec<pb::AdminStatus>) -> Answer {
    let mut table = Table::new(&["NAME", "ROLE", "VALID UNTIL", "LAST SEEN"]);
    for it in &admins {
        table.row([
            it.name.clone(),
            it.role.clone(),
            time_shown(it.not_after_ms),
            time_shown(it.last_seen_ms),
        ]);
    }
    let text = table.text("nobody administers from elsewhere: `ddadm admin add NAME --out DIR`");
    let view = admins.into_iter().map(|it| Admin {
        name: it.name,
        role: it.role,
        not_after: time(it.not_after_ms),
        last_seen: time(it.last_seen_ms),
    });
    Answer::new(&view.collect::<Vec<_>>(), text)
}

#[derive(Debug, Serialize)]
struct Removed {
    name: String,
}

#[derive(Debug, Serialize)]
struct Renewed {
    not_after: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn administrators_are_a_row_each() {
        let admin = |name: &str, role: &str, last_seen_ms| pb::AdminStatus {
            name: name.into(),
            role: role.into(),
            not_after_ms: 1_807_776_000_000,
            last_seen_ms,
        };
        let all = vec![
            admin("admin", "admin", 1_800_000_000_000),
            admin("helpdesk", "reader", 0),
        ];
        insta::assert_snapshot!("administrators", list(all).both());
        insta::assert_snapshot!("no_administrators", list(vec![]).both());
    }

    #[test]
    fn a_new_administrator_is_told_where_its_files_are_and_how_they_are_used() {
        let files = Files {
            key: Some("/home/anna/dd/admin.key".into()),
            certificate: "/home/anna/dd/admin.pem".into(),
            authority: "/home/anna/dd/authority.pem".into(),
            not_after_ms: 1_807_776_000_000,
        };
        let anna = "anna".parse().unwrap();
        let answer = added_answer(&anna, Role::Operator, &files).unwrap();
        insta::assert_snapshot!("a_new_administrator", answer.both());
    }

    #[test]
    fn an_identity_is_not_written_over() {
        let directory = tempfile::tempdir().unwrap();
        assert!(unused(directory.path()).is_ok());
        std::fs::write(directory.path().join(KEY), "a key").unwrap();
        let refused = unused(directory.path()).unwrap_err().to_string();
        assert!(refused.contains("holds an identity already"), "{refused}");
    }
}

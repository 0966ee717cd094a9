//! `ddadm ca …`.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use dd_proto::pb;
use dd_proto::pem::{self, Kind};
use serde::Serialize;

use crate::args::CaVerb;
use crate::client::Controller;
use crate::failure::Failure;
use crate::output::{Answer, Page, Table, present, time, time_shown};

/// A file with more than this holds something else.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// RFC 5280 §4.2.1.10: without name constraints.
const ANY_NAME: &str = "it may certify any name: whoever trusts it trusts it for all names; `ddadm ca create NAME --permit DOMAIN` limits it to a domain and those below, and cannot be added later";

pub(crate) async fn run(verb: CaVerb, controller: &Controller) -> Result<Answer, Failure> {
    match verb {
        CaVerb::Import {
            name,
            certificate,
            crl,
        } => {
            let request = pb::ImportAuthorityRequest {
                name: name.to_string(),
                certificates: all(&certificate, Kind::Certificate)?,
                revocation_lists: all(&crl, Kind::RevocationList)?,
            };
            let imported = controller.authorities().await?.import(request).await;
            Ok(show(controller.one(imported)?))
        }
        CaVerb::Create { name, permit } => {
            let request = pb::CreateAuthorityRequest {
                name: name.to_string(),
                permit: permit.iter().map(ToString::to_string).collect(),
            };
            let created = controller.authorities().await?.create(request).await;
            Ok(created_shown(controller.one(created)?))
        }
        CaVerb::Remove { name } => {
            let name = name.to_string();
            let request = pb::AuthorityName { name: name.clone() };
            let removed = controller.authorities().await?.remove(request).await;
            controller.one(removed)?;
            let text = format!("{name}: removed\n");
            Ok(Answer::new(&Removed { name }, text))
        }
        CaVerb::Rollover {
            name,
            finish,
            force,
        } => {
            let request = pb::RolloverRequest {
                name: name.to_string(),
                finish,
                force,
            };
            let rolled = controller.authorities().await?.rollover(request).await;
            Ok(show(controller.one(rolled)?))
        }
        CaVerb::Crl { name, import } if import.is_empty() => {
            let name = name.to_string();
            let authority = controller
                .authorities()
                .await?
                .show(pb::AuthorityName { name })
                .await;
            Ok(lists(controller.one(authority)?))
        }
        CaVerb::Crl { name, import } => {
            let request = pb::ImportAuthorityRequest {
                name: name.to_string(),
                certificates: Vec::new(),
                revocation_lists: all(&import, Kind::RevocationList)?,
            };
            let imported = controller.authorities().await?.import(request).await;
            Ok(show(controller.one(imported)?))
        }
        CaVerb::List => {
            let all = controller
                .authorities()
                .await?
                .list(pb::ListAuthoritiesRequest {})
                .await;
            Ok(list(controller.all(all).await?))
        }
        CaVerb::Show { name } => {
            let request = pb::AuthorityName {
                name: name.to_string(),
            };
            let authority = controller.authorities().await?.show(request).await;
            Ok(show(controller.one(authority)?))
        }
    }
}

/// Everything of a kind that the files hold.
fn all(files: &[PathBuf], kind: Kind) -> Result<Vec<Bytes>, Failure> {
    let mut all = Vec::new();
    for file in files {
        let found = pem::read(&read(file)?, kind)
            .map_err(|error| Failure::Refused(format!("{}: {error}", file.display())))?;
        all.extend(found.into_iter().map(Bytes::from));
    }
    Ok(all)
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut content = Vec::new();
    std::fs::File::open(file)
        .and_then(|open| open.take(MAX_FILE_BYTES + 1).read_to_end(&mut content))
        .map_err(|error| Failure::Refused(format!("{} cannot be read: {error}", file.display())))?;
    match content.len() as u64 > MAX_FILE_BYTES {
        true => Err(Failure::Refused(format!(
            "{} is larger than a mebibyte: expected certificates",
            file.display()
        ))),
        false => Ok(content),
    }
}

#[derive(Debug, Serialize)]
struct Authority {
    name: String,
    version: u64,
    /// Ours, or imported.
    own: bool,
    permit: Vec<String>,
    certificates: Vec<Certificate>,
    revocation_lists: Vec<List>,
}

#[derive(Debug, Serialize)]
struct Removed {
    name: String,
}

#[derive(Debug, Serialize)]
struct List {
    issuer: String,
    number: Option<String>,
    this_update: Option<String>,
    next_update: Option<String>,
    revoked: u64,
}

#[derive(Debug, Serialize)]
struct Certificate {
    subject: String,
    sha256: String,
    not_before: Option<String>,
    not_after: Option<String>,
    /// Where the file of its key should be and is not.
    missing_key: Option<String>,
}

fn view(authority: pb::Authority) -> Authority {
    Authority {
        name: authority.name,
        version: authority.version,
        own: authority.own,
        permit: authority.permit,
        revocation_lists: authority
            .revocation_lists
            .into_iter()
            .map(|it| List {
                issuer: it.issuer,
                number: present(it.number),
                this_update: time(it.this_update_ms),
                next_update: time(it.next_update_ms),
                revoked: it.revoked,
            })
            .collect(),
        certificates: authority
            .certificates
            .into_iter()
            .map(|it| Certificate {
                subject: it.subject,
                sha256: it.sha256,
                not_before: time(it.not_before_ms),
                not_after: time(it.not_after_ms),
                missing_key: present(it.missing_key),
            })
            .collect(),
    }
}

/// What a name constraint is for is best said while there is no certificate of it yet.
fn created_shown(authority: pb::Authority) -> Answer {
    let mut page = page(&authority);
    if authority.permit.is_empty() {
        page.line("Warning", ANY_NAME);
    }
    Answer::new(&view(authority), page.into_text())
}

fn show(authority: pb::Authority) -> Answer {
    let page = page(&authority);
    Answer::new(&view(authority), page.into_text())
}

fn page(authority: &pb::Authority) -> Page {
    let mut page = Page::new(&format!(
        "{} (version {})",
        authority.name, authority.version
    ));
    let missing = authority
        .certificates
        .iter()
        .filter(|it| !it.missing_key.is_empty());
    let missing: Vec<String> = missing
        .map(|it| format!("missing: {}; restore it from a backup", it.missing_key))
        .collect();
    match (authority.own, missing.is_empty()) {
        (false, _) => page.line("Key", "elsewhere"),
        (true, true) => page.line("Key", "here"),
        (true, false) => page.lines("Key", missing.iter().map(String::as_str)),
    }
    page.lines("Permitted", authority.permit.iter().map(String::as_str));
    for it in &authority.certificates {
        page.line("Certificate", &it.subject);
        page.line("  sha256", &it.sha256);
        page.line("  valid from", &time_shown(it.not_before_ms));
        page.line("  valid until", &time_shown(it.not_after_ms));
    }
    for it in &authority.revocation_lists {
        page.line("Revocation list", &it.issuer);
        page.line("  of", &time_shown(it.this_update_ms));
        page.line("  next until", &time_shown(it.next_update_ms));
        page.line("  revoked", &it.revoked.to_string());
    }
    page
}

/// For people as PEM, which is what goes into files.
fn lists(authority: pb::Authority) -> Answer {
    let pem = |it: &pb::RevocationList| pem::revocation_list(&it.der);
    let text = authority.revocation_lists.iter().map(pem).collect();
    Answer::new(&view(authority).revocation_lists, text)
}

/// One row for each certificate: an authority has two while it rolls over.
fn list(authorities: Vec<pb::Authority>) -> Answer {
    let mut table = Table::new(&["NAME", "SUBJECT", "VALID UNTIL", "SHA256"]);
    for authority in &authorities {
        for it in &authority.certificates {
            table.row([
                authority.name.clone(),
                it.subject.clone(),
                time_shown(it.not_after_ms),
                it.sha256.clone(),
            ]);
        }
    }
    let text = table.text("no authority: `ddadm ca import NAME --certificate FILE` takes one in");
    Answer::new(&authorities.into_iter().map(view).collect::<Vec<_>>(), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority() -> pb::Authority {
        pb::Authority {
            name: "member-ca".into(),
            version: 7,
            certificates: vec![pb::AuthorityCertificate {
                der: vec![0x30].into(),
                subject: "CN=member-ca\x1b]0;x".into(),
                sha256: "ab".repeat(32),
                not_before_ms: 1_800_000_000_000,
                not_after_ms: 1_900_000_000_000,
                missing_key: String::new(),
            }],
            revocation_lists: vec![pb::RevocationList {
                der: vec![0x30].into(),
                issuer: "CN=member-ca".into(),
                number: "3".into(),
                this_update_ms: 1_800_000_000_000,
                next_update_ms: 1_802_000_000_000,
                revoked: 2,
            }],
            own: true,
            permit: vec!["members.example".into()],
        }
    }

    #[test]
    fn an_authority_that_may_certify_any_name_is_warned_of_when_it_is_made() {
        let mut any = authority();
        any.permit.clear();
        let says = |it: Answer| it.both().contains("--permit DOMAIN");
        assert!(says(created_shown(any.clone())));
        assert!(!says(created_shown(authority())));
        assert!(!says(show(any)), "it is too late to say it again");
    }

    #[test]
    fn an_authority_is_its_certificates() {
        insta::assert_snapshot!(show(authority()).both());
        let mut lost = authority();
        lost.certificates[0].missing_key = "/var/lib/dd-controller/authorities/ab.key".into();
        insta::assert_snapshot!("an_authority_without_its_key", show(lost).both());
        insta::assert_snapshot!("authorities", list(vec![authority()]).both());
        insta::assert_snapshot!("no_authorities", list(vec![]).both());
    }
}

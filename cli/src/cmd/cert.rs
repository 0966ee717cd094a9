//! `ddadm cert …`.

use std::path::{Path, PathBuf};

use dd_proto::name::SiteName;
use dd_proto::{mta, pb, pem};
use serde::Serialize;

use crate::args::CertVerb;
use crate::client::Controller;
use crate::failure::Failure;
use crate::files::{directory, request, write};
use crate::output::{Answer, Page, Table, time, time_shown};

pub(crate) async fn run(verb: CertVerb, controller: &Controller) -> Result<Answer, Failure> {
    let mut certificates = controller.certificates().await?;
    match verb {
        CertVerb::Issue {
            site,
            csr,
            days,
            out,
        } => {
            let request = pb::IssueCertificateRequest {
                site: site.to_string(),
                csr: csr
                    .as_deref()
                    .map(request)
                    .transpose()?
                    .unwrap_or_default()
                    .into(),
                days: days.unwrap_or(0),
            };
            let out = directory(&out)?;
            let issued = controller.one(certificates.issue(request).await)?;
            let files = Files::write(&out, &site, &issued)?;
            Ok(issued_answer(&issued, &files))
        }
        CertVerb::List { site } => {
            let site = site.map(|site| site.to_string()).unwrap_or_default();
            let all = certificates
                .list(pb::ListCertificatesRequest { site })
                .await;
            Ok(list(controller.all(all).await?))
        }
        CertVerb::Revoke { serial } => {
            let revoked = certificates.revoke(pb::CertificateSerial { serial }).await;
            Ok(revoked_answer(controller.one(revoked)?))
        }
    }
}

/// What was written.
#[derive(Debug, Serialize)]
struct Files {
    /// None where the key is the member's own.
    key: Option<PathBuf>,
    certificate: PathBuf,
    ca: PathBuf,
}

impl Files {
    /// The key first: a certificate without its key is of no use. Each file is replaced whole.
    fn write(out: &Path, site: &SiteName, issued: &pb::IssuedCertificate) -> Result<Self, Failure> {
        let pems = |all: &[bytes::Bytes]| all.iter().map(|der| pem::certificate(der)).collect();
        let chain: String = pems(&issued.chain);
        let anchors: String = pems(&issued.anchors);
        let key = match issued.private_key.is_empty() {
            true => None,
            false => {
                let path = out.join(format!("{site}.key"));
                write(&path, &pem::private_key(&issued.private_key), 0o600)?;
                Some(path)
            }
        };
        let certificate = out.join(format!("{site}.pem"));
        write(&certificate, &chain, 0o644)?;
        let ca = out.join("ca.pem");
        write(&ca, &anchors, 0o644)?;
        Ok(Self {
            key,
            certificate,
            ca,
        })
    }
}

#[derive(Debug, Serialize)]
struct IssuedView<'a> {
    #[serde(flatten)]
    certificate: Certificate,
    files: &'a Files,
    configuration: mta::Lines,
}

#[derive(Debug, Serialize)]
struct Certificate {
    serial: String,
    site: String,
    authority: String,
    name: String,
    not_before: Option<String>,
    not_after: Option<String>,
    revoked: Option<String>,
    /// The key that signed it is gone.
    retired: bool,
    sha256: String,
    spki_sha256: String,
}

impl From<pb::CertificateSummary> for Certificate {
    fn from(it: pb::CertificateSummary) -> Self {
        Self {
            serial: it.serial,
            site: it.site,
            authority: it.authority,
            name: it.name,
            not_before: time(it.not_before_ms),
            not_after: time(it.not_after_ms),
            revoked: time(it.revoked_ms),
            retired: it.retired,
            sha256: it.sha256,
            spki_sha256: it.spki_sha256,
        }
    }
}

fn issued_answer(issued: &pb::IssuedCertificate, files: &Files) -> Answer {
    let summary = issued.summary.clone().unwrap_or_default();
    let mut page = Page::new(&format!("{} for {}", summary.serial, summary.name));
    page.line("Site", &summary.site);
    page.line("Authority", &summary.authority);
    page.line("Valid until", &time_shown(summary.not_after_ms));
    page.line("SHA256", &summary.sha256);
    let shown = |path: &PathBuf| path.display().to_string();
    if let Some(key) = &files.key {
        page.line("Key", &shown(key));
    }
    page.line("Certificate", &shown(&files.certificate));
    page.line("Authority's", &shown(&files.ca));
    let key = files
        .key
        .as_ref()
        .map_or_else(|| "/the/key/of/the/request.key".to_owned(), shown);
    let directory = files.ca.parent().unwrap_or(&files.ca);
    let lines = mta::Lines::new(
        &summary.name,
        mta::Files {
            directory: &directory.display().to_string(),
            key: &key,
            certificate: &shown(&files.certificate),
            ca: &shown(&files.ca),
        },
    );
    let text = format!("{}\n{}", page.into_text(), lines.text());
    let view = IssuedView {
        certificate: summary.into(),
        files,
        configuration: lines,
    };
    Answer::new(&view, text)
}

fn list(all: Vec<pb::CertificateSummary>) -> Answer {
    let mut table = Table::new(&[
        "SERIAL",
        "SITE",
        "NAME",
        "AUTHORITY",
        "VALID UNTIL",
        "REVOKED",
    ]);
    for it in &all {
        table.row([
            it.serial.clone(),
            it.site.clone(),
            it.name.clone(),
            it.authority.clone(),
            time_shown(it.not_after_ms),
            match (it.revoked_ms, it.retired) {
                (0, true) => "key retired".into(),
                (revoked, _) => time_shown(revoked),
            },
        ]);
    }
    let text = table.text("no certificate: `ddadm cert issue SITE --out DIR` issues one");
    let all: Vec<Certificate> = all.into_iter().map(Certificate::from).collect();
    Answer::new(&all, text)
}

fn revoked_answer(summary: pb::CertificateSummary) -> Answer {
    let text = format!(
        "{} of {}: revoked since {}; refused from the next handshake on\n",
        summary.serial,
        summary.site,
        time_shown(summary.revoked_ms)
    );
    Answer::new(&Certificate::from(summary), text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn issued(key: &[u8]) -> pb::IssuedCertificate {
        pb::IssuedCertificate {
            summary: Some(pb::CertificateSummary {
                serial: "4a01".into(),
                site: "home".into(),
                authority: "member-ca".into(),
                name: "home.example".into(),
                not_before_ms: 1_800_000_000_000,
                not_after_ms: 1_831_536_000_000,
                revoked_ms: 0,
                sha256: "ab".repeat(32),
                spki_sha256: "cd".repeat(32),
                retired: false,
            }),
            chain: vec![vec![1].into(), vec![2].into()],
            anchors: vec![vec![2].into()],
            private_key: key.to_vec().into(),
        }
    }

    #[test]
    fn what_is_issued_is_in_files_and_in_lines_to_paste() {
        let directory = tempfile::tempdir().unwrap();
        let site: SiteName = "home".parse().unwrap();
        let files = Files::write(directory.path(), &site, &issued(&[9])).unwrap();
        let key = files.key.clone().unwrap();
        let mode = std::fs::metadata(&key).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        let chain = std::fs::read_to_string(&files.certificate).unwrap();
        assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 2);
        // Again, over the old ones.
        Files::write(directory.path(), &site, &issued(&[9])).unwrap();
        let stable = Files {
            key: Some("/etc/mail/home.key".into()),
            certificate: "/etc/mail/home.pem".into(),
            ca: "/etc/mail/ca.pem".into(),
        };
        insta::assert_snapshot!(issued_answer(&issued(&[9]), &stable).both());
        let own = Files::write(directory.path(), &site, &issued(&[])).unwrap();
        assert!(own.key.is_none());
    }

    #[test]
    fn certificates_are_a_row_each() {
        let mut revoked = issued(&[]).summary.unwrap();
        revoked.revoked_ms = 1_800_000_100_000;
        let retired = pb::CertificateSummary {
            retired: true,
            ..issued(&[]).summary.unwrap()
        };
        insta::assert_snapshot!(
            "certificates",
            list(vec![issued(&[]).summary.unwrap(), revoked.clone(), retired]).both()
        );
        insta::assert_snapshot!("no_certificates", list(vec![]).both());
        insta::assert_snapshot!("revoked", revoked_answer(revoked).both());
    }
}

//! What the way to the smarthost is, and by what its certificate is judged: the configuration, its files read.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use dd_pki::anchored::Anchored;
use dd_proto::domain::Domain;
use dd_proto::pem::{self, Kind, PemError};
use dd_proto::site::{Certified, HostName, Proof, Site, TlsBegins, Way};
use dd_proto::smtp::auth::{Login, LoginError};

use crate::config::{Notify, SmarthostTls};
use crate::small_file;

/// By this name the plan says where its anchors are from. It is in no registry, as the site is.
const AUTHORITY: &str = "smarthost-ca";

/// Why the smarthost cannot be used as it is configured. Each says its cause itself, once.
#[derive(Debug, thiserror::Error)]
pub enum TermsError {
    #[error("{path} cannot be read: {cause}", path = path.display())]
    File { path: PathBuf, cause: io::Error },
    #[error("{path} is not the password of `smarthost_user`: {cause}", path = path.display())]
    Password { path: PathBuf, cause: LoginError },
    #[error("{path}: {cause}", path = path.display())]
    Authority { path: PathBuf, cause: PemError },
    #[error("{path}: none of the certificates can be used: expected those of the authority that issued the smarthost's", path = path.display())]
    Unusable { path: PathBuf },
}

/// As a site has them.
#[derive(Debug)]
pub struct Terms {
    proof: Proof,
    way: Way,
    /// DER.
    pub anchors: Vec<Bytes>,
}

impl Terms {
    /// # Errors
    /// A file cannot be read, or is not what it should be.
    pub fn read(notify: &Notify) -> Result<Self, TermsError> {
        let anchors = match &notify.smarthost_ca {
            Some(path) => certificates(path)?,
            None => Vec::new(),
        };
        let login = match (&notify.smarthost_user, &notify.smarthost_password_file) {
            (Some(user), Some(path)) => Some(login(user, path)?),
            _ => None,
        };
        let tls = match (notify.tls(), notify.tls_on_connect()) {
            (SmarthostTls::Never, _) => TlsBegins::Never,
            (_, on_connect) => TlsBegins::of_flag(on_connect),
        };
        let host = notify.smarthost.as_ref().map(|it| &it.host);
        let proof = match (notify.tls(), host) {
            (SmarthostTls::Verify, Some(HostName::Dns(name))) => {
                by_certificate(name, notify.smarthost_ca.is_some())
            }
            _ => Proof::Configured,
        };
        let way = Way {
            tls,
            login,
            ..Way::default()
        };
        Ok(Self {
            proof,
            way,
            anchors,
        })
    }

    /// The site with these.
    pub fn of(&self, site: Site) -> Site {
        Site {
            proof: self.proof.clone(),
            way: self.way.clone(),
            ..site
        }
    }
}

fn by_certificate(name: &Domain, has_authority: bool) -> Proof {
    let name = name.clone();
    match has_authority {
        true => Proof::Certificate(Certified {
            authority: AUTHORITY.parse().expect("it is a name"),
            name,
        }),
        false => Proof::Public { name },
    }
}

/// The password is the file's content; the line end that editors write is no part of it.
fn login(user: &str, path: &Path) -> Result<Login, TermsError> {
    let content = bytes_of(path)?;
    let unreadable = |cause| TermsError::File {
        path: path.to_owned(),
        cause,
    };
    let text = String::from_utf8(content)
        .map_err(|_| unreadable(io::Error::other("it is no text in UTF-8")))?;
    let password = text.strip_suffix('\n').unwrap_or(&text);
    let password = password.strip_suffix('\r').unwrap_or(password);
    Login::new(user.to_owned(), password.to_owned()).map_err(|cause| TermsError::Password {
        path: path.to_owned(),
        cause,
    })
}

fn certificates(path: &Path) -> Result<Vec<Bytes>, TermsError> {
    let content = bytes_of(path)?;
    let read = pem::read(&content, Kind::Certificate);
    let read = read.map_err(|cause| TermsError::Authority {
        path: path.to_owned(),
        cause,
    })?;
    let anchors: Vec<_> = read.iter().map(|der| der.clone().into()).collect();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    match Anchored::new(&anchors, &[], &provider) {
        Ok(_) => Ok(read.into_iter().map(Bytes::from).collect()),
        Err(_) => Err(TermsError::Unusable {
            path: path.to_owned(),
        }),
    }
}

fn bytes_of(path: &Path) -> Result<Vec<u8>, TermsError> {
    small_file::read(path).map_err(|cause| TermsError::File {
        path: path.to_owned(),
        cause,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notify(directory: &Path, password: &str) -> Notify {
        let file = directory.join("password");
        std::fs::write(&file, password).unwrap();
        Notify {
            smarthost: Some("smtp.example.net:587".parse().unwrap()),
            smarthost_user: Some("us".to_owned()),
            smarthost_password_file: Some(file),
            ..Notify::default()
        }
    }

    #[test]
    fn with_a_user_the_certificate_is_the_proof_and_the_password_is_the_line_of_the_file() {
        let directory = tempfile::tempdir().unwrap();
        for content in [
            "s3cret with blanks ",
            "s3cret with blanks \n",
            "s3cret with blanks \r\n",
        ] {
            let terms = Terms::read(&notify(directory.path(), content)).unwrap();
            let name = "smtp.example.net".parse().unwrap();
            assert_eq!(terms.proof, Proof::Public { name });
            let login = terms.way.login.as_ref().unwrap();
            assert_eq!(
                (login.user(), login.password()),
                ("us", "s3cret with blanks ")
            );
            assert!(!format!("{terms:?}").contains("s3cret"));
        }
    }

    #[test]
    fn what_is_no_password_or_no_authority_is_refused_with_its_file() {
        let directory = tempfile::tempdir().unwrap();
        for content in ["", "\n", "a\nb\n", "a\0b"] {
            let error = Terms::read(&notify(directory.path(), content)).unwrap_err();
            assert!(
                matches!(error, TermsError::Password { .. }),
                "{content:?}: {error}"
            );
            assert!(error.to_string().contains("/password"), "{error}");
        }
        let mut missing = notify(directory.path(), "x");
        missing.smarthost_password_file = Some(directory.path().join("none"));
        assert!(matches!(
            Terms::read(&missing),
            Err(TermsError::File { .. })
        ));
        let mut no_authority = notify(directory.path(), "x");
        no_authority.smarthost_ca = no_authority.smarthost_password_file.clone();
        assert!(matches!(
            Terms::read(&no_authority),
            Err(TermsError::Authority { .. })
        ));
    }

    #[test]
    fn without_more_it_is_the_configuration_that_proves() {
        let terms = Terms::read(&Notify::default()).unwrap();
        assert_eq!(
            (terms.proof, terms.way),
            (Proof::Configured, Way::default())
        );
        let never = Notify {
            smarthost: Some("192.0.2.1:25".parse().unwrap()),
            smarthost_tls: Some(SmarthostTls::Never),
            ..Notify::default()
        };
        let terms = Terms::read(&never).unwrap();
        assert_eq!(
            (terms.proof, terms.way.tls),
            (Proof::Configured, TlsBegins::Never)
        );
    }
}

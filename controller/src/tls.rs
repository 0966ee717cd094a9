//! TLS for doors that the world outside connects to: the provider's own certificate, read from files, and read again
//! when asked.

mod any_client;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use dd_pki::key::{self, KeyFault};
use dd_pki::time::instant;
use dd_proto::pem::{self, Kind, PemError};
use jiff::Timestamp;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate, X509Version};

use crate::{config, small_file};

/// Why a certificate cannot be used. Each says its cause itself, once.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{path} cannot be read: {cause}", path = path.display())]
    File { path: PathBuf, cause: io::Error },
    #[error("{path}: {cause}", path = path.display())]
    Content { path: PathBuf, cause: PemError },
    #[error("{path}: certificate {number} cannot be read: expected an X.509 certificate", path = path.display())]
    Certificate { path: PathBuf, number: usize },
    #[error("{path}: the certificate `{subject}` is of X.509 version 1, which carries no names: issue one with a subject alternative name (`openssl x509 -req` with -extfile)", path = path.display())]
    Version1 { path: PathBuf, subject: String },
    #[error("{path}: the certificate `{subject}` cannot be used: {cause}", path = path.display())]
    CertificateKey {
        path: PathBuf,
        subject: String,
        cause: KeyFault,
    },
    #[error("{path}: the key cannot be used; expected RSA of 2048 to 8192 bits (PKCS#1), P-256, P-384, P-521 or Ed25519", path = path.display())]
    Key { path: PathBuf },
    #[error("{certificate}: the first certificate is `{first}`, but the key in {key} is that of certificate {owner}, `{owned}`: the server's own comes first", certificate = certificate.display(), key = key.display())]
    Order {
        certificate: PathBuf,
        key: PathBuf,
        first: String,
        owner: usize,
        owned: String,
    },
    #[error("the key in {key} is not that of the certificate `{first}` in {certificate}, nor of another one there", certificate = certificate.display(), key = key.display())]
    OtherKey {
        certificate: PathBuf,
        key: PathBuf,
        first: String,
    },
    #[error("{path}: the certificate `{subject}` ended on {end}, and clients do not believe it any more: put its successor there", path = path.display())]
    Ended {
        path: PathBuf,
        subject: String,
        end: Timestamp,
    },
}

/// A certificate that can be replaced while sessions go on.
#[derive(Debug)]
pub struct Certificate(RwLock<Arc<CertifiedKey>>);

const LOCK: &str = "no holder of this lock panics";

impl Certificate {
    /// # Errors
    /// The files cannot be read, or do not belong together.
    pub fn read(files: &config::Tls) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self(RwLock::new(read(files)?))))
    }

    /// When the first certificate of the chain ends, and clients stop believing it; None where that cannot be read.
    pub fn end(&self) -> Option<Timestamp> {
        let shown = self.0.read().expect(LOCK);
        let (_, leaf) = X509Certificate::from_der(shown.cert.first()?).ok()?;
        Some(instant(leaf.validity().not_after))
    }

    /// # Errors
    /// Clients do not believe it any more.
    pub fn has_not_ended(&self, files: &config::Tls, now: Timestamp) -> Result<(), TlsError> {
        let Some(end) = self.end().filter(|end| *end < now) else {
            return Ok(());
        };
        let shown = self.0.read().expect(LOCK).clone();
        Err(TlsError::Ended {
            path: files.certificate.clone(),
            subject: shown
                .cert
                .first()
                .map_or_else(String::new, |it| subject(it)),
            end,
        })
    }

    /// New sessions get what the files hold now.
    ///
    /// # Errors
    /// The files cannot be read, or do not belong together; then the old certificate stays.
    pub fn replace(&self, files: &config::Tls) -> Result<(), TlsError> {
        let new = read(files)?;
        *self.0.write().expect(LOCK) = new;
        Ok(())
    }

    /// A server that shows this certificate, and takes any that a client presents without believing it.
    ///
    /// # Errors
    /// The provider does not do what is asked of it.
    pub fn asking_server(self: &Arc<Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let any_client = any_client::AnyClient::new(&provider);
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(Arc::new(any_client))
            .with_cert_resolver(self.clone());
        Ok(Arc::new(config))
    }

    /// A server that shows this certificate and asks for none.
    ///
    /// # Errors
    /// The provider does not do what is asked of it.
    pub fn server(self: &Arc<Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().expect(LOCK).clone())
    }
}

fn read(files: &config::Tls) -> Result<Arc<CertifiedKey>, TlsError> {
    let content = |path: &Path, kind| {
        let bytes = small_file::read(path).map_err(|cause| TlsError::File {
            path: path.to_owned(),
            cause,
        })?;
        let read = match kind {
            Kind::PrivateKey => pem::read_one(&bytes, kind).map(|it| vec![it]),
            _ => pem::read(&bytes, kind),
        };
        read.map_err(|cause| TlsError::Content {
            path: path.to_owned(),
            cause,
        })
    };
    let chain = content(&files.certificate, Kind::Certificate)?;
    let key = content(&files.key, Kind::PrivateKey)?.concat();
    certificates_can_be_used(&files.certificate, &chain)?;
    let key = signing_key(key).ok_or_else(|| TlsError::Key {
        path: files.key.clone(),
    })?;
    belong_together(files, &chain, key.as_ref())?;
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    Ok(Arc::new(CertifiedKey::new(chain, key)))
}

fn signing_key(der: Vec<u8>) -> Option<Arc<dyn SigningKey>> {
    let der = PrivateKeyDer::try_from(der).ok()?;
    rustls::crypto::aws_lc_rs::sign::any_supported_type(&der).ok()
}

fn certificates_can_be_used(path: &Path, chain: &[Vec<u8>]) -> Result<(), TlsError> {
    let path = || path.to_owned();
    for (index, der) in chain.iter().enumerate() {
        let number = index + 1;
        let unreadable = || TlsError::Certificate {
            path: path(),
            number,
        };
        let spki = key::of_certificate(der).ok_or_else(unreadable)?;
        let subject = subject(der);
        // The rest of the chain is the clients' to judge.
        if index > 0 {
            continue;
        }
        key::judge(spki, &dd_pki::provider()).map_err(|cause| TlsError::CertificateKey {
            path: path(),
            subject: subject.clone(),
            cause,
        })?;
        let (_, parsed) = X509Certificate::from_der(der).map_err(|_| unreadable())?;
        if parsed.version() == X509Version::V1 {
            return Err(TlsError::Version1 {
                path: path(),
                subject,
            });
        }
        ParsedCertificate::try_from(&CertificateDer::from(der.as_slice()))
            .map_err(|_| unreadable())?;
    }
    Ok(())
}

fn belong_together(
    files: &config::Tls,
    chain: &[Vec<u8>],
    key: &dyn SigningKey,
) -> Result<(), TlsError> {
    let public = key.public_key();
    let is_of = |der: &Vec<u8>| key::of_certificate(der) == public.as_deref();
    let (certificate, key) = (files.certificate.clone(), files.key.clone());
    let first = chain.first().map_or_else(String::new, |der| subject(der));
    match chain.iter().position(is_of) {
        Some(0) => Ok(()),
        Some(place) => Err(TlsError::Order {
            certificate,
            key,
            first,
            owner: place + 1,
            owned: subject(&chain[place]),
        }),
        None => Err(TlsError::OtherKey {
            certificate,
            key,
            first,
        }),
    }
}

fn subject(der: &[u8]) -> String {
    match X509Certificate::from_der(der) {
        Ok((_, parsed)) => parsed.subject().to_string(),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(directory: &Path, name: &str) -> config::Tls {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let files = config::Tls {
            certificate: directory.join(format!("{name}.pem")),
            key: directory.join(format!("{name}.key")),
        };
        std::fs::write(&files.certificate, made.cert.pem()).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        files
    }

    #[test]
    fn a_pair_that_does_not_belong_together_leaves_the_old_one() {
        let directory = tempfile::tempdir().unwrap();
        let first = write(directory.path(), "first");
        let second = write(directory.path(), "second");
        let shown = |it: &Certificate| it.0.read().unwrap().cert[0].clone();
        let certificate = Certificate::read(&first).unwrap();
        let before = shown(&certificate);
        let mixed = config::Tls {
            certificate: second.certificate.clone(),
            key: first.key.clone(),
        };
        assert!(matches!(
            certificate.replace(&mixed),
            Err(TlsError::OtherKey { .. })
        ));
        let absent = config::Tls {
            certificate: directory.path().join("absent"),
            key: first.key,
        };
        assert!(matches!(
            certificate.replace(&absent),
            Err(TlsError::File { .. })
        ));
        assert_eq!(shown(&certificate), before);
        certificate.replace(&second).unwrap();
        assert_ne!(shown(&certificate), before);
        certificate.server().unwrap();
    }

    #[test]
    fn an_ended_certificate_is_named_with_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let files = write(directory.path(), "mail.example");
        let certificate = Certificate::read(&files).unwrap();
        let end = certificate.end().unwrap();
        certificate.has_not_ended(&files, end).unwrap();
        let later = end + jiff::SignedDuration::from_secs(1);
        let refused = certificate.has_not_ended(&files, later).unwrap_err();
        let said = format!(
            "mail.example.pem: the certificate `CN=rcgen self signed cert` ended on {end}, and"
        );
        assert!(refused.to_string().contains(&said), "{refused}");
    }

    /// A certificate and its key as PEM, with openssl's help where aws-lc makes none.
    fn pair(name: &str) -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn said(certificate: &[u8], key: &[u8]) -> String {
        let directory = tempfile::tempdir().unwrap();
        let files = config::Tls {
            certificate: directory.path().join("c"),
            key: directory.path().join("k"),
        };
        std::fs::write(&files.certificate, certificate).unwrap();
        std::fs::write(&files.key, key).unwrap();
        match Certificate::read(&files) {
            Ok(read) => format!("{} certificates", read.0.read().unwrap().cert.len()),
            Err(error) => {
                // Whoever prints the causes as well must not say anything twice.
                assert!(std::error::Error::source(&error).is_none());
                let text = error.to_string();
                text.replace(&format!("{}/", directory.path().display()), "")
            }
        }
    }

    #[test]
    fn each_wrong_file_has_its_own_sentence() {
        let (one, key) = pair("one.example");
        let (two, _) = pair("two.example");
        let rsa1024 = include_str!("../../agent/tests/data/rsa1024-cert.pem");
        let v1 = include_str!("../../proto/pki/tests/data/authority-v1.pem");
        let rsa_pss = include_str!("../../proto/pki/tests/data/authority-rsapss.pem");
        let der = pem::read_one(one.as_bytes(), Kind::Certificate).unwrap();
        let encrypted = key.replace("PRIVATE", "ENCRYPTED PRIVATE");
        let swapped = format!("{two}{one}");
        let glued = format!("{}{two}", one.trim_end());
        let cases: [(&[u8], &[u8], &str); 14] = [
            (one.as_bytes(), key.as_bytes(), "1 certificates"),
            (&der, key.as_bytes(), "1 certificates"),
            (glued.as_bytes(), key.as_bytes(), "2 certificates"),
            (
                b"",
                key.as_bytes(),
                "c: it is empty: expected a certificate",
            ),
            (
                key.as_bytes(),
                key.as_bytes(),
                "c: it holds no certificate: expected PEM",
            ),
            (
                &[0x30, 11, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2],
                key.as_bytes(),
                "c: it is PKCS#7 in DER; convert it with `openssl pkcs7",
            ),
            (
                one.as_bytes(),
                one.as_bytes(),
                "k: it holds no private key: expected PEM",
            ),
            (
                one.as_bytes(),
                encrypted.as_bytes(),
                "k: line 1: `ENCRYPTED PRIVATE KEY` is an encrypted key: write it in the clear with `openssl pkey",
            ),
            (
                one.as_bytes(),
                &[0x30, 0],
                "k: the key cannot be used; expected RSA",
            ),
            (
                swapped.as_bytes(),
                key.as_bytes(),
                "but the key in k is that of certificate 2",
            ),
            (
                two.as_bytes(),
                key.as_bytes(),
                "the key in k is not that of the certificate `CN=rcgen self signed cert` in c",
            ),
            (
                rsa1024.as_bytes(),
                key.as_bytes(),
                "its RSA key has 1024 bits",
            ),
            (
                v1.as_bytes(),
                key.as_bytes(),
                "c: the certificate `CN=v1` is of X.509 version 1",
            ),
            (
                rsa_pss.as_bytes(),
                key.as_bytes(),
                "its key is of the kind RSA-PSS",
            ),
        ];
        for (certificate, key, expected) in cases {
            let said = said(certificate, key);
            assert!(said.contains(expected), "{said}, not {expected}");
        }
    }
}

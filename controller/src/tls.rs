//! TLS for doors that the world outside connects to: the provider's own certificate, read from files, and read again
//! when asked.

mod any_client;

use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config;

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{path} cannot be used: {source}; expected PEM", path = path.display())]
    File { path: PathBuf, source: pem::Error },
    #[error("{certificate} and {key} cannot be used: {source}; expected a certificate chain and its key", certificate = certificate.display(), key = key.display())]
    Pair {
        certificate: PathBuf,
        key: PathBuf,
        source: rustls::Error,
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
    let file = |path: &Path| {
        let path = path.to_owned();
        |source| TlsError::File { path, source }
    };
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(file(&files.certificate))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(file(&files.key))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let pair = CertifiedKey::from_der(chain, key, &provider);
    pair.map(Arc::new).map_err(|source| TlsError::Pair {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        source,
    })
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
            Err(TlsError::Pair { .. })
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
}

//! A throw-away authority.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// An authority that exists as long as this value.
#[derive(Debug)]
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    root_pem: String,
}

/// A certificate with its key, as a mail server has it.
#[derive(Debug)]
pub struct Identity {
    chain_pem: String,
    key_pem: String,
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

impl Ca {
    /// An authority whose subject is `CN=subject`. Two of the same subject differ in their keys, and only in them.
    ///
    /// # Panics
    /// No key can be made: there is no randomness.
    pub fn new(subject: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(subject);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key can be made");
        let root = params.self_signed(&key).expect("the parameters are valid");
        Self {
            root_pem: root.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// The root certificate, for `ddadm ca import`.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// A server certificate for `name` below a line of so many authorities, each below the one before.
    ///
    /// # Panics
    /// `name` is no DNS name.
    pub fn identity_below(&self, authorities: usize, name: &str) -> Identity {
        let mut line = Vec::new();
        let mut last = None;
        for n in 0..authorities {
            let issuer = last.as_ref().unwrap_or(&self.issuer);
            let (made, issues) = below(issuer, &format!("authority {n}"));
            line.insert(0, made);
            last = Some(issues);
        }
        let mut identity = issued(last.as_ref().unwrap_or(&self.issuer), &[name]);
        identity.chain.extend(line);
        identity
    }

    /// A server certificate for `names`.
    ///
    /// # Panics
    /// A name is no DNS name.
    pub fn identity(&self, names: &[&str]) -> Identity {
        issued(&self.issuer, names)
    }
}

fn issued(issuer: &Issuer<'static, KeyPair>, names: &[&str]) -> Identity {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names.clone()).expect("names are DNS names");
    params.distinguished_name = common_name(names.first().map_or("nobody", String::as_str));
    let now = time::OffsetDateTime::now_utc();
    params.not_before = now - time::Duration::DAY;
    params.not_after = now + 300 * time::Duration::DAY;
    let key = KeyPair::generate().expect("a key can be made");
    let leaf = params
        .signed_by(&key, issuer)
        .expect("the parameters are valid");
    Identity {
        chain_pem: leaf.pem(),
        key_pem: key.serialize_pem(),
        chain: vec![leaf.der().clone()],
        key: key.serialize_der(),
    }
}

/// An authority's certificate below `issuer`, and what issues by it.
fn below(
    issuer: &Issuer<'static, KeyPair>,
    subject: &str,
) -> (CertificateDer<'static>, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(subject);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().expect("a key can be made");
    let made = params.signed_by(&key, issuer);
    let made = made.expect("the parameters are valid").der().clone();
    (made, Issuer::new(params, key))
}

impl Identity {
    /// The same, presented with so many authorities' certificates that have nothing to do with it.
    ///
    /// # Panics
    /// No key can be made.
    #[must_use]
    pub fn beside(mut self, others: usize) -> Self {
        let other = Ca::new("Somebody else");
        let others = (0..others).map(|n| below(&other.issuer, &format!("other {n}")).0);
        self.chain.extend(others);
        self
    }

    /// Whatever stands in `chain` (DER), with this key (PKCS#8): nobody looks whether they belong together.
    pub fn of(chain: &[&[u8]], key: &[u8]) -> Self {
        Self {
            chain_pem: String::new(),
            key_pem: String::new(),
            chain: chain
                .iter()
                .map(|der| CertificateDer::from(der.to_vec()))
                .collect(),
            key: key.to_vec(),
        }
    }

    /// From files, as a mail server reads them.
    ///
    /// # Panics
    /// There is no certificate or no key in them.
    pub fn from_pem(chain_pem: &str, key_pem: &str) -> Self {
        let chain = CertificateDer::pem_slice_iter(chain_pem.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).expect("a key");
        Self {
            chain_pem: chain_pem.to_owned(),
            key_pem: key_pem.to_owned(),
            chain: chain.collect::<Result<_, _>>().expect("certificates"),
            key: key.secret_der().to_vec(),
        }
    }

    pub fn chain_pem(&self) -> &str {
        &self.chain_pem
    }

    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.chain.clone()
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.clone()).into()
    }
}

fn common_name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
}

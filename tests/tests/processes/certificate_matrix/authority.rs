//! An authority for the cases, and what a server presents that it certified.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};

pub(crate) const NAME: &str = "home.example";

pub(crate) type Change = fn(&mut CertificateParams);
pub(crate) type Der = CertificateDer<'static>;

pub(crate) fn params(subject: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2050, 1, 1);
    params
}

pub(crate) struct Ca {
    pub(crate) der: Der,
    pub(crate) issuer: Issuer<'static, KeyPair>,
    pub(crate) key: Vec<u8>,
}

pub(crate) fn ca_params(subject: &str) -> CertificateParams {
    let mut params = params(subject, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Ca {
    pub(crate) fn new(subject: &str, change: Change) -> Self {
        let mut params = ca_params(subject);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        Self::of(der, params, key)
    }

    pub(crate) fn of(der: Der, params: CertificateParams, key: KeyPair) -> Self {
        let secret = key.serialize_der();
        let issuer = Issuer::new(params, key);
        Self {
            der,
            issuer,
            key: secret,
        }
    }

    /// An intermediate.
    pub(crate) fn below(&self, subject: &str, change: Change) -> Self {
        let mut params = ca_params(subject);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let der = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Self::of(der, params, key)
    }

    /// The same key and name, certified by another.
    pub(crate) fn also_by(&self, other: &Self, subject: &str) -> Der {
        let key = KeyPair::try_from(&self.key[..]).unwrap();
        let params = ca_params(subject);
        params.signed_by(&key, &other.issuer).unwrap().der().clone()
    }

    pub(crate) fn leaf(&self, names: &[&str], change: Change) -> Shown {
        let mut params = params("server", names);
        params.serial_number = Some(SerialNumber::from(77_u64));
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let der = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Shown {
            chain: vec![der],
            key: key.serialize_der(),
        }
    }

    pub(crate) fn list(&self, year: i32, serials: &[u64]) -> CertificateRevocationListDer<'static> {
        let entry = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2021, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2021, 1, 1),
            next_update: date_time_ymd(year, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().der().clone()
    }
}

/// What a server presents.
#[derive(Clone)]
pub(crate) struct Shown {
    pub(crate) chain: Vec<Der>,
    pub(crate) key: Vec<u8>,
}

impl Shown {
    pub(crate) fn and(mut self, more: &[&Ca]) -> Self {
        self.chain.extend(more.iter().map(|ca| ca.der.clone()));
        self
    }

    pub(crate) fn and_der(mut self, more: Der) -> Self {
        self.chain.push(more);
        self
    }
}

pub(crate) fn nothing(_: &mut CertificateParams) {}

pub(crate) fn pem(der: &[u8]) -> String {
    dd_proto::pem::certificate(der)
}

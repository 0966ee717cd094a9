//! Signing for members: our own authorities' certificates, their members' ones, and their revocation lists.
//!
//! Everything here is made from what it is given: no file, no clock, no record.
//!
//! # Invariants
//! - A certificate for a member carries exactly one name, that of the site's record, and serves servers and clients.
//! - Serials are random (128 bits, of which two are fixed): they say nothing of how many there are.
//!
//! # Not here
//! Where keys lie: [`super::keys`]. What was issued and revoked: [`crate::registry::issued`].

use std::time::Duration;

use bytes::Bytes;
use dd_proto::domain::Domain;
use dd_proto::name::{AgentName, AuthorityName};
use jiff::Timestamp;
use rand::RngExt as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, NameConstraints, PublicKeyData, RevokedCertParams, SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

const DAY: Duration = Duration::from_secs(86_400);
const AUTHORITY_LIFE: Duration = Duration::from_secs(3650 * 86_400);
/// A list is made anew long before; one that is old still applies.
const LIST_LIFE: Duration = Duration::from_secs(30 * 86_400);
/// A member's clock that runs a little behind must not find a new certificate not yet valid.
const BACKDATED: Duration = Duration::from_secs(3600);

/// A certificate that was revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    pub serial: Vec<u8>,
    pub at: Timestamp,
}

/// A new certificate for a member.
#[derive(Debug, Clone)]
pub struct Signed {
    pub der: Bytes,
    pub serial: Vec<u8>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

/// The certificate of an authority's own new key. Its subject is the authority's name with a number that grows, so that
/// two that serve side by side are told apart by name too.
///
/// # Errors
/// It cannot be made.
pub fn root(
    name: &AuthorityName,
    number: u32,
    permit: &[Domain],
    key: &KeyPair,
    now: Timestamp,
) -> Result<Bytes, rcgen::Error> {
    let subject = format!("{name} G{number}");
    let mut params = params(
        &subject,
        now,
        now.saturating_add(AUTHORITY_LIFE).unwrap_or(now),
    )?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    if !permit.is_empty() {
        let subtree = |domain: &Domain| GeneralSubtree::DnsName(domain.to_string());
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: permit.iter().map(subtree).collect(),
            excluded_subtrees: Vec::new(),
        });
    }
    Ok(params.self_signed(key)?.der().to_vec().into())
}

/// The number that [`root`] put into a subject; 0 where there is none.
pub fn number_of(certificate: &[u8]) -> u32 {
    use x509_parser::prelude::{FromDer as _, X509Certificate};
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return 0;
    };
    let name = parsed.subject().iter_common_name().next();
    name.and_then(|name| name.as_str().ok()?.rsplit_once(" G")?.1.parse().ok())
        .unwrap_or(0)
}

/// A member's certificate.
///
/// # Errors
/// The authority's certificate or the key cannot be used.
pub fn leaf(
    authority: &[u8],
    authority_key: KeyPair,
    name: &Domain,
    key: &impl PublicKeyData,
    until: Timestamp,
    now: Timestamp,
) -> Result<Signed, rcgen::Error> {
    let issuer = Issuer::from_ca_cert_der(&CertificateDer::from(authority), authority_key)?;
    let mut params = params(name.as_str(), now, until)?;
    params.subject_alt_names = vec![SanType::DnsName(name.as_str().try_into()?)];
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    let serial = params.serial_number.as_ref().map(SerialNumber::to_bytes);
    let (not_before, not_after) = (instant(params.not_before), instant(params.not_after));
    Ok(Signed {
        der: params.signed_by(key, &issuer)?.der().to_vec().into(),
        serial: serial.unwrap_or_default(),
        not_before,
        not_after,
    })
}

/// The unit in the subject of what agents show. A member's certificate has none, so that a home that trusts the authority
/// can tell the two apart.
pub const AGENTS: &str = "dd-agent";

/// What an agent shows to sites' hosts. It proves no site: it has no DNS name, and serves clients only. The name that it has
/// lies outside what name constraints of an authority are about, which are domains. So must its common name: where there is no
/// DNS name, OpenSSL holds one that could be a host's (RFC 6125 §6.4.4) against the constraints, and an agent's name may have
/// dots. With a blank in it, it is none.
///
/// # Errors
/// The authority's certificate or the key cannot be used.
pub fn agent(
    authority: &[u8],
    authority_key: KeyPair,
    name: &AgentName,
    key: &impl PublicKeyData,
    until: Timestamp,
    now: Timestamp,
) -> Result<Bytes, rcgen::Error> {
    let issuer = Issuer::from_ca_cert_der(&CertificateDer::from(authority), authority_key)?;
    let mut params = params(&format!("agent {name}"), now, until)?;
    let unit = DnType::OrganizationalUnitName;
    params.distinguished_name.push(unit, AGENTS);
    let uri = format!("{}{name}", super::AGENT_URI);
    params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into()?)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params.signed_by(key, &issuer)?.der().to_vec().into())
}

/// What an authority's key says is revoked. The number grows with time, so that a later list is seen to be later.
///
/// # Errors
/// The authority's certificate cannot be used.
pub fn revocation_list(
    authority: &[u8],
    authority_key: KeyPair,
    revoked: &[Revoked],
    now: Timestamp,
) -> Result<Bytes, rcgen::Error> {
    let issuer = Issuer::from_ca_cert_der(&CertificateDer::from(authority), authority_key)?;
    let entry = |it: &Revoked| RevokedCertParams {
        serial_number: SerialNumber::from_slice(&it.serial),
        revocation_time: moment(it.at),
        reason_code: None,
        invalidity_date: None,
    };
    let number = u64::try_from(now.as_millisecond()).unwrap_or(1);
    let params = CertificateRevocationListParams {
        this_update: moment(now),
        next_update: moment(now) + LIST_LIFE,
        crl_number: SerialNumber::from(number),
        issuing_distribution_point: None,
        revoked_certs: revoked.iter().map(entry).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    Ok(params.signed_by(&issuer)?.der().to_vec().into())
}

fn params(
    subject: &str,
    now: Timestamp,
    until: Timestamp,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject);
    params.not_before = moment(now) - BACKDATED;
    params.not_after = moment(until);
    let mut serial: [u8; 16] = rand::rng().random();
    // RFC 5280 §4.1.2.2: positive, at most 20 octets.
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

/// Whole seconds: certificates have no smaller ones.
fn moment(at: Timestamp) -> OffsetDateTime {
    let seconds = u64::try_from(at.as_second())
        .unwrap_or(0)
        .max(DAY.as_secs());
    OffsetDateTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn instant(at: OffsetDateTime) -> Timestamp {
    dd_pki::time::from_seconds(at.unix_timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::lists;
    use x509_parser::prelude::{FromDer as _, X509Certificate};

    fn now() -> Timestamp {
        "2026-06-01T00:00:00Z".parse().unwrap()
    }

    fn authority(permit: &[&str]) -> (Bytes, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let permit: Vec<Domain> = permit.iter().map(|it| it.parse().unwrap()).collect();
        let name = "member-ca".parse().unwrap();
        (root(&name, 3, &permit, &key, now()).unwrap(), key)
    }

    #[test]
    fn an_authority_may_certify_members_and_nobody_below() {
        let (der, _) = authority(&["members.example"]);
        let (_, parsed) = X509Certificate::from_der(&der).unwrap();
        let basic = parsed.basic_constraints().unwrap().unwrap().value;
        assert!(basic.ca);
        assert_eq!(basic.path_len_constraint, Some(0));
        let constraints = parsed.name_constraints().unwrap().unwrap();
        assert!(constraints.critical);
        assert_eq!(
            constraints.value.permitted_subtrees.as_ref().unwrap().len(),
            1
        );
        assert_eq!(parsed.subject().to_string(), "CN=member-ca G3");
        assert_eq!(number_of(&der), 3);
        let (plain, _) = authority(&[]);
        let (_, plain) = X509Certificate::from_der(&plain).unwrap();
        assert!(plain.name_constraints().unwrap().is_none());
    }

    #[test]
    fn a_members_certificate_carries_one_name_and_serves_both_ends() {
        let (der, key) = authority(&[]);
        let member = KeyPair::generate().unwrap();
        let until = "2027-06-01T00:00:00Z".parse().unwrap();
        let name = "home.example".parse().unwrap();
        let signed = leaf(&der, key, &name, &member, until, now()).unwrap();
        assert_eq!(signed.not_after, until);
        let (_, parsed) = X509Certificate::from_der(&signed.der).unwrap();
        assert!(!parsed.is_ca());
        let names = parsed.subject_alternative_name().unwrap().unwrap().value;
        assert_eq!(
            format!("{:?}", names.general_names),
            "[DNSName(\"home.example\")]"
        );
        let usage = parsed.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.server_auth && usage.client_auth && !usage.any);
        assert_eq!(parsed.raw_serial(), signed.serial);
        assert_eq!(signed.serial.len(), 16);
    }

    #[test]
    fn what_an_agent_shows_serves_clients_only_and_proves_no_site() {
        let (der, key) = authority(&["members.example"]);
        let agent_key = KeyPair::generate().unwrap();
        let until = "2026-06-02T00:00:00Z".parse().unwrap();
        let name = "out1.example.net".parse().unwrap();
        let shown = agent(&der, key, &name, &agent_key, until, now()).unwrap();
        let (_, parsed) = X509Certificate::from_der(&shown).unwrap();
        assert!(!parsed.is_ca());
        let subject = parsed.subject().to_string();
        assert_eq!(subject, "CN=agent out1.example.net, OU=dd-agent");
        let names = parsed.subject_alternative_name().unwrap().unwrap().value;
        let names = format!("{:?}", names.general_names);
        assert_eq!(names, "[URI(\"dd:agent:out1.example.net\")]");
        let usage = parsed.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth && !usage.any);
        let public = agent_key.subject_public_key_info();
        assert_eq!(parsed.public_key().raw, public);
    }

    #[test]
    fn a_list_names_what_is_revoked_and_is_of_its_authority() {
        let (der, key) = authority(&[]);
        let revoked = [Revoked {
            serial: vec![0x41, 2, 3],
            at: now(),
        }];
        let list = revocation_list(&der, key, &revoked, now()).unwrap();
        assert_eq!(lists::check(std::slice::from_ref(&list), &[der]), Ok(()));
        let summary = lists::summary(&list).unwrap();
        assert_eq!(summary.revoked, 1);
        assert_eq!(summary.this_update, now());
        assert!(summary.next_update > Some(now()));
        let (other, _) = authority(&[]);
        assert!(lists::check(&[list], &[other]).is_err());
    }
}

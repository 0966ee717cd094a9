//! What a caller asks the proof to be → a proof that has all it needs.

use std::collections::BTreeSet;
use std::net::IpAddr;

use dd_proto::domain::Domain;
use dd_proto::excerpt;
use dd_proto::fingerprint::Fingerprint;
use dd_proto::name::AuthorityName;
use dd_proto::pb;
use dd_proto::site::{Certified, Host, HostName, Proof};

use super::{SiteError, Surroundings, each, parse};

/// The SMTP port everybody uses, so that answering on it proves nothing.
const SMTP_PORT: u16 = 25;

pub(super) fn proof(
    spec: &pb::SiteSpec,
    hosts: &[Host],
    around: &Surroundings<'_>,
) -> Result<Proof, SiteError> {
    use pb::proof::Kind;
    let kind = spec.proof.as_ref().and_then(|proof| proof.kind.as_ref());
    match kind.ok_or(SiteError::NoProof)? {
        Kind::StaticIp(it) => static_ip(it, hosts, around),
        Kind::Certificate(it) => certificate(it, around).map(Proof::Certificate),
        Kind::Fingerprint(it) => fingerprint(&it.sha256),
        Kind::Public(it) => match it.name.is_empty() {
            true => Err(SiteError::NoCertificateName("public")),
            false => Ok(Proof::Public {
                name: certificate_name(&it.name)?,
            }),
        },
        Kind::Port(_) => match hosts.iter().find(|host| host.port.get() == SMTP_PORT) {
            Some(host) => Err(SiteError::CommonPort(host.clone())),
            None => Ok(Proof::Port),
        },
        Kind::Configured(_) => Err(SiteError::Configured),
    }
}

fn fingerprint(listed: &[String]) -> Result<Proof, SiteError> {
    let listed: BTreeSet<Fingerprint> = each("--fingerprint", listed, 20, |text| {
        text.parse()
            .map_err(|error| format!("`{}`: {error}", excerpt::of(text)))
    })?;
    match listed.is_empty() {
        true => Err(SiteError::NoFingerprint),
        false => Ok(Proof::Fingerprint { listed }),
    }
}

fn static_ip(
    proof: &pb::proof::StaticIp,
    hosts: &[Host],
    around: &Surroundings<'_>,
) -> Result<Proof, SiteError> {
    let certificate = proof.certificate.as_ref();
    let certificate = certificate
        .map(|it| self::certificate(it, around))
        .transpose()?;
    let mut addresses: BTreeSet<IpAddr> = each("--address", &proof.addresses, 100, |text| {
        text.parse().map_err(|_| {
            format!(
                "`{}` is no IP address: expected one such as 192.0.2.1",
                excerpt::of(text)
            )
        })
    })?;
    addresses.extend(hosts.iter().filter_map(|host| match host.name {
        HostName::Address(ip) => Some(ip),
        HostName::Dns(_) => None,
    }));
    match addresses.is_empty() {
        true => Err(SiteError::NoAddress),
        false => Ok(Proof::StaticIp {
            addresses,
            certificate,
        }),
    }
}

fn certificate(
    proof: &pb::proof::Certificate,
    around: &Surroundings<'_>,
) -> Result<Certified, SiteError> {
    if proof.authority.is_empty() {
        return Err(SiteError::NoAuthority);
    }
    if proof.name.is_empty() {
        return Err(SiteError::NoCertificateName("certificate"));
    }
    let authority: AuthorityName = parse(&proof.authority)?;
    if !(around.has_authority)(&authority) {
        return Err(SiteError::UnknownAuthority(authority));
    }
    let name = certificate_name(&proof.name)?;
    Ok(Certified { authority, name })
}

/// RFC 5280 §4.2.1.6: an address is no DNS name, and no verifier finds it there.
fn certificate_name(text: &str) -> Result<Domain, SiteError> {
    let name: Domain = parse(text)?;
    match name.as_str().parse::<std::net::IpAddr>() {
        Ok(_) => Err(SiteError::CertificateNameAddress(name)),
        Err(_) => Ok(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificates_name_is_no_address() {
        for (name, is_good) in [
            ("home.example", true),
            ("192.0.2.1.example", true),
            ("192.0.2.1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(certificate_name(name).is_ok(), is_good, "{name}");
        }
    }
}

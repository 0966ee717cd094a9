//! What a caller asks of the way to a site's hosts → one that agents can go.

use dd_proto::excerpt;
use dd_proto::name::AuthorityName;
use dd_proto::pb;
use dd_proto::site::{Family, HandOver, Host, HostName, Proof, Speaks, TlsBegins, Way};

use super::{SiteError, Surroundings, parse};

pub(super) fn way(
    spec: &pb::SiteSpec,
    proof: &Proof,
    hosts: &[Host],
    around: &Surroundings<'_>,
) -> Result<Way, SiteError> {
    let speaks = Speaks::of_flag(spec.lmtp.unwrap_or_default());
    let on_port_of_smtp = hosts.iter().find(|host| host.port.get() == 25);
    if let (Speaks::Lmtp, Some(host)) = (speaks, on_port_of_smtp) {
        return Err(SiteError::LmtpPort(host.clone()));
    }
    let hand_over = match spec.hand_over.as_deref() {
        None => HandOver::None,
        Some(text) => text.parse::<HandOver>().map_err(|error| {
            SiteError::Value(format!(
                "`{}` behind --hand-over: {error}",
                excerpt::of(text)
            ))
        })?,
    };
    let family = family(spec, hosts)?;
    let client_certificate = spec.client_certificate.as_deref();
    Ok(Way {
        hand_over,
        client_certificate: client_certificate
            .map(|named| signer(named, proof, around))
            .transpose()?,
        tls: TlsBegins::of_flag(spec.tls_on_connect.unwrap_or_default()),
        speaks,
        family,
        login: None,
    })
}

fn family(spec: &pb::SiteSpec, hosts: &[Host]) -> Result<Family, SiteError> {
    let family = match spec.family.as_deref() {
        None => Family::Any,
        Some(text) => text.parse::<Family>().map_err(|error| {
            SiteError::Value(format!("`{}` behind --family: {error}", excerpt::of(text)))
        })?,
    };
    let is_left_out = |host: &&Host| match host.name {
        HostName::Address(address) => !family.has(address),
        HostName::Dns(_) => false,
    };
    match hosts.iter().find(is_left_out).cloned() {
        Some(host) => Err(SiteError::OtherFamily { family, host }),
        None => Ok(family),
    }
}

/// The authority of which agents show a certificate: the one that is named, that of the site's proof, or the only one.
fn signer(
    named: &str,
    proof: &Proof,
    around: &Surroundings<'_>,
) -> Result<AuthorityName, SiteError> {
    let own = (around.own_authorities)();
    if !named.is_empty() {
        let named: AuthorityName = parse(named)?;
        return match own.contains(&named) {
            true => Ok(named),
            false => Err(SiteError::NotOwnAuthority(named)),
        };
    }
    let proves = proof.certified().map(|it| &it.authority);
    if let Some(authority) = proves.filter(|it| own.contains(*it)) {
        return Ok(authority.clone());
    }
    match own.len() {
        0 => Err(SiteError::NoOwnAuthority),
        1 => own.into_iter().next().ok_or(SiteError::NoOwnAuthority),
        _ => Err(SiteError::WhichAuthority),
    }
}

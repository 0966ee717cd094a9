//! Who may hand us what: pure judgements over what the registry and the queue look like now.
//!
//! # Invariants
//! Nothing is ever relayed: a recipient is taken only if its domain belongs to a site. Whatever may change by itself
//! (space, quota, a site being removed) is refused for now, never for good.

use std::net::IpAddr;
use std::sync::Arc;

use dd_proto::domain::Domain;
use dd_proto::name::SiteName;
use dd_proto::path::Mailbox;
use dd_proto::site::{KnownRecipients, Site};
use dd_proto::smtp::command::Mail;
use dd_proto::smtp::reply::ServerReply;
use ipnet::IpNet;

use super::lmtp::Protocol;
use super::reply;

/// An announced size may be wrong by an eighth and this.
const ESTIMATE: u64 = 64 * 1024;

/// The registry and the queue as intake sees them.
pub trait Directory: Send + Sync + 'static {
    /// The site that has this domain.
    fn site_for(&self, domain: &Domain) -> Option<Arc<Site>>;
    /// What waits for a site.
    fn usage(&self, site: &SiteName) -> Usage;
    fn space(&self) -> Space;
}

/// What waits for a site, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    pub messages: u64,
    pub bytes: u64,
}

/// Whether the store takes more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    Enough,
    Short,
}

/// Whether a client may hand us mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    Trusted,
    Stranger,
}

/// By the client's address; an IPv4 address mapped into IPv6 is the IPv4 address.
pub fn trust(trusted: &[IpNet], client: IpAddr) -> Trust {
    let client = client.to_canonical();
    if trusted.iter().any(|net| net.contains(&client)) {
        Trust::Trusted
    } else {
        Trust::Stranger
    }
}

/// Whether a transaction may begin.
///
/// # Errors
/// The reply that refuses it.
pub fn mail(
    mail: &Mail,
    trust: Trust,
    protocol: Protocol,
    max_message_bytes: u64,
    directory: &dyn Directory,
) -> Result<(), ServerReply> {
    if trust == Trust::Stranger {
        return Err(reply::not_trusted(protocol));
    }
    // RFC 1870 §6.1: what is announced as too large is refused before it is sent.
    if mail.size.is_some_and(|size| size > max_message_bytes) {
        return Err(reply::too_big(max_message_bytes));
    }
    match directory.space() {
        Space::Enough => Ok(()),
        Space::Short => Err(reply::no_space()),
    }
}

/// The site that takes mail for this recipient.
///
/// # Errors
/// The reply that refuses it.
pub fn rcpt(
    recipient: &Mailbox,
    announced_bytes: Option<u64>,
    directory: &dyn Directory,
) -> Result<Arc<Site>, ServerReply> {
    let site = recipient
        .domain()
        .and_then(|domain| directory.site_for(domain))
        .ok_or_else(|| reply::unknown_domain(recipient))?;
    if site.closing {
        return Err(reply::closing());
    }
    if !knows(&site.known, recipient) {
        return Err(reply::unknown_recipient(recipient));
    }
    let bytes = announced_bytes.unwrap_or(0);
    if let Some(refusal) = too_big_for(&site, bytes) {
        return Err(refusal);
    }
    match is_full(&site, directory.usage(&site.name), bytes) {
        true => Err(reply::over_quota(&site.name)),
        false => Ok(site),
    }
}

/// Whether one more message of that many bytes is more than its quota lets wait.
pub fn is_full(site: &Site, usage: Usage, bytes: u64) -> bool {
    let full = |used: u64, more: u64, quota: Option<u64>| {
        quota.is_some_and(|quota| used.saturating_add(more) > quota)
    };
    full(usage.messages, 1, site.limits.quota_messages)
        || full(usage.bytes, bytes, site.limits.quota_bytes)
}

/// Whether a site that took a recipient will take the content, as far as its size goes.
///
/// In SMTP one answer at the end of the content stands for all recipients, so only sites that are certain share a
/// transaction. RFC 1870 §6.1: what is announced is an estimate.
pub fn is_certain(site: &Site, announced_bytes: Option<u64>, usage: Usage) -> bool {
    let quota = site.limits.quota_bytes;
    let left = quota.map(|quota| quota.saturating_sub(usage.bytes));
    let room = [site.limits.max_message_bytes, left];
    let Some(room) = room.into_iter().flatten().min() else {
        return true;
    };
    announced_bytes.is_some_and(|bytes| {
        let most = bytes.saturating_add(bytes / 8).saturating_add(ESTIMATE);
        most <= room
    })
}

/// The refusal, if a content of that many bytes is more than the site takes.
pub fn too_big_for(site: &Site, bytes: u64) -> Option<ServerReply> {
    let limit = site.limits.max_message_bytes?;
    (bytes > limit).then(|| reply::too_big(limit))
}

/// The list is an operator's, written by hand: there, neither case nor quotes make another local part. RFC 5321 §4.5.1:
/// mail to postmaster is always taken.
fn knows(known: &KnownRecipients, recipient: &Mailbox) -> bool {
    let KnownRecipients::Only(listed) = known else {
        return true;
    };
    let local_part = recipient.unquoted();
    let alike = |other: &Mailbox| {
        other.domain() == recipient.domain() && other.unquoted().eq_ignore_ascii_case(&local_part)
    };
    local_part.eq_ignore_ascii_case("postmaster")
        || listed.contains(recipient)
        || listed.iter().any(alike)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_trusted_by_its_address() {
        let trusted = ["127.0.0.0/8", "::1/128", "192.0.2.0/24"].map(|n| n.parse().unwrap());
        for (client, expected) in [
            ("127.0.0.9", Trust::Trusted),
            ("::ffff:192.0.2.1", Trust::Trusted),
            ("::1", Trust::Trusted),
            ("192.0.3.1", Trust::Stranger),
            ("2001:db8::1", Trust::Stranger),
        ] {
            assert_eq!(
                trust(&trusted, client.parse().unwrap()),
                expected,
                "{client}"
            );
        }
    }

    #[test]
    fn a_listed_recipient_is_known_whatever_its_case() {
        let of = |t: &str| t.parse::<Mailbox>().unwrap();
        let listed = ["Anna@Home.example", "a..b@home.example"].map(of);
        let only = KnownRecipients::Only(listed.into());
        for (recipient, expected) in [
            ("anna@home.example", true),
            ("Anna@Home.example", true),
            ("Postmaster@home.example", true),
            ("\"a..B\"@home.example", true),
            ("a..b@home.example", true),
            ("\"anna\"@home.example", true),
            ("\"Postmaster\"@home.example", true),
            ("bert@home.example", false),
            ("anna@other.example", false),
        ] {
            assert_eq!(knows(&only, &of(recipient)), expected, "{recipient}");
            assert!(knows(&KnownRecipients::Any, &of(recipient)));
        }
    }
}

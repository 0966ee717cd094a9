//! The text of `main.cf` and `master.cf`.

use std::net::SocketAddr;
use std::path::Path;

use super::{NOBODY, Role};

pub(super) fn main(directory: &Path, role: Role<'_>) -> String {
    let directory = directory.display();
    let specific = match role {
        Role::Home { domain, tls } => format!(
            "virtual_mailbox_domains = {domain}\n\
             virtual_mailbox_base = {directory}/mail\n\
             virtual_mailbox_maps = static:inbox/\n\
             virtual_uid_maps = static:{NOBODY}\n\
             virtual_gid_maps = static:{NOBODY}\n\
             virtual_mailbox_limit = 0\n\
             smtpd_tls_loglevel = 1\n\
             smtpd_tls_received_header = yes\n\
             {tls}"
        ),
        Role::Feeder { domain, lmtp } => format!(
            "relay_domains = {domain}\n\
             lmtp_send_xforward_command = yes\n\
             relay_transport = lmtp:inet:[{ip}]:{port}\n",
            ip = lmtp.ip(),
            port = lmtp.port(),
        ),
        Role::Relay {
            domain,
            to,
            authority,
        } => format!(
            "relay_domains = {domain}\n\
             relay_transport = relay:[{ip}]:{port}\n\
             smtp_connection_cache_destinations = [{ip}]:{port}\n\
             {tls}",
            ip = to.ip(),
            port = to.port(),
            tls = match authority {
                None => String::new(),
                Some(_) => verified(&directory.to_string(), domain),
            },
        ),
    };
    format!(
        "compatibility_level = 3.6\n\
         queue_directory = {directory}/queue\n\
         data_directory = {directory}/data\n\
         maillog_file = {directory}/log/maillog\n\
         maillog_file_prefixes = {directory}/log\n\
         myhostname = postfix.example\n\
         mydestination =\n\
         alias_maps =\n\
         alias_database =\n\
         inet_interfaces = 127.0.0.1\n\
         inet_protocols = ipv4\n\
         mynetworks = 127.0.0.0/8\n\
         smtpd_relay_restrictions = reject_unauth_destination\n\
         smtpd_peername_lookup = no\n\
         message_size_limit = 104857600\n\
         {specific}"
    )
}

/// Nothing goes out without a certificate of this authority for this name. Kept connections are what is fastest
/// here.
fn verified(directory: &str, name: &str) -> String {
    format!(
        "smtp_tls_security_level = secure\n\
         smtp_tls_secure_cert_match = {name}\n\
         smtp_tls_CAfile = {directory}/config/authority.pem\n\
         smtp_tls_connection_reuse = yes\n\
         smtp_tls_session_cache_database = btree:{directory}/data/smtp_scache\n"
    )
}

/// Debian's services as far as they are needed, none in a chroot, and SMTP on `address`.
pub(super) fn master(address: SocketAddr) -> String {
    format!(
        "{address} inet  n - n -    -   smtpd\n\
         pickup   unix  n - n 60   1   pickup\n\
         cleanup  unix  n - n -    0   cleanup\n\
         qmgr     unix  n - n 300  1   qmgr\n\
         tlsmgr   unix  - - n 1000? 1  tlsmgr\n\
         tlsproxy unix  - - n -    0   tlsproxy\n\
         rewrite  unix  - - n -    -   trivial-rewrite\n\
         bounce   unix  - - n -    0   bounce\n\
         defer    unix  - - n -    0   bounce\n\
         trace    unix  - - n -    0   bounce\n\
         verify   unix  - - n -    1   verify\n\
         flush    unix  n - n 1000? 0  flush\n\
         proxymap unix  - - n -    -   proxymap\n\
         smtp     unix  - - n -    -   smtp\n\
         lmtp     unix  - - n -    -   lmtp\n\
         relay    unix  - - n -    -   smtp\n\
         showq    unix  n - n -    -   showq\n\
         error    unix  - - n -    -   error\n\
         retry    unix  - - n -    -   error\n\
         discard  unix  - - n -    -   discard\n\
         virtual  unix  - n n -    -   virtual\n\
         anvil    unix  - - n -    1   anvil\n\
         scache   unix  - - n -    1   scache\n\
         postlog  unix-dgram n - n - 1 postlogd\n"
    )
}

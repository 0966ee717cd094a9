//! Debian's OpenSMTPD: its own `smtpd.conf`, with the member's domain.

use std::path::Path;

use super::root::{Contents, Root};
use super::{HomeServer, Inbox, Printed};
use crate::loopback;

const CONTENTS: Contents<'_> = Contents {
    packages: &["opensmtpd"],
    programs: &[
        "/usr/sbin/smtpd",
        "/usr/libexec/opensmtpd/mail.maildir",
        "/usr/libexec/opensmtpd/mail.mda",
    ],
    tools: &[],
    accounts: &["opensmtpd", "opensmtpq"],
};

pub(super) fn start(directory: &Path, domain: &str, printed: &Printed) -> HomeServer {
    let address = loopback::free_port();
    let root = Root::new(directory.join("opensmtpd"), &CONTENTS, printed);
    root.directory_with("/var/spool/smtpd", 0o711);
    root.write("/etc/aliases", "");
    let lines = printed.below("OpenSMTPD, smtpd.conf").replace(
        "listen on all",
        &format!("listen on {} port {}", address.ip(), address.port()),
    );
    let debian = root.read("/etc/smtpd.conf");
    let listening = "\nlisten on localhost\n";
    assert!(debian.contains(listening), "another smtpd.conf:\n{debian}");
    let mut text = debian.replace(listening, &format!("\n{lines}\n"));
    text.push_str(&format!(
        "match from any for domain \"{domain}\" action \"local\"\n"
    ));
    root.write("/etc/smtpd.conf", &text);
    HomeServer::start(
        &root,
        address,
        &["/usr/sbin/smtpd", "-d"],
        Inbox::Maildir(root.at("/home/me/Maildir/new")),
        None,
    )
}

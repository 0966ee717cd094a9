//! Debian's chasquid: its own configuration directory, one user, a mailbox written by a line of shell.

use std::fs;
use std::path::Path;

use super::root::{Contents, Root};
use super::{HomeServer, Inbox, MEMBER, Printed};
use crate::loopback;

const CONTENTS: Contents<'_> = Contents {
    packages: &["chasquid"],
    programs: &["/usr/bin/chasquid", "/usr/bin/chasquid-util"],
    tools: &["/usr/bin/mktemp", "/usr/bin/cat"],
    accounts: &[],
};

/// chasquid hands each message to a program on its standard input.
const KEEP: &str = "exec cat > \"$(mktemp /home/me/Maildir/new/XXXXXXXX)\"";

pub(super) fn start(directory: &Path, domain: &str, printed: &Printed) -> HomeServer {
    let address = loopback::free_port();
    let root = Root::new(directory.join("chasquid"), &CONTENTS, printed);
    let certificates = format!("/etc/chasquid/certs/{domain}");
    for place in ["/home/me/Maildir/new", "/var/lib/chasquid", &certificates] {
        root.directory(place);
    }
    root.directory(&format!("/etc/chasquid/domains/{domain}"));
    // The package's example asks filters that are not installed here either, but by way of a shell that the root lacks.
    fs::remove_file(root.at("/etc/chasquid/hooks/post-data")).expect("the package has it");
    let issued = printed.directory().join("home");
    for (from, to) in [("pem", "fullchain.pem"), ("key", "privkey.pem")] {
        let from = issued.with_extension(from);
        let from = from.to_str().expect("temporary paths are UTF-8");
        root.write(&format!("{certificates}/{to}"), &root.read(from));
    }
    root.write(
        "/etc/chasquid/chasquid.conf",
        &format!(
            "hostname: \"{domain}\"\n\
             smtp_address: \"{address}\"\n\
             mail_delivery_agent_bin: \"/bin/sh\"\n\
             mail_delivery_agent_args: \"-c\"\n\
             mail_delivery_agent_args: {KEEP:?}\n\
             mail_log_path: \"<stderr>\"\n"
        ),
    );
    root.shell(&format!(
        "chasquid-util user-add {MEMBER}@{domain} --password=secret"
    ));
    HomeServer::start(
        &root,
        address,
        &["/usr/bin/chasquid"],
        Inbox::Maildir(root.at("/home/me/Maildir/new")),
        None,
    )
}

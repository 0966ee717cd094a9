//! Debian's Sendmail: a `sendmail.mc` of Debian's macros, put through m4.

use std::path::Path;

use super::root::{Contents, Root};
use super::{HomeServer, Inbox, MEMBER, Printed};
use crate::loopback;

const PROGRAM: &str = "/usr/libexec/sendmail/sendmail";
const MAILBOX: &str = "/var/mail/me";
const QUEUE: &str = "/var/spool/mqueue";

const CONTENTS: Contents<'_> = Contents {
    packages: &["sendmail-bin", "sendmail-base", "sendmail-cf"],
    programs: &[PROGRAM, "/usr/libexec/sendmail/mail.local"],
    tools: &["/usr/bin/m4"],
    accounts: &["smmta", "smmsp"],
};

pub(super) fn start(directory: &Path, domain: &str, printed: &Printed) -> HomeServer {
    let address = loopback::free_port();
    let root = Root::new(directory.join("sendmail"), &CONTENTS, printed);
    for place in [
        QUEUE,
        "/var/run/sendmail/mta",
        "/var/lib/sendmail/host_status",
    ] {
        root.directory(place);
    }
    root.directory_with("/var/mail", 0o1777);
    // `mail.local` makes a mailbox before it gives it to its owner; to a second one that looks in between it is
    // somebody else's, and the message goes back to its sender. An account that `useradd` made has one.
    root.file_of(MAILBOX, MEMBER);
    root.write("/etc/mail/aliases", "");
    root.write("/etc/mail/local-host-names", &format!("{domain}\n"));
    root.write(
        "/etc/mail/sendmail.mc",
        &format!(
            "define(`_USE_ETC_MAIL_')dnl\n\
             include(`/usr/share/sendmail/cf/m4/cf.m4')dnl\n\
             OSTYPE(`debian')dnl\n\
             DOMAIN(`debian-mta')dnl\n\
             FEATURE(`no_default_msa')dnl\n\
             DAEMON_OPTIONS(`Family=inet, Name=MTA-v4, Port={port}, Addr={ip}')dnl\n\
             FEATURE(`use_cw_file')dnl\n\
             FEATURE(`accept_unresolvable_domains')dnl\n\
             FEATURE(`nocanonify')dnl\n\
             FEATURE(`local_lmtp', `/usr/libexec/sendmail/mail.local', `mail.local -l')dnl\n\
             {tls}\
             MAILER_DEFINITIONS\n\
             MAILER(`local')dnl\n\
             MAILER(`smtp')dnl\n",
            ip = address.ip(),
            port = address.port(),
            tls = printed.below("Sendmail, sendmail.mc"),
        ),
    );
    let configuration = root.shell("/usr/bin/m4 /etc/mail/sendmail.mc");
    root.write("/etc/mail/sendmail.cf", &configuration);
    HomeServer::start(
        &root,
        address,
        &[PROGRAM, "-bD", "-q30m"],
        Inbox::Mbox(root.at(MAILBOX)),
        // It logs to syslog only; what it could not deliver says in the queue why.
        Some(root.at(QUEUE)),
    )
}

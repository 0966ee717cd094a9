//! Debian's Courier: the daemon that listens, the one that delivers, and the one that knows the accounts.
//!
//! It is the home that holds a refusal back for eight seconds (`TARPIT=1` in Debian's configuration), loses what stands
//! behind a dot, and bears five sessions of one address.

use std::path::Path;

use super::root::{Contents, Root};
use super::{HomeServer, Inbox, MEMBER, Printed};
use crate::loopback;
use crate::wait::{PATIENCE, until};

const LIB: &str = "/usr/lib/courier/courier";
const SOCKET: &str = "/run/courier/authdaemon/socket";

const CONTENTS: Contents<'_> = Contents {
    packages: &["courier-authlib", "courier-base", "courier-mta"],
    programs: &[
        "/usr/sbin/couriertcpd",
        "/usr/bin/couriertls",
        "/usr/lib/courier/courier-authlib/authdaemond",
        "/usr/lib/courier-authlib/libauthpam.so",
        "/usr/lib/courier/courier/courierd",
        "/usr/lib/courier/courier/submit",
        "/usr/lib/courier/courier/modules/esmtp/courieresmtp",
        "/usr/lib/courier/courier/modules/esmtp/courieresmtpd",
        "/usr/lib/courier/courier/modules/dsn/courierdsn",
        "/usr/lib/courier/courier/modules/local/courierlocal",
        "/usr/lib/courier/courier/modules/local/courierdeliver",
    ],
    tools: &[],
    accounts: &["courier"],
};

/// What the members' page says to set: Courier's own limit is 10 MB.
const SIZE_LIMIT: &str = "52428800\n";

pub(super) fn start(directory: &Path, domain: &str, printed: &Printed) -> HomeServer {
    let address = loopback::free_port();
    let root = Root::new(directory.join("courier"), &CONTENTS, printed);
    lay_out(&root, domain);
    // The certificate, its chain and the key in one file, as members are told.
    let issued = printed.directory().join("home");
    let part = |kind| {
        let path = issued.with_extension(kind);
        root.read(path.to_str().expect("temporary paths are UTF-8"))
    };
    root.file_of("/etc/courier/esmtpd.pem", "courier");
    root.write(
        "/etc/courier/esmtpd.pem",
        &(part("key") + "\n" + &part("pem")),
    );
    // Accounts first: the daemon that listens asks for them.
    let accounts = root.process(&[
        "/bin/sh",
        "-c",
        "set -a; . /etc/courier/authdaemonrc; exec /usr/lib/courier/courier-authlib/authdaemond",
    ]);
    until("Courier's accounts", PATIENCE, || {
        root.at(SOCKET).exists().then_some(())
    });
    let delivers = format!("set -a; cd /usr; . /etc/courier/courierd; exec {LIB}/courierd");
    let delivers = root.process(&["/bin/sh", "-c", &delivers]);
    // As Debian's /usr/sbin/esmtpd has it, in the foreground.
    let listens = format!(
        "sysconfdir=/etc/courier; sbindir=/usr/sbin; set -a; cd /usr; . /etc/courier/esmtpd; \
         exec /usr/sbin/couriertcpd -user=$MAILUSER -group=$MAILGROUP -address={ip} -noidentlookup -nodnslookup \
         -maxprocs=$MAXDAEMONS -maxperc=$MAXPERC -maxperip=$MAXPERIP {port} /usr/sbin/courieresmtpd",
        ip = address.ip(),
        port = address.port(),
    );
    let listens = root.process(&["/bin/sh", "-c", &listens]);
    HomeServer::listens(
        address,
        listens,
        vec![delivers, accounts],
        Inbox::Maildir(root.at("/home/me/Maildir/new")),
        None,
    )
}

/// What the packages' scripts would have made and asked for.
fn lay_out(root: &Root, domain: &str) {
    let state = "/var/lib/courier";
    for place in ["", "/allfilters", "/filters", "/msgq", "/msgs", "/track"] {
        root.directory_of(&format!("{state}{place}"), "courier");
    }
    root.directory_of(&format!("{state}/tmp"), "courier");
    root.directory_of("/run/courier", "courier");
    root.directory_of("/run/courier/authdaemon", "courier");
    root.directory("/etc/courier/filters/active");
    // Without it Courier keeps one file of that name.
    root.directory_of("/home/me/Maildir", MEMBER);
    for part in ["new", "cur", "tmp"] {
        root.directory_of(&format!("/home/me/Maildir/{part}"), MEMBER);
    }
    root.setuid(&format!("{LIB}/submitmkdir"), "courier");
    root.write("/etc/environment", "");
    let etc = |name: &str, text: &str| root.write(&format!("/etc/courier/{name}"), text);
    etc("me", domain);
    etc("defaultdomain", domain);
    etc("locals", &format!("localhost\n{domain}\n"));
    etc("esmtpacceptmailfor", &format!("{domain}\n"));
    etc("dsnfrom", &format!("postmaster@{domain}\n"));
    etc("sizelimit", SIZE_LIMIT);
    etc(
        "authdaemonrc",
        "authmodulelist=authpam\nauthmodulelistorig=authpam\ndaemons=1\n\
         authdaemonvar=/run/courier/authdaemon\nDEBUG_LOGIN=0\nDEFAULTOPTIONS=\nLOGGEROPTS=\n",
    );
    let debian = root.read("/etc/courier/esmtpd");
    let asks = "BOFHCHECKDNS=1\n";
    assert!(debian.contains(asks), "another esmtpd:\n{debian}");
    etc("esmtpd", &debian.replace(asks, "BOFHCHECKDNS=0\n"));
}

//! Debian's qpsmtpd: its own list of plugins, with TLS, one mailbox, and a Maildir in place of the mail server behind it.
//!
//! As packaged it takes nothing: `check_loop` stands for `loop` without reading its limit, so every message has too many
//! hops, and every dot is answered with 552.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::root::unpacked;
use super::{HomeServer, Inbox, MEMBER, Printed};
use crate::loopback;
use crate::process::Process;

/// What asks the DNS, and the server behind it that was asked for at its installation.
const LEFT_OUT: [&str; 3] = ["$include", "rhsbl", "dnsbl"];

/// Its plugin that counts hops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loop {
    AsPackaged,
    Mended,
}

pub(super) fn start(directory: &Path, domain: &str, printed: &Printed, hops: Loop) -> HomeServer {
    let address = loopback::free_port();
    let package = unpacked("qpsmtpd");
    let at = directory.join(format!("qpsmtpd-{hops:?}"));
    for part in [
        "config",
        "spool",
        "Maildir/new",
        "Maildir/cur",
        "Maildir/tmp",
    ] {
        fs::create_dir_all(at.join(part)).expect("a directory of our own");
    }
    let issued = printed.directory().join("home");
    let (chain, key) = (issued.with_extension("pem"), issued.with_extension("key"));
    let (chain, key, maildir) = (chain.display(), key.display(), at.join("Maildir"));
    let debian = read(&package.join("etc/qpsmtpd/plugins"));
    let kept = debian.lines().filter(|line| {
        let plugin = line.split_whitespace().next().unwrap_or_default();
        !plugin.starts_with('#') && !LEFT_OUT.contains(&plugin)
    });
    let mut plugins = format!("tls {chain} {key} {chain}\nrcpt_regexp\n");
    for line in kept {
        let line = match (line.trim(), hops) {
            ("check_loop", Loop::Mended) => "loop",
            (line, _) => line,
        };
        plugins += &format!("{line}\n");
    }
    plugins += &format!("queue/maildir {}\n", maildir.display());
    let spool = at.join("spool");
    for (name, text) in [
        ("plugins", plugins),
        ("me", domain.to_owned()),
        ("rcpthosts", domain.to_owned()),
        (
            "rcpt_regexp",
            format!("{MEMBER}@{domain} OK\n/./ DENY no such mailbox\n"),
        ),
        ("logging", "logging/warn LOGINFO\n".to_owned()),
        ("spool_dir", spool.display().to_string()),
        (
            "plugin_dirs",
            package
                .join("usr/share/qpsmtpd/plugins")
                .display()
                .to_string(),
        ),
    ] {
        fs::write(at.join("config").join(name), text).expect("a directory of our own");
    }
    let mut perl = Command::new("perl");
    perl.arg("-T")
        .arg("-I")
        .arg(package.join("usr/share/perl5"))
        .arg(package.join("usr/bin/qpsmtpd-forkserver"))
        .args(["--listen-address", &address.ip().to_string()])
        .args(["--port", &address.port().to_string(), "--no-rdns"])
        // Else, of root, it looks for an account of its own.
        .args(["--user", "root"])
        .env("QPSMTPD_CONFIG", at.join("config"));
    HomeServer::listens(
        address,
        Process::start("qpsmtpd", &mut perl),
        Vec::new(),
        Inbox::Maildir(maildir.join("new")),
        None,
    )
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

//! Debian's Postfix, as extra instances with their own configuration, queue, log and port.
//!
//! What a home server does with our mail, and what a feeder does with our replies, is only known once the real thing
//! has done it.
//!
//! # Invariants
//! Nothing of the machine's own Postfix is read or changed. An instance ends with its value.

mod config;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::ca::Identity;
use crate::loopback;
use crate::process::Process;
use crate::wait::{PATIENCE, until};

const PROGRAM: &str = "/usr/sbin/postfix";
/// Debian's `nobody`: owns the mailboxes.
const NOBODY: u32 = 65_534;

/// A running Postfix.
#[derive(Debug)]
pub struct Postfix {
    /// Configuration, queue, data, log and mail lie in here.
    directory: PathBuf,
    address: SocketAddr,
    process: Process,
}

/// What an instance is for.
#[derive(Debug, Clone, Copy)]
enum Role<'a> {
    /// A member's mail server: takes mail for `domain` and keeps it.
    Home {
        domain: &'a str,
        identity: &'a Identity,
    },
    /// The provider's MX: takes mail for `domain` and hands it over by LMTP.
    Feeder { domain: &'a str, lmtp: SocketAddr },
    /// Does our work: takes mail for `domain` and hands it to `to`, which has to show a certificate of this authority for
    /// that name, or may not have any.
    Relay {
        domain: &'a str,
        to: SocketAddr,
        authority: Option<&'a str>,
    },
}

impl Postfix {
    /// A mail server at home, below `world`: offers STARTTLS with this certificate and puts mail for `domain` into a
    /// mailbox.
    pub fn home(world: &Path, domain: &str, identity: &Identity) -> Self {
        Self::start(world.join("home"), Role::Home { domain, identity })
    }

    /// A feeder, below `world`: takes mail for `domain` by SMTP and hands it on by LMTP.
    pub fn feeder(world: &Path, domain: &str, lmtp: SocketAddr) -> Self {
        Self::start(world.join("feeder"), Role::Feeder { domain, lmtp })
    }

    /// A relay in our place, below `world`: takes mail for `domain` by SMTP and hands it to `to`; with an `authority` (PEM)
    /// only where it sees a certificate of that for the domain.
    pub fn relay(world: &Path, domain: &str, to: SocketAddr, authority: Option<&str>) -> Self {
        let role = Role::Relay {
            domain,
            to,
            authority,
        };
        Self::start(world.join(format!("relay-{domain}")), role)
    }

    fn start(directory: PathBuf, role: Role<'_>) -> Self {
        assert!(
            Path::new(PROGRAM).exists(),
            "{PROGRAM} is missing: `make deps` installs it"
        );
        let address = loopback::free_port();
        for name in ["config", "queue", "data", "mail", "log"] {
            fs::create_dir_all(directory.join(name)).expect("below a directory of our own");
        }
        give(&directory.join("data"), uid("postfix"));
        give(&directory.join("mail"), NOBODY);
        let config = directory.join("config");
        write(&config.join("main.cf"), &config::main(&directory, role));
        write(&config.join("master.cf"), &config::master(address));
        if let Role::Home { identity, .. } = role {
            write(&config.join("chain.pem"), identity.chain_pem());
            write(&config.join("key.pem"), identity.key_pem());
            let secret = fs::Permissions::from_mode(0o600);
            fs::set_permissions(config.join("key.pem"), secret).expect("our own file");
        }
        if let Role::Relay {
            authority: Some(pem),
            ..
        } = role
        {
            write(&config.join("authority.pem"), pem);
        }
        let mut command = Command::new(PROGRAM);
        command.arg("-c").arg(&config).arg("start-fg");
        let mut postfix = Self {
            process: Process::start("postfix", &mut command),
            directory,
            address,
        };
        postfix.up();
        postfix
    }

    /// Waits until the daemon runs; a mistake in the configuration ends it, with a word about why on standard error.
    fn up(&mut self) {
        until("Postfix to start", PATIENCE, || {
            assert!(self.process.runs(), "{}{}", self.process.tail(), self.log());
            self.log().contains("daemon started").then_some(())
        });
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process that all its others descend from.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Makes everything in its queue due.
    ///
    /// # Panics
    /// It does not run.
    pub fn flush(&self) {
        let flushed = Command::new(PROGRAM)
            .arg("-c")
            .arg(self.directory.join("config"))
            .arg("flush")
            .status();
        assert!(
            flushed.is_ok_and(|status| status.success()),
            "postfix flush"
        );
    }

    /// How many messages lie in one of its queues, such as `deferred`.
    pub fn queued(&self, queue: &str) -> usize {
        files(&self.directory.join("queue").join(queue))
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log/maillog")).unwrap_or_default()
    }

    /// Waits for a log line that holds `text`, and returns it.
    pub fn logged(&self, text: &str) -> String {
        until(
            &format!("`{text}` in {}'s log", self.directory.display()),
            PATIENCE,
            || {
                let log = self.log();
                let line = log.lines().find(|line| line.contains(text));
                line.map(str::to_owned)
            },
        )
    }

    /// The messages in the mailbox.
    pub fn mailbox(&self) -> Vec<String> {
        let new = self.directory.join("mail/inbox/new");
        let Ok(entries) = fs::read_dir(new) else {
            return Vec::new();
        };
        entries
            .filter_map(Result::ok)
            .filter_map(|entry| fs::read_to_string(entry.path()).ok())
            .collect()
    }

    /// Waits until as many messages lie in the mailbox.
    pub fn received(&self, count: usize) -> Vec<String> {
        until(
            &format!("{count} messages in the mailbox"),
            PATIENCE,
            || {
                let mailbox = self.mailbox();
                (mailbox.len() >= count).then_some(mailbox)
            },
        )
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        // `abort` also ends the daemons that master started; an error means that there are none.
        let _ = Command::new(PROGRAM)
            .arg("-c")
            .arg(self.directory.join("config"))
            .arg("abort")
            .output();
        // Its queue is about to be deleted: let it come to its end first.
        if !std::thread::panicking() {
            self.process.ended();
        }
    }
}

/// All files below a directory, some of which may go meanwhile.
fn files(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&entry.path()),
            Ok(_) => 1,
            Err(_) => 0,
        })
        .sum()
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn give(path: &Path, uid: u32) {
    chown(path, Some(uid), None)
        .unwrap_or_else(|error| panic!("{} (Postfix needs root): {error}", path.display()));
}

fn uid(user: &str) -> u32 {
    let accounts = fs::read_to_string("/etc/passwd").expect("there is a list of accounts");
    accounts
        .lines()
        .filter_map(|line| line.split_once(":x:"))
        .find(|(name, _)| *name == user)
        .and_then(|(_, rest)| rest.split(':').next()?.parse().ok())
        .unwrap_or_else(|| panic!("no account `{user}`: `make deps` installs Postfix"))
}

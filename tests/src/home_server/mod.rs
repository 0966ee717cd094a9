//! Debian's chasquid, Courier, Exim, OpenSMTPD, qpsmtpd and Sendmail as members' mail servers, set up as a member would
//! with what `ddadm cert issue` printed.
//!
//! They cannot be installed beside each other nor beside Postfix: `make deps` unpacks them, and each runs in a root of
//! its own ([`root`]) with the accounts, queue and mailbox its package would have; qpsmtpd, which is Perl and needs no
//! account, in a directory.
//!
//! # Invariants
//! All that a configuration says about TLS is what was printed. A server ends with its value.
//!
//! # Not here
//! Postfix, which is installed: [`crate::postfix`].

mod chasquid;
mod courier;
mod exim;
mod opensmtpd;
mod printed;
mod qpsmtpd;
mod root;
mod sendmail;

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};

use crate::process::Process;
use crate::wait::{PATIENCE, until};
use root::Root;

pub use printed::Printed;

/// Whose mailbox all servers keep, as `me@` their domain.
const MEMBER: &str = "me";
const MEMBER_ID: u32 = 2000;

/// A running server.
#[derive(Debug)]
pub struct HomeServer {
    address: SocketAddr,
    process: Process,
    /// What else belongs to it; they end after it.
    helpers: Vec<Process>,
    inbox: Inbox,
    /// Where it logs, besides standard error: a file, or a directory of them.
    log: Option<PathBuf>,
}

/// Where a server puts mail.
#[derive(Debug)]
enum Inbox {
    Maildir(PathBuf),
    /// One file, in which each message begins with a `From ` line.
    Mbox(PathBuf),
}

impl HomeServer {
    /// chasquid, for `domain`.
    pub fn chasquid(directory: &Path, domain: &str, printed: &Printed) -> Self {
        chasquid::start(directory, domain, printed)
    }

    /// Debian's configuration of Courier, for `domain`; only it asks no DNS about senders, for there is none.
    pub fn courier(directory: &Path, domain: &str, printed: &Printed) -> Self {
        courier::start(directory, domain, printed)
    }

    /// Debian's configuration of qpsmtpd, for `domain`, with a mailbox instead of a server behind it.
    pub fn qpsmtpd(directory: &Path, domain: &str, printed: &Printed) -> Self {
        qpsmtpd::start(directory, domain, printed, qpsmtpd::Loop::Mended)
    }

    /// The same as it is packaged: it takes nothing.
    pub fn qpsmtpd_as_packaged(directory: &Path, domain: &str, printed: &Printed) -> Self {
        qpsmtpd::start(directory, domain, printed, qpsmtpd::Loop::AsPackaged)
    }

    /// Debian's configuration of Exim, for `domain`.
    pub fn exim(directory: &Path, domain: &str, printed: &Printed) -> Self {
        exim::start(directory, domain, printed)
    }

    /// Debian's configuration of OpenSMTPD, for `domain`.
    pub fn opensmtpd(directory: &Path, domain: &str, printed: &Printed) -> Self {
        opensmtpd::start(directory, domain, printed)
    }

    /// Sendmail for `domain`, from Debian's macros.
    pub fn sendmail(directory: &Path, domain: &str, printed: &Printed) -> Self {
        sendmail::start(directory, domain, printed)
    }

    fn start(
        root: &Root,
        address: SocketAddr,
        command: &[&str],
        inbox: Inbox,
        log: Option<PathBuf>,
    ) -> Self {
        let process = root.process(command);
        Self::listens(address, process, Vec::new(), inbox, log)
    }

    fn listens(
        address: SocketAddr,
        process: Process,
        helpers: Vec<Process>,
        inbox: Inbox,
        log: Option<PathBuf>,
    ) -> Self {
        let mut server = Self {
            address,
            process,
            helpers,
            inbox,
            log,
        };
        until("a home server to listen", PATIENCE, || {
            assert!(server.process.runs(), "{}", server.log());
            TcpStream::connect(server.address).ok().map(drop)
        });
        server
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        let mut said = self.process.tail();
        for file in self.log.iter().flat_map(|log| files(log)) {
            said += &String::from_utf8_lossy(&fs::read(file).unwrap_or_default());
        }
        said
    }

    /// Waits until as many messages lie in the mailbox.
    pub fn received(&self, count: usize) -> Vec<String> {
        until(&format!("{count} messages at home"), PATIENCE, || {
            let mailbox = self.inbox.messages();
            (mailbox.len() >= count).then_some(mailbox)
        })
    }
}

/// The files of a directory, or the one file.
fn files(path: &Path) -> Vec<PathBuf> {
    match fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(_) => vec![path.to_owned()],
    }
}

impl Inbox {
    fn messages(&self) -> Vec<String> {
        match self {
            Self::Maildir(new) => files(new)
                .iter()
                .filter_map(|file| fs::read_to_string(file).ok())
                .collect(),
            Self::Mbox(path) => {
                let all = format!("\n{}", fs::read_to_string(path).unwrap_or_default());
                let messages = all.split("\nFrom ").skip(1);
                messages.map(str::to_owned).collect()
            }
        }
    }
}

impl Drop for HomeServer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            crate::world::show(&self.log());
        } else if self.process.runs() {
            // Its root is about to be deleted: let it and its helpers come to their end first.
            for process in std::iter::once(&mut self.process).chain(&mut self.helpers) {
                process.ask_to_end();
                process.ended();
            }
        }
    }
}

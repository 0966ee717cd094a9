//! What a member does with the files for his mail server.
//!
//! # Invariants
//! What is printed for a server, and the files it names, are all it takes to be proved and to have mail at once: the tests
//! set each of them up so, and with nothing else about TLS.

use std::fmt::Write as _;

use serde::Serialize;

/// Exim delivers the first ten messages of a connection at once, and leaves the others to its queue runner: half an hour on
/// Debian. Ours carry up to a thousand.
const EXIM_QUEUES_NOTHING: &str = "smtp_accept_queue_per_connection = 0\n";

/// For each server, whole lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lines {
    postfix: String,
    /// Debian's package: commands, then a line for its macros.
    exim_debian_commands: String,
    exim_debian: String,
    exim: String,
    opensmtpd: String,
    sendmail: String,
}

/// Where the member has what he needs; whole paths.
#[derive(Debug, Clone, Copy)]
pub struct Files<'a> {
    /// In which the others lie.
    pub directory: &'a str,
    pub key: &'a str,
    /// With the rest of its chain.
    pub certificate: &'a str,
    /// The authority's.
    pub ca: &'a str,
}

impl Lines {
    /// For a certificate with this name.
    pub fn new(name: &str, files: Files<'_>) -> Self {
        let Files {
            directory,
            key,
            certificate,
            ca,
        } = files;
        Self {
            postfix: format!(
                "smtpd_tls_security_level = may\n\
                 smtpd_tls_cert_file = {certificate}\n\
                 smtpd_tls_key_file = {key}\n"
            ),
            // Exim reads its key as its own user, which may not even enter a directory that is root's.
            exim_debian_commands: format!(
                "install -o root -g Debian-exim -m 640 {key} /etc/exim4/exim.key\n\
                 install -o root -g Debian-exim -m 644 {certificate} /etc/exim4/exim.crt\n"
            ),
            // Debian's configuration has the rest about TLS, behind this macro.
            exim_debian: format!("MAIN_TLS_ENABLE = yes\n{EXIM_QUEUES_NOTHING}"),
            exim: format!(
                "tls_advertise_hosts = *\n\
                 tls_certificate = {certificate}\n\
                 tls_privatekey = {key}\n\
                 {EXIM_QUEUES_NOTHING}"
            ),
            opensmtpd: format!(
                "pki {name} cert \"{certificate}\"\n\
                 pki {name} key \"{key}\"\n\
                 listen on all tls pki {name}\n"
            ),
            // Without a path of authorities Sendmail offers no STARTTLS at all.
            sendmail: format!(
                "define(`confCACERT_PATH', `{directory}')dnl\n\
                 define(`confCACERT', `{ca}')dnl\n\
                 define(`confSERVER_CERT', `{certificate}')dnl\n\
                 define(`confSERVER_KEY', `{key}')dnl\n"
            ),
        }
    }

    /// All of them, with where each belongs.
    pub fn each(&self) -> [(Place, &str); 6] {
        [
            (Place::Postfix, &self.postfix),
            (Place::EximDebianCommands, &self.exim_debian_commands),
            (Place::EximDebian, &self.exim_debian),
            (Place::Exim, &self.exim),
            (Place::OpenSmtpd, &self.opensmtpd),
            (Place::Sendmail, &self.sendmail),
        ]
    }

    /// The same as one text.
    pub fn text(&self) -> String {
        let mut text = String::from(
            "For one of these mail servers; restart it afterwards, for some read a key only then:\n",
        );
        for (place, lines) in self.each() {
            let _ = write!(text, "\n{}:\n", place.in_english());
            for line in lines.lines() {
                let _ = writeln!(text, "  {line}");
            }
        }
        text
    }
}

/// Where lines belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Postfix,
    /// Commands, as root.
    EximDebianCommands,
    EximDebian,
    Exim,
    OpenSmtpd,
    Sendmail,
}

impl Place {
    fn in_english(self) -> &'static str {
        match self {
            Self::Postfix => "Postfix, main.cf",
            Self::EximDebianCommands => "Exim on Debian, as root",
            Self::EximDebian => {
                "Exim on Debian, exim4.conf.localmacros, or conf.d/main/000_localmacros where it is split"
            }
            Self::Exim => {
                "Exim elsewhere, main section; Exim's user must be able to read the files"
            }
            Self::OpenSmtpd => {
                "OpenSMTPD, smtpd.conf, in place of its `listen on`; Debian 12: from backports, its 6.8 fails with any key"
            }
            Self::Sendmail => "Sendmail, sendmail.mc, before MAILER_DEFINITIONS",
        }
    }
}

//! What a member pastes into the configuration of his mail server.
//!
//! # Invariants
//! These lines and the files they name are all it takes.

use std::fmt::Write as _;

use serde::Serialize;

/// For each server, whole lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lines {
    postfix: String,
    exim: String,
    opensmtpd: String,
    sendmail: String,
}

impl Lines {
    /// For a certificate with this name; the others are paths of files.
    pub fn new(name: &str, key: &str, certificate: &str, ca: &str) -> Self {
        Self {
            postfix: format!(
                "smtpd_tls_security_level = may\n\
                 smtpd_tls_cert_file = {certificate}\n\
                 smtpd_tls_key_file = {key}\n"
            ),
            exim: format!(
                "tls_advertise_hosts = *\n\
                 tls_certificate = {certificate}\n\
                 tls_privatekey = {key}\n"
            ),
            opensmtpd: format!(
                "pki {name} cert \"{certificate}\"\n\
                 pki {name} key \"{key}\"\n"
            ),
            sendmail: format!(
                "define(`confCACERT', `{ca}')dnl\n\
                 define(`confSERVER_CERT', `{certificate}')dnl\n\
                 define(`confSERVER_KEY', `{key}')dnl\n"
            ),
        }
    }

    /// All of them, with where each belongs.
    pub fn text(&self) -> String {
        let mut text =
            String::from("Paste into the mail server's configuration, then reload it:\n");
        for (server, lines) in [
            ("Postfix, main.cf", &self.postfix),
            (
                "Exim, exim4.conf.localmacros or the main section; the key must be readable for Exim's user",
                &self.exim,
            ),
            (
                "OpenSMTPD, smtpd.conf; and `tls pki NAME` behind `listen on …`",
                &self.opensmtpd,
            ),
            ("Sendmail, sendmail.mc", &self.sendmail),
        ] {
            let _ = write!(text, "\n{server}:\n");
            for line in lines.lines() {
                let _ = writeln!(text, "  {line}");
            }
        }
        text
    }
}

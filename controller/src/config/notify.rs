//! What the keys of `[notify]` say together.

use dd_proto::site::HostName;

use super::{Notify, SmarthostTls};

/// The port of submission where TLS begins with the first byte (RFC 8314 §7.3).
const SUBMISSIONS: u16 = 465;

/// Two keys that cannot both be meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Contradiction {
    /// Whose line is named.
    pub(super) key: &'static str,
    pub(super) says: &'static str,
}

impl SmarthostTls {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Opportunistic => "opportunistic",
            Self::Never => "never",
        }
    }
}

impl Notify {
    pub fn tls(&self) -> SmarthostTls {
        let usual = match &self.smarthost_user {
            Some(_) => SmarthostTls::Verify,
            None => SmarthostTls::Opportunistic,
        };
        self.smarthost_tls.unwrap_or(usual)
    }

    pub fn tls_on_connect(&self) -> bool {
        let port = self.smarthost.as_ref().map(|it| it.port.get());
        let usual = port == Some(SUBMISSIONS) && self.tls() != SmarthostTls::Never;
        self.smarthost_tls_on_connect.unwrap_or(usual)
    }

    pub(super) fn contradiction(&self) -> Option<Contradiction> {
        let found = |key, says| Some(Contradiction { key, says });
        let tls = self.tls();
        let host = self.smarthost.as_ref().map(|it| &it.host);
        let more = [
            ("smarthost_user", self.smarthost_user.is_some()),
            (
                "smarthost_password_file",
                self.smarthost_password_file.is_some(),
            ),
            ("smarthost_tls", self.smarthost_tls.is_some()),
            ("smarthost_ca", self.smarthost_ca.is_some()),
            (
                "smarthost_tls_on_connect",
                self.smarthost_tls_on_connect.is_some(),
            ),
        ];
        if let (None, Some((key, _))) = (host, more.into_iter().find(|(_, said)| *said)) {
            return found(key, "there is no `smarthost` that it could be about");
        }
        match (&self.smarthost_user, &self.smarthost_password_file) {
            (Some(_), None) => {
                return found(
                    "smarthost_user",
                    "expected `smarthost_password_file` beside it",
                );
            }
            (None, Some(_)) => {
                return found(
                    "smarthost_password_file",
                    "expected `smarthost_user` beside it",
                );
            }
            (Some(_), Some(_)) if tls != SmarthostTls::Verify => {
                return found(
                    "smarthost_tls",
                    "a password is told only to a server that has shown its certificate: expected \"verify\"",
                );
            }
            _ => {}
        }
        if self.smarthost_ca.is_some() && tls != SmarthostTls::Verify {
            return found(
                "smarthost_ca",
                "no certificate is judged by it: expected `smarthost_tls = \"verify\"` beside it",
            );
        }
        if tls == SmarthostTls::Never && self.tls_on_connect() {
            return found(
                "smarthost_tls",
                "\"never\" and `smarthost_tls_on_connect = true` exclude each other",
            );
        }
        if tls == SmarthostTls::Verify && matches!(host, Some(HostName::Address(_))) {
            return found(
                "smarthost",
                "a certificate is for a name: expected the server's name instead of its address",
            );
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Config;
    use super::*;

    fn parsed(lines: &str) -> Result<Config, String> {
        let text = format!("hostname = \"a.example\"\nstate_dir = \"/s\"\n[notify]\n{lines}");
        Config::parse(&text, Path::new("c.toml")).map_err(|error| error.to_string())
    }

    const NAMED: &str = "smarthost = \"smtp.example.net:587\"\n";
    const LOGIN: &str = "smarthost_user = \"us\"\nsmarthost_password_file = \"/p\"\n";

    #[test]
    fn tls_is_verified_where_there_is_a_user_and_begins_at_once_on_port_465() {
        for (lines, tls, on_connect) in [
            (String::new(), SmarthostTls::Opportunistic, false),
            (NAMED.to_owned(), SmarthostTls::Opportunistic, false),
            (format!("{NAMED}{LOGIN}"), SmarthostTls::Verify, false),
            (
                "smarthost = \"smtp.example.net:465\"\n".to_owned(),
                SmarthostTls::Opportunistic,
                true,
            ),
            (
                "smarthost = \"smtp.example.net:465\"\nsmarthost_tls_on_connect = false\n"
                    .to_owned(),
                SmarthostTls::Opportunistic,
                false,
            ),
            (
                "smarthost = \"192.0.2.1:465\"\nsmarthost_tls = \"never\"\n".to_owned(),
                SmarthostTls::Never,
                false,
            ),
            (
                format!("{NAMED}smarthost_tls = \"verify\"\nsmarthost_tls_on_connect = true\n"),
                SmarthostTls::Verify,
                true,
            ),
        ] {
            let notify = parsed(&lines).unwrap().notify;
            let said = (notify.tls(), notify.tls_on_connect());
            assert_eq!(said, (tls, on_connect), "{lines}");
        }
    }

    #[test]
    fn what_cannot_both_be_meant_is_refused_with_its_line() {
        for (lines, refused) in [
            (
                LOGIN.to_owned(),
                "c.toml:4: `smarthost_user` of [notify]: there is no `smarthost`",
            ),
            (
                format!("{NAMED}smarthost_user = \"us\"\n"),
                "c.toml:5: `smarthost_user` of [notify]: expected `smarthost_password_file`",
            ),
            (
                format!("{NAMED}smarthost_password_file = \"/p\"\n"),
                "c.toml:5: `smarthost_password_file` of [notify]: expected `smarthost_user`",
            ),
            (
                format!("{NAMED}{LOGIN}smarthost_tls = \"opportunistic\"\n"),
                "c.toml:7: `smarthost_tls` of [notify]: a password is told only",
            ),
            (
                format!("{NAMED}smarthost_ca = \"/ca.pem\"\n"),
                "c.toml:5: `smarthost_ca` of [notify]: no certificate is judged",
            ),
            (
                format!("{NAMED}smarthost_tls = \"never\"\nsmarthost_tls_on_connect = true\n"),
                "c.toml:5: `smarthost_tls` of [notify]: \"never\"",
            ),
            (
                format!("smarthost = \"192.0.2.1:587\"\n{LOGIN}"),
                "c.toml:4: `smarthost` of [notify]: a certificate is for a name",
            ),
            (
                format!("{NAMED}smarthost_tls = \"maybe\"\n"),
                "c.toml:5: unknown variant `maybe`",
            ),
        ] {
            let error = parsed(&lines).unwrap_err();
            assert!(error.starts_with(refused), "{lines}: {error}");
        }
    }
}

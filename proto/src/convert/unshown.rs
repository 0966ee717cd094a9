//! Generated types show themselves as they are, for logs and tests; but not those that hold a secret.

use std::fmt;

use crate::pb;

macro_rules! show_only {
    ($($message:ident: $($field:ident),+;)+) => {$(
        impl fmt::Debug for pb::$message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($message))
                    $(.field(stringify!($field), &self.$field))+
                    .finish_non_exhaustive()
            }
        }
    )+};
}

// The same are in `skip_debug` of build.rs.
show_only! {
    Login: user;
    JoinToken: name;
    JoinRequest: name;
    SitePasswordRequest: name;
    SitePassword: name;
    AddAgentResponse: name;
    IssuedCertificate: summary;
}

/// The whole of it is secret.
impl fmt::Debug for pb::WakeSecretResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WakeSecretResponse").finish_non_exhaustive()
    }
}

/// The password is left out. All else is named here, so that a new field is not forgotten.
impl fmt::Debug for pb::SiteSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        macro_rules! show {
            ($($field:ident),+) => {{
                let Self { $($field,)+ password: _ } = self;
                f.debug_struct("SiteSpec")
                    $(.field(stringify!($field), $field))+
                    .finish_non_exhaustive()
            }};
        }
        show!(
            name,
            domains,
            hosts,
            proof,
            recipients,
            connections,
            retry_ms,
            lifetime_ms,
            max_message_bytes,
            quota_messages,
            quota_bytes,
            contact,
            allow_targets,
            clear,
            delay_warning_ms,
            agents,
            hand_over,
            outage_notice_ms,
            language,
            client_certificate,
            tls_on_connect,
            lmtp,
            family
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_in_what_a_message_shows() {
        let secret = || "tanstaaf".to_owned();
        let name = || "home".to_owned();
        let shown = [
            format!(
                "{:?}",
                pb::Login {
                    user: name(),
                    password: secret()
                }
            ),
            format!(
                "{:?}",
                pb::JoinRequest {
                    name: name(),
                    secret: secret().into(),
                    csr: secret().into(),
                }
            ),
            format!(
                "{:?}",
                pb::SitePassword {
                    name: name(),
                    password: secret()
                }
            ),
            format!(
                "{:?}",
                pb::AddAgentResponse {
                    name: name(),
                    token: secret()
                }
            ),
            format!(
                "{:?}",
                pb::SiteSpec {
                    name: name(),
                    password: Some(secret()),
                    ..pb::SiteSpec::default()
                }
            ),
        ];
        for shown in shown {
            assert!(shown.contains("home"), "{shown}");
            assert!(!shown.contains("tanstaaf"), "{shown}");
        }
        let url = pb::WakeSecretResponse {
            url: secret(),
            secret: secret(),
        };
        assert_eq!(format!("{url:?}"), "WakeSecretResponse { .. }");
        let issued = pb::IssuedCertificate {
            private_key: secret().into(),
            ..pb::IssuedCertificate::default()
        };
        assert_eq!(
            format!("{issued:?}"),
            "IssuedCertificate { summary: None, .. }"
        );
    }
}

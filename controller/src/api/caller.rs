//! Who calls: what the connection proves about its other end.

use dd_proto::name::AgentName;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::authority::{ADMIN_URI, AGENT_URI};

/// The other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Without a certificate.
    Nobody,
    Agent(AgentName),
    /// By certificate, or over the local socket; the name is for the audit.
    Admin(String),
}

impl Caller {
    /// By a certificate that chains to the control plane's authority, which TLS has checked. Whatever names neither
    /// an agent nor an administrator, or several, is nobody's.
    pub fn of_certificate(der: &[u8]) -> Self {
        let Ok((_, certificate)) = X509Certificate::from_der(der) else {
            return Self::Nobody;
        };
        let Ok(Some(names)) = certificate.subject_alternative_name() else {
            return Self::Nobody;
        };
        let [GeneralName::URI(uri)] = names.value.general_names[..] else {
            return Self::Nobody;
        };
        let agent = uri
            .strip_prefix(AGENT_URI)
            .and_then(|name| name.parse().ok());
        let admin = uri.strip_prefix(ADMIN_URI).filter(|name| !name.is_empty());
        match (agent, admin) {
            (Some(agent), _) => Self::Agent(agent),
            (_, Some(admin)) => Self::Admin(admin.to_owned()),
            _ => Self::Nobody,
        }
    }

    /// By the user at the other end of the local socket, whose mode says who may connect.
    pub fn of_user(uid: u32) -> Self {
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        Self::Admin(user_name(&users, uid).unwrap_or_else(|| uid.to_string()))
    }

    /// For the audit.
    pub fn who(&self) -> &str {
        match self {
            Self::Nobody => "nobody",
            Self::Agent(name) => name.as_str(),
            Self::Admin(name) => name,
        }
    }
}

fn user_name(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, id) = (fields.next()?, fields.next()?, fields.next()?);
        (id.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    #[test]
    fn a_certificate_speaks_for_the_one_name_it_carries() {
        let uri = |text: &str| SanType::URI(text.try_into().unwrap());
        let agent = Caller::Agent("out1".parse().unwrap());
        for (names, expected) in [
            (vec![uri("dd:agent:out1")], agent),
            (vec![uri("dd:admin:anna")], Caller::Admin("anna".to_owned())),
            (vec![uri("dd:admin:")], Caller::Nobody),
            (vec![uri("dd:agent:a b")], Caller::Nobody),
            (vec![uri("https://out1.example")], Caller::Nobody),
            (
                vec![uri("dd:agent:out1"), uri("dd:admin:anna")],
                Caller::Nobody,
            ),
            (vec![], Caller::Nobody),
        ] {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.subject_alt_names = names;
            let key = KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap();
            assert_eq!(Caller::of_certificate(certificate.der()), expected);
        }
        assert_eq!(Caller::of_certificate(b"nothing"), Caller::Nobody);
    }

    #[test]
    fn a_user_without_a_name_is_a_number() {
        let users = "root:x:0:0::/root:/bin/sh\nanna:x:1000:1000::/:/bin/sh\n";
        assert_eq!(user_name(users, 1000).as_deref(), Some("anna"));
        assert_eq!(user_name(users, 1), None);
    }
}

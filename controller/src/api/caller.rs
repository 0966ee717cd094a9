//! Who calls: what the connection proves about its other end.

use dd_proto::name::{AdminName, AgentName};
use jiff::Timestamp;

use crate::authority::client::{AgentKey, Client, Subject};

/// The other end of a connection, and where it is.
#[derive(Debug, Clone)]
pub(super) struct OtherEnd {
    pub(super) caller: Caller,
    /// An address with its port, or that it is the local socket.
    pub(super) from: String,
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Without a certificate.
    Nobody,
    Agent(AgentId),
    /// An agent whose certificate had ended when it connected.
    Lapsed(AgentId),
    /// An administrator by certificate.
    Admin(AdminId),
    /// Whoever may open the local socket; the name is for the audit.
    Local(String),
}

/// An agent as its certificate says: the name it bears, and the key it has. Only the key tells it from another that
/// bore the name before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentId {
    pub name: AgentName,
    pub key: AgentKey,
}

/// An administrator as its certificate says; only the key tells it from another that bore the name before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminId {
    pub name: AdminName,
    pub key: AgentKey,
}

impl Caller {
    /// By a certificate that TLS has checked. Whatever names neither an agent nor an administrator is nobody's.
    pub fn of_certificate(der: &[u8], now: Timestamp) -> Self {
        let Some(client) = Client::read(der) else {
            return Self::Nobody;
        };
        let has_ended = now > client.not_after;
        match client.subject {
            Subject::Agent { name, key } if has_ended => Self::Lapsed(AgentId { name, key }),
            Subject::Agent { name, key } => Self::Agent(AgentId { name, key }),
            Subject::Admin { .. } if has_ended => Self::Nobody,
            Subject::Admin { name, key } => Self::Admin(AdminId { name, key }),
        }
    }

    /// By the user at the other end of the local socket, whose mode says who may connect.
    pub fn of_user(uid: u32) -> Self {
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        Self::Local(user_name(&users, uid).unwrap_or_else(|| uid.to_string()))
    }

    /// For the audit.
    pub fn who(&self) -> &str {
        match self {
            Self::Nobody => "nobody",
            Self::Agent(agent) | Self::Lapsed(agent) => agent.name.as_str(),
            Self::Admin(admin) => admin.name.as_str(),
            Self::Local(user) => user,
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
    fn an_agent_lapses_with_its_certificate_and_an_administrator_is_nobody() {
        let end = Timestamp::from_second(1_800_000_000).unwrap();
        let read = |uri: &str, second| {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
            params.not_after = time::OffsetDateTime::from_unix_timestamp(end.as_second()).unwrap();
            let key = KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap();
            Caller::of_certificate(
                certificate.der(),
                Timestamp::from_second(end.as_second() + second).unwrap(),
            )
        };
        assert!(
            matches!(read("dd:agent:out1", 0), Caller::Agent(it) if it.name.as_str() == "out1")
        );
        assert!(
            matches!(read("dd:agent:out1", 1), Caller::Lapsed(it) if it.name.as_str() == "out1")
        );
        assert!(
            matches!(read("dd:admin:anna", 0), Caller::Admin(it) if it.name.as_str() == "anna")
        );
        assert_eq!(read("dd:admin:anna", 1), Caller::Nobody);
        assert_eq!(read("https://out1.example", 0), Caller::Nobody);
        assert_eq!(Caller::of_certificate(b"nothing", end), Caller::Nobody);
    }

    #[test]
    fn a_user_without_a_name_is_a_number() {
        let users = "root:x:0:0::/root:/bin/sh\nanna:x:1000:1000::/:/bin/sh\n";
        assert_eq!(user_name(users, 1000).as_deref(), Some("anna"));
        assert_eq!(user_name(users, 1), None);
    }
}

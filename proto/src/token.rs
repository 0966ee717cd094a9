//! The join token: what `ddadm agent add` prints and `dd-agent --join` takes.
//!
//! It carries the control plane's authority, so the very first connection is already verified against it by the
//! ordinary means: there is no moment of blind trust and no verifier of our own.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message as _;

use crate::name::AgentName;
use crate::pb;

const PREFIX: &str = "ddjoin1.";

/// A parsed join token.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    pub name: AgentName,
    /// 32 random bytes.
    pub secret: Vec<u8>,
    /// The control plane's authority, DER.
    pub authority: Vec<u8>,
}

/// Why a text is no join token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a join token: expected the whole line that `ddadm agent add` printed, beginning with `ddjoin1.`"
)]
pub struct JoinTokenError;

impl std::fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinToken")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl JoinToken {
    /// The one line that is printed.
    pub fn encode(&self) -> String {
        let bytes = pb::JoinToken {
            name: self.name.to_string(),
            secret: self.secret.clone().into(),
            authority: self.authority.clone().into(),
        }
        .encode_to_vec();
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&bytes))
    }

    /// # Errors
    /// Anything but what [`encode`](Self::encode) makes; white space around it is ignored.
    pub fn parse(text: &str) -> Result<Self, JoinTokenError> {
        let body = text.trim().strip_prefix(PREFIX).ok_or(JoinTokenError)?;
        let bytes = URL_SAFE_NO_PAD.decode(body).map_err(|_| JoinTokenError)?;
        let token = pb::JoinToken::decode(&*bytes).map_err(|_| JoinTokenError)?;
        Ok(Self {
            name: token.name.parse().map_err(|_| JoinTokenError)?,
            secret: token.secret.to_vec(),
            authority: token.authority.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_token_is_taken() {
        let token = JoinToken {
            name: "out1".parse().unwrap(),
            secret: vec![7; 32],
            authority: vec![0x30; 300],
        };
        let line = token.encode();
        assert_eq!(JoinToken::parse(&format!(" {line}\n")), Ok(token));
        for bad in ["", "ddjoin1.", &line[1..], &line[..line.len() - 5]] {
            assert_eq!(JoinToken::parse(bad), Err(JoinTokenError), "{bad:?}");
        }
    }
}

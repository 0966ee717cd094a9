//! The only file that turns generated types into the domain's, and back.

mod report;
mod site;
mod unshown;

use jiff::Timestamp;
use std::time::Duration;

use crate::client::{Client, Spoken};
use crate::envelope::{Body, Encoding, Envelope, Recipient, Ret};
use crate::id::{DeliveryId, Generation, Lease, MessageId, RecipientNumber, SessionId};
use crate::pb;
use crate::report::{
    Delays, Disposition, DotSent, Observed, Outcome, PeerCertificate, RecipientResult,
    RefusalReason, Reply, Report, SaidBy, Stage, Told,
};
use crate::site::{Certified, Host, HostName, Proof};
use crate::smtp::auth::Login;

/// A field that is missing or malformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is missing or malformed")]
pub struct ConvertError(pub &'static str);

impl From<Lease> for pb::Lease {
    fn from(lease: Lease) -> Self {
        Self {
            message_id: lease.delivery.message.as_bytes().to_vec().into(),
            site: lease.delivery.site.to_string(),
            generation: Some(pb::Generation {
                start: lease.generation.start,
                counter: lease.generation.counter,
            }),
        }
    }
}

impl TryFrom<pb::Lease> for Lease {
    type Error = ConvertError;

    fn try_from(lease: pb::Lease) -> Result<Self, ConvertError> {
        let generation = lease.generation.ok_or(ConvertError("generation"))?;
        Ok(Self {
            delivery: DeliveryId {
                message: MessageId::try_from(&lease.message_id[..])
                    .map_err(|_| ConvertError("message_id"))?,
                site: lease.site.parse().map_err(|_| ConvertError("site"))?,
            },
            generation: Generation {
                start: generation.start,
                counter: generation.counter,
            },
        })
    }
}

impl From<&Login> for pb::Login {
    fn from(login: &Login) -> Self {
        Self {
            user: login.user().to_owned(),
            password: login.password().to_owned(),
        }
    }
}

impl TryFrom<pb::Login> for Login {
    type Error = ConvertError;

    fn try_from(login: pb::Login) -> Result<Self, ConvertError> {
        Self::new(login.user, login.password).map_err(|_| ConvertError("login"))
    }
}

impl TryFrom<pb::Host> for Host {
    type Error = ConvertError;

    fn try_from(host: pb::Host) -> Result<Self, ConvertError> {
        let name = match host.host.parse() {
            Ok(ip) => HostName::Address(ip),
            Err(_) => HostName::Dns(host.host.parse().map_err(|_| ConvertError("host"))?),
        };
        let port = u16::try_from(host.port).map_err(|_| ConvertError("port"))?;
        Ok(Self {
            name,
            port: port.try_into().map_err(|_| ConvertError("port"))?,
        })
    }
}

impl TryFrom<pb::Proof> for Proof {
    type Error = ConvertError;

    fn try_from(proof: pb::Proof) -> Result<Self, ConvertError> {
        use pb::proof::Kind;
        Ok(match proof.kind.ok_or(ConvertError("proof"))? {
            Kind::StaticIp(it) => Self::StaticIp {
                addresses: it
                    .addresses
                    .iter()
                    .map(|a| a.parse().map_err(|_| ConvertError("addresses")))
                    .collect::<Result<_, _>>()?,
                certificate: it.certificate.map(TryInto::try_into).transpose()?,
            },
            Kind::Certificate(it) => Self::Certificate(it.try_into()?),
            Kind::Fingerprint(it) => Self::Fingerprint {
                listed: it
                    .sha256
                    .iter()
                    .map(|text| text.parse().map_err(|_| ConvertError("sha256")))
                    .collect::<Result<_, _>>()?,
            },
            Kind::Public(it) => Self::Public {
                name: it.name.parse().map_err(|_| ConvertError("name"))?,
            },
            Kind::Port(_) => Self::Port,
            Kind::Configured(_) => Self::Configured,
        })
    }
}

impl TryFrom<pb::proof::Certificate> for Certified {
    type Error = ConvertError;

    fn try_from(it: pb::proof::Certificate) -> Result<Self, ConvertError> {
        let authority = it.authority.parse();
        Ok(Self {
            authority: authority.map_err(|_| ConvertError("authority"))?,
            name: it.name.parse().map_err(|_| ConvertError("name"))?,
        })
    }
}

impl From<Envelope> for pb::Envelope {
    fn from(envelope: Envelope) -> Self {
        Self {
            smtputf8: envelope.wants_utf8(),
            reverse_path: envelope.reverse_path.written().into_owned(),
            eight_bit: envelope.body == Body::EightBitMime,
            ret: envelope.ret.map(Ret::as_str).unwrap_or_default().to_owned(),
            envid: envelope.envid.unwrap_or_default(),
            recipients: envelope.recipients.into_iter().map(Into::into).collect(),
            client: envelope.client.map(|it| (*it).into()),
        }
    }
}

impl From<Client> for pb::Client {
    fn from(it: Client) -> Self {
        Self {
            name: it.name.unwrap_or_default(),
            address: it.address.map(|it| it.to_string()).unwrap_or_default(),
            port: it.port.unwrap_or(0).into(),
            helo: it.helo.unwrap_or_default(),
            protocol: it
                .protocol
                .map(Spoken::as_str)
                .unwrap_or_default()
                .to_owned(),
        }
    }
}

/// What cannot be read is not known: no mail waits for it.
impl From<pb::Client> for Client {
    fn from(it: pb::Client) -> Self {
        let name = match it.name.as_str() {
            "[TEMPUNAVAIL]" => Some(it.name),
            name => crate::client::name(name),
        };
        Self {
            name,
            address: it.address.parse().ok(),
            port: u16::try_from(it.port).ok().filter(|it| *it != 0),
            helo: crate::client::name(&it.helo),
            protocol: Spoken::of(&it.protocol),
        }
    }
}

impl From<Recipient> for pb::Recipient {
    fn from(it: Recipient) -> Self {
        Self {
            number: it.number.0.into(),
            forward_path: it.path.0.written().into_owned(),
            notify: it.notify.unwrap_or_default(),
            orcpt: it.orcpt.unwrap_or_default(),
        }
    }
}

fn present(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

impl TryFrom<pb::Envelope> for Envelope {
    type Error = ConvertError;

    fn try_from(envelope: pb::Envelope) -> Result<Self, ConvertError> {
        Ok(Self {
            reverse_path: envelope
                .reverse_path
                .parse()
                .map_err(|_| ConvertError("reverse_path"))?,
            body: if envelope.eight_bit {
                Body::EightBitMime
            } else {
                Body::SevenBit
            },
            encoding: if envelope.smtputf8 {
                Encoding::Utf8
            } else {
                Encoding::Ascii
            },
            ret: match envelope.ret.as_str() {
                "" => None,
                "FULL" => Some(Ret::Full),
                "HDRS" => Some(Ret::Headers),
                _ => return Err(ConvertError("ret")),
            },
            envid: present(envelope.envid),
            recipients: envelope
                .recipients
                .into_iter()
                .map(|r| {
                    Ok(Recipient {
                        number: number(r.number)?,
                        path: r
                            .forward_path
                            .parse()
                            .map_err(|_| ConvertError("forward_path"))?,
                        notify: present(r.notify),
                        orcpt: present(r.orcpt),
                    })
                })
                .collect::<Result<_, _>>()?,
            client: envelope.client.map(|it| Box::new(it.into())),
        })
    }
}

fn number(number: u32) -> Result<RecipientNumber, ConvertError> {
    u16::try_from(number)
        .map(RecipientNumber)
        .map_err(|_| ConvertError("number"))
}

impl From<Reply> for pb::Reply {
    fn from(reply: Reply) -> Self {
        Self {
            code: reply.code.into(),
            enhanced: reply.enhanced,
            text: reply.text,
        }
    }
}

impl From<DotSent> for pb::DotSent {
    fn from(dot: DotSent) -> Self {
        Self {
            lease: Some(dot.lease.into()),
            recipients: dot.recipients.iter().map(|n| n.0.into()).collect(),
        }
    }
}

impl From<RefusalReason> for pb::Refusal {
    fn from(refusal: RefusalReason) -> Self {
        Self {
            reason: refusal.reason,
            sentence: refusal.sentence,
            wanted: refusal.wanted,
            seen: refusal.seen,
        }
    }
}

impl From<PeerCertificate> for pb::PeerCertificate {
    fn from(it: PeerCertificate) -> Self {
        Self {
            subject: it.subject,
            issuer: it.issuer,
            names: it.names,
            sha256: it.sha256,
            not_before_ms: it.not_before.as_millisecond(),
            not_after_ms: it.not_after.as_millisecond(),
            chain_length: it.chain_length,
            spki_sha256: it.spki_sha256,
        }
    }
}

impl From<Observed> for pb::Observed {
    fn from(it: Observed) -> Self {
        Self {
            host: it.host,
            peer: it.peer,
            local: it.local,
            greeting: it.greeting,
            tls_version: it.tls_version,
            tls_cipher: it.tls_cipher,
            certificate: it.certificate.map(Into::into),
            proof: it.proof,
            refusal: it.refusal.map(Into::into),
        }
    }
}

impl From<Outcome> for pb::Outcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Transacted => Self::Transacted,
            Outcome::Unreachable => Self::Unreachable,
            Outcome::WrongHost => Self::WrongHost,
            Outcome::Refused => Self::Refused,
            Outcome::Busy => Self::Busy,
            Outcome::Broken => Self::Broken,
            Outcome::InDoubt => Self::InDoubt,
            Outcome::AgentTrouble => Self::AgentTrouble,
        }
    }
}

impl From<RecipientResult> for pb::RecipientResult {
    fn from(it: RecipientResult) -> Self {
        let disposition = match it.disposition {
            Disposition::Relayed => pb::Disposition::Relayed,
            Disposition::Deferred => pb::Disposition::Deferred,
            Disposition::Failed => pb::Disposition::Failed,
        };
        Self {
            number: it.number.0.into(),
            disposition: disposition.into(),
            reply: Some(it.reply.into()),
            dsn_passed_on: it.told == Told::PassedOn,
            not_asked: it.by == SaidBy::TheAgent,
        }
    }
}

/// Rounded up, for 0 means that it was not reached.
fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)
}

impl From<Report> for pb::Report {
    fn from(it: Report) -> Self {
        let Report {
            lease,
            session: SessionId(session),
            ..
        } = it;
        let Delays {
            connect,
            proof,
            total,
        } = it.delays;
        let at: Timestamp = it.at;
        Self {
            lease: Some(lease.into()),
            session,
            outcome: pb::Outcome::from(it.outcome).into(),
            detail: it.detail,
            observed: Some(it.observed.into()),
            recipients: it.recipients.into_iter().map(Into::into).collect(),
            dot_sent: it.dot_sent,
            reply: it.reply.map(Into::into),
            connect_ms: ms(connect),
            proof_ms: ms(proof),
            total_ms: ms(total),
            at_ms: at.as_millisecond(),
            stage: pb::Stage::from(it.stage).into(),
        }
    }
}

impl From<Stage> for pb::Stage {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Unknown => Self::Unspecified,
            Stage::Session => Self::Session,
            Stage::Mail => Self::Mail,
            Stage::Rcpt => Self::Rcpt,
            Stage::Data => Self::Data,
            Stage::Content => Self::Content,
            Stage::EndOfData => Self::EndOfData,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_reached_at_once_is_told_from_what_was_not_reached() {
        let micros = [0, 1, 1_000, 1_001].map(Duration::from_micros);
        assert_eq!(micros.map(ms), [0, 1, 1, 2]);
    }

    #[test]
    fn an_envelope_comes_back_as_it_was() {
        let envelope = Envelope {
            reverse_path: "\"a b\"@c.example".parse().unwrap(),
            body: Body::EightBitMime,
            encoding: Encoding::Utf8,
            ret: Some(Ret::Headers),
            envid: Some("x+2B".to_owned()),
            recipients: vec![Recipient {
                number: RecipientNumber(5),
                path: "Anna@home.example".parse().unwrap(),
                notify: Some("NEVER".to_owned()),
                orcpt: None,
            }],
            client: Some(Box::new(Client {
                name: Some("[TEMPUNAVAIL]".to_owned()),
                address: Some("2001:db8::1".parse().unwrap()),
                port: None,
                helo: Some("[192.0.2.1]".to_owned()),
                protocol: Some(Spoken::Esmtp),
            })),
        };
        let wire = pb::Envelope::from(envelope.clone());
        assert_eq!(Envelope::try_from(wire), Ok(envelope));
    }
}

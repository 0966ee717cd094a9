//! Reports and what was observed: from the wire.

use jiff::Timestamp;
use std::time::Duration;

use super::{ConvertError, number};
use crate::id::{Lease, RecipientNumber, SessionId};
use crate::pb;
use crate::report::{
    Delays, Disposition, DotSent, GivenBack, Observed, Outcome, PeerCertificate, RecipientResult,
    RefusalReason, Reply, Report, SaidBy, Stage, Told,
};

fn lease(lease: Option<pb::Lease>) -> Result<Lease, ConvertError> {
    lease.ok_or(ConvertError("lease"))?.try_into()
}

fn at(ms: i64, field: &'static str) -> Result<Timestamp, ConvertError> {
    Timestamp::from_millisecond(ms).map_err(|_| ConvertError(field))
}

/// A time in a certificate. RFC 5280 §4.1.2.5: 99991231235959Z says that there is no end; whoever says it as it is goes a day
/// past the last time that we can say, which is taken for it. A certificate of a home is no reason to refuse a report.
fn certified(ms: i64) -> Timestamp {
    let past = match ms < 0 {
        true => Timestamp::MIN,
        false => Timestamp::MAX,
    };
    Timestamp::from_millisecond(ms).unwrap_or(past)
}

impl TryFrom<pb::Reply> for Reply {
    type Error = ConvertError;

    fn try_from(reply: pb::Reply) -> Result<Self, ConvertError> {
        let code = u16::try_from(reply.code).map_err(|_| ConvertError("code"))?;
        if !(200..600).contains(&code) {
            return Err(ConvertError("code"));
        }
        Ok(Self {
            code,
            enhanced: reply.enhanced,
            text: reply.text,
        })
    }
}

impl TryFrom<pb::DotSent> for DotSent {
    type Error = ConvertError;

    fn try_from(dot: pb::DotSent) -> Result<Self, ConvertError> {
        Ok(Self {
            lease: lease(dot.lease)?,
            recipients: dot
                .recipients
                .into_iter()
                .map(number)
                .collect::<Result<Vec<RecipientNumber>, _>>()?,
        })
    }
}

impl TryFrom<pb::PeerCertificate> for PeerCertificate {
    type Error = ConvertError;

    fn try_from(it: pb::PeerCertificate) -> Result<Self, ConvertError> {
        Ok(Self {
            subject: it.subject,
            issuer: it.issuer,
            names: it.names,
            sha256: it.sha256,
            not_before: certified(it.not_before_ms),
            not_after: certified(it.not_after_ms),
            chain_length: it.chain_length,
            spki_sha256: it.spki_sha256,
        })
    }
}

impl TryFrom<pb::Observed> for Observed {
    type Error = ConvertError;

    fn try_from(it: pb::Observed) -> Result<Self, ConvertError> {
        Ok(Self {
            host: it.host,
            peer: it.peer,
            local: it.local,
            greeting: it.greeting,
            tls_version: it.tls_version,
            tls_cipher: it.tls_cipher,
            certificate: it.certificate.map(TryInto::try_into).transpose()?,
            proof: it.proof,
            refusal: it.refusal.map(|refusal| RefusalReason {
                reason: refusal.reason,
                sentence: refusal.sentence,
                wanted: refusal.wanted,
                seen: refusal.seen,
            }),
        })
    }
}

impl TryFrom<pb::Outcome> for Outcome {
    type Error = ConvertError;

    fn try_from(outcome: pb::Outcome) -> Result<Self, ConvertError> {
        Ok(match outcome {
            pb::Outcome::Unspecified => return Err(ConvertError("outcome")),
            pb::Outcome::Transacted => Self::Transacted,
            pb::Outcome::Unreachable => Self::Unreachable,
            pb::Outcome::WrongHost => Self::WrongHost,
            pb::Outcome::Refused => Self::Refused,
            pb::Outcome::Busy => Self::Busy,
            pb::Outcome::Broken => Self::Broken,
            pb::Outcome::InDoubt => Self::InDoubt,
            pb::Outcome::AgentTrouble => Self::AgentTrouble,
        })
    }
}

impl TryFrom<pb::RecipientResult> for RecipientResult {
    type Error = ConvertError;

    fn try_from(it: pb::RecipientResult) -> Result<Self, ConvertError> {
        let disposition = match it.disposition() {
            pb::Disposition::Unspecified => return Err(ConvertError("disposition")),
            pb::Disposition::Relayed => Disposition::Relayed,
            pb::Disposition::Deferred => Disposition::Deferred,
            pb::Disposition::Failed => Disposition::Failed,
        };
        Ok(Self {
            number: number(it.number)?,
            disposition,
            reply: it.reply.ok_or(ConvertError("reply"))?.try_into()?,
            told: match it.dsn_passed_on {
                true => Told::PassedOn,
                false => Told::NotPassedOn,
            },
            by: match it.not_asked {
                true => SaidBy::TheAgent,
                false => SaidBy::TheSite,
            },
        })
    }
}

impl TryFrom<pb::Report> for Report {
    type Error = ConvertError;

    fn try_from(it: pb::Report) -> Result<Self, ConvertError> {
        Ok(Self {
            lease: lease(it.lease)?,
            session: SessionId(it.session),
            outcome: outcome(it.outcome, it.dot_sent)?,
            detail: it.detail,
            observed: it.observed.unwrap_or_default().try_into()?,
            recipients: it
                .recipients
                .into_iter()
                .map(TryInto::try_into)
                .collect::<Result<_, _>>()?,
            dot_sent: it.dot_sent,
            reply: it.reply.map(TryInto::try_into).transpose()?,
            delays: Delays {
                connect: Duration::from_millis(it.connect_ms),
                proof: Duration::from_millis(it.proof_ms),
                total: Duration::from_millis(it.total_ms),
            },
            at: at(it.at_ms, "at_ms")?,
            stage: stage(it.stage),
        })
    }
}

/// One that this version does not know, of a newer agent, is taken for the safest it can be: behind the dot nobody knows, and
/// before it the attempt counts against nobody. What its recipients were answered stands.
fn outcome(said: i32, dot_sent: bool) -> Result<Outcome, ConvertError> {
    match pb::Outcome::try_from(said) {
        Ok(outcome) => outcome.try_into(),
        Err(_) if dot_sent => Ok(Outcome::InDoubt),
        Err(_) => Ok(Outcome::AgentTrouble),
    }
}

/// A stage that this version does not know is none that it could rule on.
fn stage(said: i32) -> Stage {
    match pb::Stage::try_from(said).unwrap_or_default() {
        pb::Stage::Unspecified => Stage::Unknown,
        pb::Stage::Session => Stage::Session,
        pb::Stage::Mail => Stage::Mail,
        pb::Stage::Rcpt => Stage::Rcpt,
        pb::Stage::Data => Stage::Data,
        pb::Stage::Content => Stage::Content,
        pb::Stage::EndOfData => Stage::EndOfData,
    }
}

impl TryFrom<pb::GivenBack> for (Lease, GivenBack) {
    type Error = ConvertError;

    fn try_from(it: pb::GivenBack) -> Result<Self, ConvertError> {
        use pb::given_back::Reason;
        let why = match Reason::try_from(it.reason) {
            Ok(Reason::Unspecified) => return Err(ConvertError("reason")),
            Ok(Reason::StalePlan) => GivenBack::StalePlan,
            Ok(Reason::Closing) => GivenBack::Closing,
            Ok(Reason::LeaseExpired) => GivenBack::LeaseExpired,
            // Whatever a newer agent means: it was not tried.
            Ok(Reason::SessionEnded) | Err(_) => GivenBack::SessionEnded,
            Ok(Reason::Recalled) => GivenBack::Recalled,
        };
        Ok((lease(it.lease)?, why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let reply = Reply {
            code: 250,
            enhanced: "2.0.0".to_owned(),
            text: "Ok\nqueued".to_owned(),
        };
        let whole = Timestamp::from_second(1_700_000_000).unwrap();
        Report {
            lease: Lease {
                delivery: crate::id::DeliveryId {
                    message: crate::id::MessageId::new(1_700_000_000_000, [7; 10]),
                    site: "home".parse().unwrap(),
                },
                generation: crate::id::Generation {
                    start: 3,
                    counter: 9,
                },
            },
            session: SessionId(4),
            outcome: Outcome::Transacted,
            detail: "home.example took it".to_owned(),
            observed: Observed {
                host: "home.example:25".to_owned(),
                peer: "192.0.2.1:25".to_owned(),
                certificate: Some(PeerCertificate {
                    subject: "CN=home".to_owned(),
                    issuer: "CN=ca".to_owned(),
                    names: vec!["home.example".to_owned()],
                    sha256: "00".repeat(32),
                    not_before: whole,
                    not_after: whole,
                    chain_length: 2,
                    spki_sha256: "11".repeat(32),
                }),
                refusal: Some(RefusalReason {
                    reason: "Expired".to_owned(),
                    sentence: "it has expired".to_owned(),
                    wanted: "a valid certificate".to_owned(),
                    seen: "valid until yesterday".to_owned(),
                }),
                ..Observed::default()
            },
            recipients: vec![RecipientResult {
                number: RecipientNumber(2),
                disposition: Disposition::Failed,
                reply: reply.clone(),
                told: Told::PassedOn,
                by: SaidBy::TheAgent,
            }],
            dot_sent: true,
            reply: Some(reply),
            delays: Delays {
                connect: Duration::from_millis(5),
                proof: Duration::from_millis(6),
                total: Duration::from_millis(7),
            },
            at: whole,
            stage: Stage::EndOfData,
        }
    }

    /// Another agent may pass RFC 5280's 99991231235959Z on as it is.
    #[test]
    fn a_certificate_without_end_is_no_reason_to_refuse_what_is_told_with_it() {
        let mut told = pb::Report::from(report());
        let observed = told.observed.as_mut().unwrap();
        let certificate = observed.certificate.as_mut().unwrap();
        certificate.not_after_ms = 253_402_300_799_000;
        let read = Report::try_from(told).unwrap();
        let end = read.observed.certificate.unwrap().not_after;
        assert!(crate::units::is_endless(end), "{end}");
    }

    #[test]
    fn a_report_comes_back_as_it_was() {
        assert_eq!(Report::try_from(pb::Report::from(report())), Ok(report()));
    }

    #[test]
    fn what_a_report_lacks_is_named() {
        let whole = || pb::Report::from(report());
        let broken: [(pb::Report, &str); 3] = [
            (
                pb::Report {
                    lease: None,
                    ..whole()
                },
                "lease",
            ),
            (
                pb::Report {
                    outcome: 0,
                    ..whole()
                },
                "outcome",
            ),
            (
                pb::Report {
                    reply: Some(pb::Reply {
                        code: 99,
                        ..pb::Reply::default()
                    }),
                    ..whole()
                },
                "code",
            ),
        ];
        for (wire, field) in broken {
            assert_eq!(Report::try_from(wire), Err(ConvertError(field)));
        }
    }

    #[test]
    fn what_a_newer_agent_calls_it_is_taken_for_the_safest_it_can_be() {
        let report = |outcome, dot_sent| {
            let wire = pb::Report {
                outcome,
                dot_sent,
                ..pb::Report::from(report())
            };
            Report::try_from(wire).unwrap().outcome
        };
        assert_eq!(report(99, true), Outcome::InDoubt);
        assert_eq!(report(99, false), Outcome::AgentTrouble);
        assert_eq!(report(-1, false), Outcome::AgentTrouble);
        let back = pb::GivenBack {
            lease: pb::Report::from(self::report()).lease,
            reason: 99,
        };
        let (_, why) = <(Lease, GivenBack)>::try_from(back).unwrap();
        assert_eq!(why, GivenBack::SessionEnded);
    }
}

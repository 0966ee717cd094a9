//! Sites: to the wire and to the stored record, and from the stored record.
//!
//! # Not here
//! What a caller asks for is checked, with a sentence for each refusal, by the controller's registry; this takes only
//! what was written complete.

use std::collections::BTreeSet;
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;

use super::{ConvertError, ms, present};
use crate::hold::HoldPeriod;
use crate::id::SiteVersion;
use crate::pb;
use crate::site::{
    Certified, Family, HandOver, Hold, Host, HostName, KnownRecipients, Limits, Proof, Schedule,
    Site, Speaks, TlsBegins, Way,
};

impl From<Host> for pb::Host {
    fn from(host: Host) -> Self {
        Self {
            host: match host.name {
                HostName::Dns(name) => name.to_string(),
                HostName::Address(ip) => ip.to_string(),
            },
            port: host.port.get().into(),
        }
    }
}

impl From<Proof> for pb::Proof {
    fn from(proof: Proof) -> Self {
        use pb::proof::{Configured, Fingerprint, Kind, Port, Public, StaticIp};
        let kind = match proof {
            Proof::StaticIp {
                addresses,
                certificate,
            } => Kind::StaticIp(StaticIp {
                addresses: addresses.iter().map(ToString::to_string).collect(),
                certificate: certificate.map(Into::into),
            }),
            Proof::Certificate(it) => Kind::Certificate(it.into()),
            Proof::Fingerprint { listed } => Kind::Fingerprint(Fingerprint {
                sha256: listed.iter().map(ToString::to_string).collect(),
            }),
            Proof::Public { name } => Kind::Public(Public {
                name: name.to_string(),
            }),
            Proof::Port => Kind::Port(Port {}),
            Proof::Configured => Kind::Configured(Configured {}),
        };
        Self { kind: Some(kind) }
    }
}

impl From<Certified> for pb::proof::Certificate {
    fn from(it: Certified) -> Self {
        Self {
            authority: it.authority.to_string(),
            name: it.name.to_string(),
        }
    }
}

impl From<Hold> for pb::Hold {
    fn from(hold: Hold) -> Self {
        Self {
            by: hold.by,
            until_ms: hold.until.map_or(0, Timestamp::as_millisecond),
            since_ms: hold.since.as_millisecond(),
        }
    }
}

impl TryFrom<pb::Hold> for Hold {
    type Error = ConvertError;

    fn try_from(hold: pb::Hold) -> Result<Self, ConvertError> {
        let at = |ms| Timestamp::from_millisecond(ms).map_err(|_| ConvertError("hold"));
        Ok(Self {
            by: hold.by,
            until: match hold.until_ms {
                0 => None,
                ms => Some(at(ms)?),
            },
            since: at(hold.since_ms)?,
        })
    }
}

impl From<HoldPeriod> for pb::HoldPeriod {
    fn from(period: HoldPeriod) -> Self {
        Self {
            from_ms: period.from().as_millisecond(),
            to_ms: period.to().as_millisecond(),
        }
    }
}

impl TryFrom<pb::HoldPeriod> for HoldPeriod {
    type Error = ConvertError;

    fn try_from(period: pb::HoldPeriod) -> Result<Self, ConvertError> {
        let at = |ms| Timestamp::from_millisecond(ms).map_err(|_| ConvertError("held_before"));
        Self::new(at(period.from_ms)?, at(period.to_ms)?).ok_or(ConvertError("held_before"))
    }
}

/// Complete, and without anything secret.
impl From<&Site> for pb::SiteSpec {
    fn from(site: &Site) -> Self {
        Self {
            name: site.name.to_string(),
            domains: site.domains.iter().map(ToString::to_string).collect(),
            hosts: site.hosts.iter().cloned().map(Into::into).collect(),
            proof: Some(site.proof.clone().into()),
            recipients: match &site.known {
                KnownRecipients::Any => Vec::new(),
                KnownRecipients::Only(known) => {
                    known.iter().map(|it| it.as_str().to_owned()).collect()
                }
            },
            connections: Some(site.limits.connections.into()),
            retry_ms: Some(ms(site.schedule.retry_interval)),
            lifetime_ms: Some(ms(site.schedule.lifetime)),
            delay_warning_ms: Some(ms(site.schedule.delay_warning)),
            outage_notice_ms: Some(site.schedule.outage_notice.map_or(0, ms)),
            language: site.language.map(|it| it.to_string()),
            max_message_bytes: site.limits.max_message_bytes,
            quota_messages: site.limits.quota_messages,
            quota_bytes: site.limits.quota_bytes,
            contact: site.contact.as_ref().map(|it| it.as_str().to_owned()),
            allow_targets: site.allow_targets.iter().map(ToString::to_string).collect(),
            agents: site.agents.iter().map(ToString::to_string).collect(),
            hand_over: (site.way.hand_over != HandOver::None)
                .then(|| site.way.hand_over.to_string()),
            client_certificate: site
                .way
                .client_certificate
                .as_ref()
                .map(ToString::to_string),
            tls_on_connect: (site.way.tls == TlsBegins::OnConnect).then_some(true),
            lmtp: (site.way.speaks == Speaks::Lmtp).then_some(true),
            family: (site.way.family != Family::Any).then(|| site.way.family.to_string()),
            password: None,
            clear: Vec::new(),
        }
    }
}

/// As it is stored, the password's hash included; what is sent to anybody blanks that.
impl From<&Site> for pb::Site {
    fn from(site: &Site) -> Self {
        Self {
            version: site.version.0,
            spec: Some(site.into()),
            hold: site.hold.clone().map(Into::into),
            held_before: site.held_before.iter().map(Into::into).collect(),
            password_hash: site.password_hash.clone().unwrap_or_default(),
            closing: site.closing,
            wake_hash: site
                .wake_hash
                .map(|hash| hash.to_vec().into())
                .unwrap_or_default(),
        }
    }
}

fn each<T: std::str::FromStr, C: FromIterator<T>>(
    texts: &[String],
    field: &'static str,
) -> Result<C, ConvertError> {
    texts
        .iter()
        .map(|text| text.parse().map_err(|_| ConvertError(field)))
        .collect()
}

/// Only what [`From<&Site>`] wrote: nothing takes a default.
impl TryFrom<pb::Site> for Site {
    type Error = ConvertError;

    fn try_from(stored: pb::Site) -> Result<Self, ConvertError> {
        let spec = stored.spec.ok_or(ConvertError("spec"))?;
        let hosts: Vec<Host> = spec
            .hosts
            .into_iter()
            .map(TryInto::try_into)
            .collect::<Result<_, _>>()?;
        if hosts.is_empty() {
            return Err(ConvertError("hosts"));
        }
        let known: BTreeSet<_> = each(&spec.recipients, "recipients")?;
        let connections = spec.connections.and_then(|n| u8::try_from(n).ok());
        let duration = |ms: Option<u64>, field| {
            ms.filter(|ms| *ms > 0)
                .map(Duration::from_millis)
                .ok_or(ConvertError(field))
        };
        Ok(Self {
            name: spec.name.parse().map_err(|_| ConvertError("name"))?,
            version: SiteVersion(stored.version),
            domains: each(&spec.domains, "domains")?,
            known: match known.is_empty() {
                true => KnownRecipients::Any,
                false => KnownRecipients::Only(known),
            },
            hosts,
            proof: spec.proof.ok_or(ConvertError("proof"))?.try_into()?,
            way: Way {
                // Records from before it existed have none.
                hand_over: match spec.hand_over.as_deref() {
                    None => HandOver::None,
                    Some(text) => text.parse().map_err(|_| ConvertError("hand_over"))?,
                },
                tls: TlsBegins::of_flag(spec.tls_on_connect.unwrap_or_default()),
                speaks: Speaks::of_flag(spec.lmtp.unwrap_or_default()),
                family: match spec.family.as_deref() {
                    None => Family::Any,
                    Some(text) => text.parse().map_err(|_| ConvertError("family"))?,
                },
                client_certificate: match spec.client_certificate {
                    None => None,
                    Some(name) => Some(
                        name.parse()
                            .map_err(|_| ConvertError("client_certificate"))?,
                    ),
                },
                login: None,
            },
            limits: Limits {
                connections: connections
                    .filter(|n| *n > 0)
                    .ok_or(ConvertError("connections"))?,
                max_message_bytes: spec.max_message_bytes,
                quota_messages: spec.quota_messages,
                quota_bytes: spec.quota_bytes,
            },
            schedule: Schedule {
                retry_interval: duration(spec.retry_ms, "retry_ms")?,
                lifetime: duration(spec.lifetime_ms, "lifetime_ms")?,
                delay_warning: duration(spec.delay_warning_ms, "delay_warning_ms")?,
                outage_notice: match spec.outage_notice_ms {
                    None => Some(Schedule::OUTAGE_NOTICE),
                    Some(0) => None,
                    Some(ms) => Some(Duration::from_millis(ms)),
                },
            },
            hold: stored.hold.map(TryInto::try_into).transpose()?,
            held_before: stored
                .held_before
                .into_iter()
                .map(HoldPeriod::try_from)
                .collect::<Result<_, _>>()?,
            closing: stored.closing,
            contact: match spec.contact {
                None => None,
                Some(text) => Some(text.parse().map_err(|_| ConvertError("contact"))?),
            },
            language: match spec.language.as_deref() {
                None => None,
                Some(text) => Some(text.parse().map_err(|_| ConvertError("language"))?),
            },
            // An earlier version took addresses within a network, and meant the network.
            allow_targets: each::<IpNet, Vec<_>>(&spec.allow_targets, "allow_targets")?
                .iter()
                .map(IpNet::trunc)
                .collect(),
            agents: each(&spec.agents, "agents")?,
            password_hash: present(stored.password_hash),
            wake_hash: match stored.wake_hash.is_empty() {
                true => None,
                false => Some(
                    stored.wake_hash[..]
                        .try_into()
                        .map_err(|_| ConvertError("wake_hash"))?,
                ),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(from: i64, to: i64) -> HoldPeriod {
        let at = |second| Timestamp::from_second(second).unwrap();
        HoldPeriod::new(at(from), at(to)).unwrap()
    }

    fn site() -> Site {
        Site {
            name: "home".parse().unwrap(),
            version: SiteVersion(7),
            domains: ["home.example".parse().unwrap()].into(),
            known: KnownRecipients::Only(["Anna@home.example".parse().unwrap()].into()),
            hosts: vec![
                Host {
                    name: HostName::Dns("dyn.example".parse().unwrap()),
                    port: 2525.try_into().unwrap(),
                },
                Host {
                    name: HostName::Address("2001:db8::1".parse().unwrap()),
                    port: 25.try_into().unwrap(),
                },
            ],
            proof: Proof::Certificate(Certified {
                authority: "member-ca".parse().unwrap(),
                name: "home.example".parse().unwrap(),
            }),
            way: Way {
                hand_over: HandOver::XForward,
                client_certificate: Some("member-ca".parse().unwrap()),
                tls: TlsBegins::OnConnect,
                speaks: Speaks::Lmtp,
                family: Family::V6,
                login: None,
            },
            limits: Limits {
                connections: 3,
                max_message_bytes: Some(1 << 20),
                quota_messages: None,
                quota_bytes: Some(1 << 30),
            },
            schedule: Schedule {
                retry_interval: Duration::from_secs(180),
                lifetime: Duration::from_secs(1_209_600),
                delay_warning: Duration::from_secs(86_400),
                outage_notice: Some(Duration::from_secs(3600)),
            },
            hold: Some(Hold {
                by: "anna".to_owned(),
                until: None,
                since: Timestamp::from_second(1_700_000_000).unwrap(),
            }),
            held_before: [held(10, 20), held(30, 40)].into_iter().collect(),
            closing: true,
            contact: Some("owner@example.net".parse().unwrap()),
            language: Some(crate::site::Language::German),
            allow_targets: vec!["127.0.0.0/8".parse().unwrap()],
            agents: ["out1".parse().unwrap(), "out2".parse().unwrap()].into(),
            password_hash: Some("$argon2id$x".to_owned()),
            wake_hash: Some([7; 32]),
        }
    }

    #[test]
    fn a_site_comes_back_as_it_was_stored() {
        let mut plain = site();
        plain.hold = None;
        plain.known = KnownRecipients::Any;
        plain.password_hash = None;
        plain.wake_hash = None;
        plain.contact = None;
        plain.way = Way::default();
        plain.language = None;
        plain.schedule.outage_notice = None;
        let with = |proof| Site { proof, ..site() };
        let addresses = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let listed = |certificate: Option<Certified>| {
            with(Proof::StaticIp {
                addresses: addresses.into(),
                certificate,
            })
        };
        let pinned = with(Proof::Fingerprint {
            listed: [crate::fingerprint::Fingerprint([7; 32])].into(),
        });
        let public = with(Proof::Public {
            name: "home.example".parse().unwrap(),
        });
        let both = listed(site().proof.certified().cloned());
        for site in [site(), plain, listed(None), both, pinned, public] {
            assert_eq!(Site::try_from(pb::Site::from(&site)), Ok(site));
        }
    }

    #[test]
    fn an_incomplete_record_is_no_site() {
        type Break = fn(&mut pb::SiteSpec);
        let broken: [(Break, &str); 6] = [
            (|spec| spec.hosts.clear(), "hosts"),
            (|spec| spec.proof = None, "proof"),
            (|spec| spec.connections = Some(0), "connections"),
            (|spec| spec.retry_ms = None, "retry_ms"),
            (|spec| spec.domains.push("a..b".to_owned()), "domains"),
            (|spec| spec.name.clear(), "name"),
        ];
        for (damage, field) in broken {
            let mut stored = pb::Site::from(&site());
            damage(stored.spec.as_mut().unwrap());
            assert_eq!(Site::try_from(stored), Err(ConvertError(field)));
        }
    }
}

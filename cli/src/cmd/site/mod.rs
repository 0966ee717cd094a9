//! `ddadm site …`.

mod bulk;
mod check;
mod credential;
mod evidence;
mod hint;
mod history;
mod page;
mod password;
mod snippets;
mod spec;
mod table;
mod view;

use std::io::Read;

use dd_proto::name::SiteName;
use dd_proto::pb;
use serde::Serialize;

use crate::args::site::{Add, List, RemovedMail, SiteVerb};
use crate::client::{Controller, site_name};
use crate::cmd::many;
use crate::cmd::site::view::SiteView;
use crate::failure::Failure;
use crate::output::{Answer, count};

pub(crate) async fn run(
    verb: SiteVerb,
    controller: &Controller,
    stdin: &mut dyn Read,
) -> Result<Answer, Failure> {
    match verb {
        SiteVerb::Add(add) => add_site(*add, controller, stdin).await,
        SiteVerb::Set(set) => bulk::set(&set, controller, stdin).await,
        SiteVerb::Show { name } => show(&name, controller).await.map(one),
        SiteVerb::List(asked) => {
            let mut sites = all(controller).await?;
            sites.retain(|status| table::keeps(&asked, status));
            Ok(list(sites, &asked))
        }
        SiteVerb::MoveDomain { domain, to } => {
            let request = pb::MoveDomainRequest {
                domain: domain.to_string(),
                to: to.to_string(),
            };
            let moved = controller.sites().await?.move_domain(request).await;
            Ok(moved_answer(&controller.one(moved)?))
        }
        SiteVerb::Remove { name, mail } => {
            let mail = mail_of_removed(&mail);
            let request = pb::RemoveSiteRequest {
                name: name.to_string(),
                mail: mail.into(),
            };
            let removed = controller.sites().await?.remove(request).await;
            Ok(removed_answer(&name, mail, &controller.one(removed)?))
        }
        SiteVerb::Hold { names, until } => {
            let until_ms = until.map_or(0, jiff::Timestamp::as_millisecond);
            let hold = async |name: &SiteName| {
                let request = pb::HoldSiteRequest {
                    name: name.to_string(),
                    until_ms,
                };
                let held = controller.sites().await?.hold(request).await;
                controller.one(held).map(one)
            };
            many::each(&names, hold).await
        }
        SiteVerb::Resume { names } => {
            let resume = async |name: &SiteName| {
                let resumed = controller.sites().await?.resume(site_name(name)).await;
                controller.one(resumed).map(one)
            };
            many::each(&names, resume).await
        }
        SiteVerb::Check { name, agent } => {
            let request = pb::CheckSiteRequest {
                name: name.to_string(),
                agent: agent.map(|agent| agent.to_string()).unwrap_or_default(),
            };
            let checked = controller.sites().await?.check(request).await;
            Ok(check::answer(controller.one(checked)?))
        }
        SiteVerb::Snippets { name } => {
            let site = show(&name, controller).await?.site.unwrap_or_default();
            let agents = controller.agents().await?;
            let outbound = { agents }.addresses(pb::AddressesRequest {}).await;
            Ok(snippets::answer(
                &site.spec.unwrap_or_default(),
                &controller.one(outbound)?,
            ))
        }
        SiteVerb::Password {
            name,
            password_stdin,
        } => {
            let given = match password_stdin {
                true => password::read(stdin)?,
                false => String::new(),
            };
            credential::password(&name, given, controller).await
        }
        SiteVerb::WakeSecret { name, revoke: true } => {
            credential::revoke_wake_secret(&name, controller).await
        }
        SiteVerb::WakeSecret { name, .. } => credential::wake_secret(&name, controller).await,
    }
}

async fn add_site(
    add: Add,
    controller: &Controller,
    stdin: &mut dyn Read,
) -> Result<Answer, Failure> {
    let proof = spec::new_proof(&add.flags)?;
    let password = password::asked(&add.flags, stdin)?;
    let request = pb::AddSiteRequest {
        spec: Some(pb::SiteSpec {
            proof: Some(proof),
            password,
            ..spec::plain(&add.name, &add.flags)
        }),
        take_mail: add.take_mail,
    };
    let added = controller.sites().await?.add(request).await;
    controller.one(added).map(one)
}

async fn all(controller: &Controller) -> Result<Vec<pb::SiteStatus>, Failure> {
    let sites = controller.sites().await?;
    let listed = { sites }.list(pb::ListSitesRequest {}).await;
    controller.all(listed).await
}

async fn show(name: &SiteName, controller: &Controller) -> Result<pb::SiteStatus, Failure> {
    let status = controller.sites().await?.show(site_name(name)).await;
    controller.one(status)
}

fn one(status: pb::SiteStatus) -> Answer {
    let text = page::page(&status);
    Answer::new(&SiteView::from(status), text)
}

fn list(all: Vec<pb::SiteStatus>, asked: &List) -> Answer {
    let text = table::table(&all, asked);
    Answer::new(
        &all.into_iter().map(SiteView::from).collect::<Vec<_>>(),
        text,
    )
}

/// clap has seen to it that not both are given.
fn mail_of_removed(flags: &RemovedMail) -> pb::remove_site_request::Mail {
    use pb::remove_site_request::Mail;
    match (flags.fail, flags.discard) {
        (true, _) => Mail::Fail,
        (_, true) => Mail::Discard,
        _ => Mail::Unspecified,
    }
}

#[derive(Debug, Serialize)]
struct Moved<'a> {
    domain: &'a str,
    from: &'a str,
    to: &'a str,
    waiting: u64,
}

fn moved_answer(it: &pb::DomainMoved) -> Answer {
    let pb::DomainMoved {
        domain,
        from,
        to,
        waiting,
    } = it;
    let mut text = format!("{domain}: moved from {from} to {to}\n");
    if *waiting > 0 {
        let messages = count(*waiting, "message", "messages");
        text.push_str(&format!(
            "{messages} for {from} still wait, also what came for {domain} before, and go to {from}\n"
        ));
    }
    let view = Moved {
        domain,
        from,
        to,
        waiting: *waiting,
    };
    Answer::new(&view, text)
}

#[derive(Debug, Serialize)]
struct Removed<'a> {
    name: &'a str,
    messages: u64,
}

fn removed_answer(
    name: &SiteName,
    mail: pb::remove_site_request::Mail,
    removed: &pb::RemoveSiteResponse,
) -> Answer {
    use pb::remove_site_request::Mail;
    let messages = count(removed.messages, "message", "messages");
    let text = match mail {
        Mail::Unspecified => format!("{name}: removed\n"),
        Mail::Fail => format!("{name}: removed; {messages} returned to the senders\n"),
        Mail::Discard => format!("{name}: removed; {messages} discarded\n"),
    };
    let view = Removed {
        name: name.as_str(),
        messages: removed.messages,
    };
    Answer::new(&view, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(outcome: &str, detail: &str) -> pb::LastAttempt {
        pb::LastAttempt {
            at_ms: 1_800_000_000_123,
            agent: "out1".into(),
            address: "[2001:db8::25]:25".into(),
            outcome: outcome.into(),
            detail: detail.into(),
            peer: None,
        }
    }

    fn home() -> pb::SiteStatus {
        let proof = pb::proof::Kind::Certificate(pb::proof::Certificate {
            authority: "member-ca".into(),
            name: "home.example".into(),
        });
        pb::SiteStatus {
            site: Some(pb::Site {
                version: 12,
                spec: Some(pb::SiteSpec {
                    name: "home".into(),
                    domains: vec!["home.example".into(), "other.example".into()],
                    hosts: vec![
                        pb::Host {
                            host: "home.dyndns.example".into(),
                            port: 25,
                        },
                        pb::Host {
                            host: "2001:db8::25".into(),
                            port: 2525,
                        },
                    ],
                    proof: Some(pb::Proof { kind: Some(proof) }),
                    connections: Some(2),
                    retry_ms: Some(180_000),
                    lifetime_ms: Some(1_209_600_000),
                    delay_warning_ms: Some(86_400_000),
                    quota_bytes: Some(1 << 30),
                    contact: Some("postmaster@home.example".into()),
                    ..pb::SiteSpec::default()
                }),
                ..pb::Site::default()
            }),
            state: "waiting".into(),
            why: "wrong-host".into(),
            next_attempt_ms: 1_800_000_180_000,
            queued_messages: 3,
            queued_bytes: 4_500_000,
            complete: true,
            agents_found: vec![
                pb::AgentFound {
                    agent: "out1".into(),
                    at_ms: 1_800_000_000_000,
                    found: "down".into(),
                    detail: "192.0.2.7:25 does not answer".into(),
                },
                pb::AgentFound {
                    agent: "out2".into(),
                    at_ms: 1_800_000_001_000,
                    found: "reached".into(),
                    detail: String::new(),
                },
            ],
            warnings: vec!["no agent connects there".into()],
            answered_for: vec![pb::AnsweredFor {
                at_ms: 1_700_000_000_000,
                address: "192.0.2.7:25".into(),
                site: "neighbour".into(),
            }],
            last_attempts: vec![
                pb::LastAttempt {
                    peer: Some(pb::PeerCertificate {
                        subject: "CN=impostor\x1b[2J".into(),
                        issuer: "CN=impostor".into(),
                        names: vec!["impostor.example".into()],
                        sha256: "ab".repeat(32),
                        ..pb::PeerCertificate::default()
                    }),
                    ..attempt("wrong-host", "the chain does not lead to member-ca")
                },
                attempt("relayed", "250 2.0.0 ok"),
            ],
            out: 0,
            sessions: 0,
            has_password: true,
            has_wake_secret: false,
            no_agent: "no agent works: out1 is draining".into(),
            refusal: Some(refusal()),
            shown: Some(shown()),
            history: Some(history()),
        }
    }

    fn certificate() -> pb::PeerCertificate {
        pb::PeerCertificate {
            subject: "CN=home".into(),
            issuer: "CN=member-ca G1".into(),
            names: vec!["home.example".into()],
            sha256: "cd".repeat(32),
            not_before_ms: 1_790_000_000_000,
            not_after_ms: 1_810_000_000_000,
            chain_length: 2,
            spki_sha256: "ef".repeat(32),
        }
    }

    fn shown() -> pb::Shown {
        let sight = |host: &str, certificate| pb::Sight {
            host: host.into(),
            address: "192.0.2.7:25".into(),
            proof: "certificate".into(),
            tls_version: "TLSv1.3".into(),
            certificate,
            first_ms: 1_799_000_000_000,
            last_ms: 1_800_000_000_000,
            agent: "out1".into(),
        };
        let plain = pb::Sight {
            tls_version: String::new(),
            proof: "port".into(),
            ..sight("[2001:db8::25]:2525", None)
        };
        pb::Shown {
            tls: true,
            sights: vec![sight("home.dyndns.example:25", Some(certificate())), plain],
            lost_together_ms: None,
            lost_behind_dot_ms: Some(1_800_000_000_000),
        }
    }

    fn history() -> pb::SiteHistory {
        let counts = |counts: &[(&str, u32)]| {
            let count = |(outcome, count): &(&str, u32)| pb::OutcomeCount {
                outcome: (*outcome).into(),
                count: *count,
            };
            counts.iter().map(count).collect()
        };
        let day = |date: &str, of: &[(&str, u32)]| pb::HistoryDay {
            date: date.into(),
            counts: counts(of),
        };
        let run = |hours: i64, times, outcome: &str| pb::HistoryRun {
            first_ms: 1_799_000_000_000 - hours * 3_600_000,
            times,
            last: Some(pb::LastAttempt {
                at_ms: 1_799_100_000_000 - hours * 3_600_000,
                ..attempt(outcome, "192.0.2.7:25 does not answer")
            }),
        };
        pb::SiteHistory {
            last_relayed_ms: 1_799_900_000_000,
            days: vec![
                day("2027-01-15", &[("relayed", 12), ("unreachable", 480)]),
                day("2027-01-13", &[("relayed", 3)]),
            ],
            runs: vec![run(0, 480, "unreachable"), run(40, 1, "busy")],
        }
    }

    fn refusal() -> pb::LastRefusal {
        pb::LastRefusal {
            at_ms: 1_800_000_000_000,
            agent: "out1".into(),
            observed: Some(pb::Observed {
                host: "home.dyndns.example:25".into(),
                peer: "203.0.113.9:25".into(),
                tls_version: "TLSv1.3".into(),
                certificate: Some(certificate()),
                refusal: Some(pb::Refusal {
                    reason: "NameMismatch".into(),
                    sentence: "the certificate is for other.example, not for home.example".into(),
                    wanted: "a certificate for home.example issued by the authority `member-ca`"
                        .into(),
                    seen: "203.0.113.9:25 with TLSv1.3 with the certificate\x1b[2J of another"
                        .into(),
                }),
                ..pb::Observed::default()
            }),
        }
    }

    #[test]
    fn a_site_says_where_it_stands_and_who_answered() {
        insta::assert_snapshot!(one(home()).both());
    }

    #[test]
    fn a_held_site_says_who_holds_it() {
        let mut status = home();
        let site = status.site.as_mut().unwrap();
        site.hold = Some(pb::Hold {
            by: "root".into(),
            since_ms: 1_800_000_000_000,
            until_ms: 1_900_000_000_000,
        });
        site.spec.as_mut().unwrap().proof = Some(pb::Proof {
            kind: Some(pb::proof::Kind::StaticIp(pb::proof::StaticIp {
                addresses: vec!["192.0.2.25".into()],
                certificate: None,
            })),
        });
        status.state = "held".into();
        status.why = String::new();
        status.next_attempt_ms = 0;
        status.complete = false;
        status.last_attempts.clear();
        insta::assert_snapshot!(one(status).both());
    }

    #[test]
    fn a_list_is_an_array_of_what_show_gives() {
        let answer = list(vec![home()], &List::default());
        insta::assert_snapshot!(answer.both());
        insta::assert_snapshot!("no_sites", list(vec![], &List::default()).both());
    }

    #[test]
    fn a_domain_that_moved_says_what_still_waits() {
        let moved = pb::DomainMoved {
            domain: "shed.example".into(),
            from: "home".into(),
            to: "office".into(),
            waiting: 2,
        };
        insta::assert_snapshot!(moved_answer(&moved).both());
    }

    #[test]
    fn what_a_site_has_shown_makes_tls_a_must_only_where_the_proof_does_not() {
        let kinds = [
            (pb::proof::Kind::Port(pb::proof::Port {}), true),
            (
                pb::proof::Kind::StaticIp(pb::proof::StaticIp {
                    addresses: vec!["192.0.2.7".into()],
                    certificate: None,
                }),
                true,
            ),
            (
                pb::proof::Kind::StaticIp(pb::proof::StaticIp {
                    addresses: vec!["192.0.2.7".into()],
                    certificate: Some(pb::proof::Certificate::default()),
                }),
                false,
            ),
            (
                pb::proof::Kind::Certificate(pb::proof::Certificate::default()),
                false,
            ),
        ];
        for (kind, said) in kinds {
            let mut status = home();
            let site = status.site.as_mut().unwrap();
            site.spec.as_mut().unwrap().proof = Some(pb::Proof {
                kind: Some(kind.clone()),
            });
            let text = one(status).text().to_owned();
            assert_eq!(text.contains("without TLS it is refused"), said, "{kind:?}");
        }
    }

    #[test]
    fn a_removal_says_what_became_of_the_mail() {
        let name = "home".parse().unwrap();
        let removed = pb::RemoveSiteResponse { messages: 1 };
        insta::assert_snapshot!(
            removed_answer(
                &name,
                mail_of_removed(&RemovedMail {
                    fail: false,
                    discard: true
                }),
                &removed
            )
            .both()
        );
    }
}

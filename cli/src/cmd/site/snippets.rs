//! `ddadm site snippets`: lines to paste at the member's.

use dd_proto::fingerprint::Fingerprint;
use dd_proto::pb;
use dd_proto::snippets::{Ends, Program, Snippet};
use serde::Serialize;

use crate::output::Answer;

/// What the lines do, in one line.
fn what(program: Program) -> &'static str {
    match program {
        Program::Nft => {
            "Firewall, nftables: nobody else reaches the mail server; load it with `nft -f`"
        }
        Program::Iptables => "Firewall, iptables, as root: nobody else reaches the mail server",
        Program::FritzBox => {
            "FRITZ!Box: forward to the mail server (Internet, Permit Access, Port Sharing); it cannot tell callers apart, so let the server's own firewall do it"
        }
        Program::PostfixTable => "Postfix: the table that the next lines name",
        Program::Postfix => {
            "Postfix: postscreen, and in front of whatever judges a client; what you have of your own follows behind it"
        }
        Program::PolicydSpf => "SPF in Postfix",
        Program::Postgrey => "Greylisting with postgrey; restart it afterwards",
        Program::RspamdOptions => {
            "rspamd: which addresses only pass mail on; add your provider's MX, if it is another machine"
        }
        Program::RspamdRelay => "rspamd: judge who spoke to the provider",
        Program::RspamdSpf => "rspamd, where it does not judge who spoke to the provider: no SPF",
        Program::RspamdGreylist => "rspamd, likewise: no greylisting",
        Program::SpamAssassin => "SpamAssassin; add your provider's MX, if it is another machine",
        Program::EximMain => {
            "Exim on Debian; elsewhere the main section, with smtp_accept_max_nonmail_hosts in place of the macro"
        }
        Program::EximAcl => {
            "Exim: in each deny and defer of the ACLs that asks for spf, dnslists or greylisting"
        }
        Program::OpenSmtpd => {
            "OpenSMTPD, with the name of your own action; it applies filters to a listener, so give the provider one without"
        }
        Program::OpenDmarc => "OpenDMARC: the file that IgnoreHosts names",
        Program::Fail2ban => "fail2ban",
        Program::PostfixKeys => {
            "Postfix: the keys of the certificates that the agents show, which the next lines name; another agent has another line"
        }
        Program::PostfixByKey => {
            "Postfix: judge whoever shows one of these keys as little, whatever address he comes from; in place of the smtpd_recipient_restrictions above"
        }
        Program::EximShown => {
            "Exim on Debian, likewise; the file is the ca.pem of `ddadm cert issue`, readable for Exim"
        }
        Program::EximByCertificate => "Exim, likewise: in place of `!hosts = +mail_provider`",
    }
}

#[derive(Debug, Serialize)]
struct View {
    program: &'static str,
    what: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    file: &'static str,
    lines: String,
}

impl From<Snippet> for View {
    fn from(it: Snippet) -> Self {
        Self {
            program: it.program.word(),
            what: what(it.program),
            file: it.program.file(),
            lines: it.lines,
        }
    }
}

pub(super) fn answer(site: &pb::SiteSpec, outbound: &pb::AddressesResponse) -> Answer {
    let addresses = outbound.addresses.iter().chain(&outbound.networks);
    let ports = site
        .hosts
        .iter()
        .filter_map(|it| u16::try_from(it.port).ok());
    let domains = site.domains.iter().filter_map(|it| it.parse().ok());
    let ends = Ends::new(
        addresses.map(String::as_str),
        ports.collect(),
        domains.collect(),
    );
    let ends = match site.client_certificate {
        Some(_) => ends.shown(keys(outbound)),
        None => ends,
    };
    let all: Vec<View> = ends.snippets().into_iter().map(View::from).collect();
    let text = match all.is_empty() {
        true => "no outbound address is known yet: add an agent first\n".to_owned(),
        false => all.iter().map(page).collect::<Vec<_>>().join("\n"),
    };
    Answer::new(&all, text)
}

fn keys(outbound: &pb::AddressesResponse) -> Vec<(String, Fingerprint)> {
    let keys = outbound.keys.iter();
    keys.filter_map(|it| Some((it.agent.clone(), it.spki_sha256.parse().ok()?)))
        .collect()
}

fn page(it: &View) -> String {
    let file = match it.file {
        "" => String::new(),
        file => format!("  {file}\n"),
    };
    let lines = it.lines.lines();
    let lines: String = lines.map(|line| format!("    {line}\n")).collect();
    format!("{}\n{file}\n{lines}", it.what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_has_its_lines() {
        let host = |host: &str, port| pb::Host {
            host: host.to_owned(),
            port,
        };
        let site = pb::SiteSpec {
            domains: vec!["home.example".into(), "home.example.net".into()],
            hosts: vec![
                host("home.dyn.example", 2525),
                host("192.0.2.7", 25),
                host("192.0.2.8", 25),
            ],
            client_certificate: Some("member-ca".into()),
            ..pb::SiteSpec::default()
        };
        let outbound = pb::AddressesResponse {
            addresses: vec!["192.0.2.10".into(), "2001:db8::10".into()],
            networks: vec!["192.0.2.0/27".into(), "198.51.100.9/32".into()],
            keys: vec![pb::AgentKey {
                agent: "out1".into(),
                spki_sha256: "ab".repeat(32),
            }],
        };
        insta::assert_snapshot!("snippets", answer(&site, &outbound).both());
    }
}

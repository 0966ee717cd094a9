//! Lines to paste, each with what it is for, in the language of the page.

use dd_proto::fingerprint::Fingerprint;
use dd_proto::mta;
use dd_proto::name::AgentName;
use dd_proto::site::Site;
use dd_proto::snippets::{Ends, Program, Snippet};

use super::outbound::Outbound;
use super::words::Words;
use crate::authority::client::AgentKey;

#[derive(Debug)]
pub(super) struct Paste {
    pub(super) into: &'static str,
    /// Empty where it is no file's, or where `into` says it.
    pub(super) file: &'static str,
    pub(super) lines: String,
}

/// What belongs together.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) title: &'static str,
    pub(super) pastes: Vec<Paste>,
}

/// A certificate, for each mail server.
pub(super) fn certificate(lines: &mta::Lines, w: &'static Words) -> Vec<Paste> {
    let each = lines.each().into_iter();
    each.map(|(place, lines)| Paste {
        into: w.place(place),
        file: "",
        lines: lines.to_owned(),
    })
    .collect()
}

/// Where the mail comes from, for every program at home; and by which `keys` agents are known, where they show one.
pub(super) fn groups(
    site: &Site,
    outbound: &Outbound,
    keys: Vec<(AgentName, AgentKey)>,
    w: &'static Words,
) -> Vec<Group> {
    let addresses = outbound.addresses.iter().chain(&outbound.networks);
    let ends = Ends::new(
        addresses.map(String::as_str),
        site.hosts.iter().map(|host| host.port.get()).collect(),
        site.domains.iter().cloned().collect(),
    );
    let key = |(agent, key): (AgentName, AgentKey)| (agent.to_string(), Fingerprint(key.0));
    let ends = match site.way.client_certificate {
        Some(_) => ends.shown(keys.into_iter().map(key).collect()),
        None => ends,
    };
    let mut groups: Vec<Group> = Vec::new();
    for snippet in ends.snippets() {
        let title = w.group(snippet.program);
        let paste = w.paste(snippet);
        match groups.iter_mut().find(|it| it.title == title) {
            Some(group) => group.pastes.push(paste),
            None => groups.push(Group {
                title,
                pastes: vec![paste],
            }),
        }
    }
    groups
}

impl Words {
    fn place(&self, place: mta::Place) -> &'static str {
        match place {
            mta::Place::Postfix => self.x_postfix,
            mta::Place::EximDebianCommands => self.x_exim_debian_commands,
            mta::Place::EximDebian => self.x_exim_debian,
            mta::Place::Exim => self.x_exim,
            mta::Place::OpenSmtpd => self.x_opensmtpd,
            mta::Place::Sendmail => self.x_sendmail,
        }
    }

    fn group(&self, program: Program) -> &'static str {
        match program {
            Program::Nft | Program::Iptables | Program::FritzBox => self.paste_firewall,
            Program::PostfixTable
            | Program::Postfix
            | Program::PostfixKeys
            | Program::PostfixByKey
            | Program::EximMain
            | Program::EximAcl
            | Program::EximShown
            | Program::EximByCertificate
            | Program::OpenSmtpd => self.paste_servers,
            _ => self.paste_filters,
        }
    }

    fn paste(&self, snippet: Snippet) -> Paste {
        Paste {
            into: match snippet.program {
                Program::Nft => self.n_nft,
                Program::Iptables => self.n_iptables,
                Program::FritzBox => self.n_fritzbox,
                Program::PostfixTable => self.n_postfix_table,
                Program::Postfix => self.n_postfix,
                Program::PolicydSpf => self.n_policyd_spf,
                Program::Postgrey => self.n_postgrey,
                Program::RspamdOptions => self.n_rspamd_options,
                Program::RspamdRelay => self.n_rspamd_relay,
                Program::RspamdSpf => self.n_rspamd_spf,
                Program::RspamdGreylist => self.n_rspamd_greylist,
                Program::SpamAssassin => self.n_spamassassin,
                Program::EximMain => self.n_exim_main,
                Program::EximAcl => self.n_exim_acl,
                Program::OpenSmtpd => self.n_opensmtpd,
                Program::OpenDmarc => self.n_opendmarc,
                Program::Fail2ban => self.n_fail2ban,
                Program::PostfixKeys => self.n_postfix_keys,
                Program::PostfixByKey => self.n_postfix_by_key,
                Program::EximShown => self.n_exim_shown,
                Program::EximByCertificate => self.n_exim_by_certificate,
            },
            file: snippet.program.file(),
            lines: snippet.lines,
        }
    }
}

//! Lines that a member pastes at home, so that firewall, mail server and filters know from where the provider's mail comes
//! and judge it by who really sent it.
//!
//! # Invariants
//! - Whole lines, with nothing left to fill in; each is tried with the program it is for.
//! - Nobody is given the right to relay.

use std::fmt::Write as _;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::domain::Domain;
use crate::fingerprint::Fingerprint;

/// What is known about both ends.
#[derive(Debug, Clone, Default)]
pub struct Ends {
    /// From which the mail comes: single addresses are networks of one; merged, and in order.
    networks: Vec<IpNet>,
    /// At which the site is reached, as the provider has them.
    ports: Vec<u16>,
    domains: Vec<Domain>,
    /// The agents by the keys of the certificates that they show; empty where they show none.
    agents: Vec<(String, Fingerprint)>,
}

/// What the lines are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    Nft,
    Iptables,
    FritzBox,
    PostfixTable,
    Postfix,
    PolicydSpf,
    Postgrey,
    RspamdOptions,
    RspamdRelay,
    RspamdSpf,
    RspamdGreylist,
    SpamAssassin,
    EximMain,
    EximAcl,
    OpenSmtpd,
    OpenDmarc,
    Fail2ban,
    PostfixKeys,
    PostfixByKey,
    EximShown,
    EximByCertificate,
}

impl Program {
    /// In JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Nft => "nft",
            Self::Iptables => "iptables",
            Self::FritzBox => "fritzbox",
            Self::PostfixTable => "postfix-table",
            Self::Postfix => "postfix",
            Self::PolicydSpf => "policyd-spf",
            Self::Postgrey => "postgrey",
            Self::RspamdOptions => "rspamd-options",
            Self::RspamdRelay => "rspamd-external-relay",
            Self::RspamdSpf => "rspamd-spf",
            Self::RspamdGreylist => "rspamd-greylist",
            Self::SpamAssassin => "spamassassin",
            Self::EximMain => "exim-main",
            Self::EximAcl => "exim-acl",
            Self::OpenSmtpd => "opensmtpd",
            Self::OpenDmarc => "opendmarc",
            Self::Fail2ban => "fail2ban",
            Self::PostfixKeys => "postfix-keys",
            Self::PostfixByKey => "postfix-by-key",
            Self::EximShown => "exim-shown",
            Self::EximByCertificate => "exim-by-certificate",
        }
    }

    /// The file they belong in; empty where they are no file's.
    pub fn file(self) -> &'static str {
        match self {
            Self::Nft => "/etc/nftables.d/mail-provider.nft",
            Self::Iptables | Self::FritzBox | Self::EximAcl | Self::EximByCertificate => "",
            Self::PostfixTable => "/etc/postfix/provider.cidr",
            Self::PostfixKeys => "/etc/postfix/provider.keys",
            Self::Postfix | Self::PostfixByKey => "/etc/postfix/main.cf",
            Self::PolicydSpf => "/etc/postfix-policyd-spf-python/policyd-spf.conf",
            Self::Postgrey => "/etc/postgrey/whitelist_clients.local",
            Self::RspamdOptions => "/etc/rspamd/local.d/options.inc",
            Self::RspamdRelay => "/etc/rspamd/local.d/external_relay.conf",
            Self::RspamdSpf => "/etc/rspamd/local.d/spf.conf",
            Self::RspamdGreylist => "/etc/rspamd/local.d/greylist.conf",
            Self::SpamAssassin => "/etc/spamassassin/local.cf",
            Self::EximMain | Self::EximShown => "/etc/exim4/exim4.conf.localmacros",
            Self::OpenSmtpd => "/etc/smtpd.conf",
            Self::OpenDmarc => "/etc/opendmarc/ignore.hosts",
            Self::Fail2ban => "/etc/fail2ban/jail.d/mail-provider.local",
        }
    }
}

const ALL: [Program; 17] = [
    Program::Nft,
    Program::Iptables,
    Program::FritzBox,
    Program::PostfixTable,
    Program::Postfix,
    Program::PolicydSpf,
    Program::Postgrey,
    Program::RspamdOptions,
    Program::RspamdRelay,
    Program::RspamdSpf,
    Program::RspamdGreylist,
    Program::SpamAssassin,
    Program::EximMain,
    Program::EximAcl,
    Program::OpenSmtpd,
    Program::OpenDmarc,
    Program::Fail2ban,
];

/// For a site whose hosts are shown a certificate.
const BY_CERTIFICATE: [Program; 4] = [
    Program::PostfixKeys,
    Program::PostfixByKey,
    Program::EximShown,
    Program::EximByCertificate,
];

/// What to paste, and what for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snippet {
    pub program: Program,
    /// Whole lines; of [`Program::FritzBox`] the ports to forward.
    pub lines: String,
}

impl Ends {
    /// What is neither an address nor a network is left out.
    pub fn new<'a>(
        addresses: impl IntoIterator<Item = &'a str>,
        mut ports: Vec<u16>,
        domains: Vec<Domain>,
    ) -> Self {
        let read = |text: &str| {
            let address = text.parse::<IpAddr>().map(IpNet::from);
            address.or_else(|_| text.parse()).ok()
        };
        let networks: Vec<IpNet> = addresses.into_iter().filter_map(read).collect();
        ports.sort_unstable();
        ports.dedup();
        Self {
            // nft refuses a set whose elements overlap.
            networks: IpNet::aggregate(&networks),
            ports,
            domains,
            agents: Vec::new(),
        }
    }

    /// The site's hosts are shown certificates with these keys.
    #[must_use]
    pub fn shown(self, agents: Vec<(String, Fingerprint)>) -> Self {
        Self { agents, ..self }
    }

    /// For every program; none where it is not known yet from where mail comes.
    pub fn snippets(&self) -> Vec<Snippet> {
        if self.networks.is_empty() {
            return Vec::new();
        }
        let of = |program| Snippet {
            program,
            lines: self.lines(program),
        };
        let by_certificate = match self.agents.is_empty() {
            true => &[],
            false => &BY_CERTIFICATE[..],
        };
        ALL.iter().chain(by_certificate).copied().map(of).collect()
    }

    fn lines(&self, program: Program) -> String {
        match program {
            Program::Nft => self.nft(),
            Program::Iptables => self.iptables(),
            Program::FritzBox => format!("TCP {}\n", self.ports(", ")),
            Program::PostfixTable => self.each(|it| format!("{it}\tpermit\n")),
            Program::PostfixKeys => self.keys(),
            Program::PostfixByKey => POSTFIX_BY_KEY.to_owned(),
            Program::EximShown => EXIM_SHOWN.to_owned(),
            Program::EximByCertificate => EXIM_BY_CERTIFICATE.to_owned(),
            Program::Postfix => POSTFIX.to_owned(),
            Program::PolicydSpf => format!("Whitelist = {}\n", self.joined(",")),
            Program::Postgrey => self.each(|it| format!("{it}\n")),
            Program::RspamdOptions => {
                format!("local_addrs = [{}];\n", self.quoted())
            }
            Program::RspamdRelay => RSPAMD_RELAY.to_owned(),
            Program::RspamdSpf => format!("whitelist = [{}];\n", self.quoted()),
            Program::RspamdGreylist => format!("whitelisted_ip = [{}];\n", self.quoted()),
            Program::SpamAssassin => format!(
                "trusted_networks {0}\ninternal_networks {0}\n",
                self.joined(" ")
            ),
            Program::EximMain => self.exim(),
            Program::EximAcl => "  !hosts = +mail_provider\n".to_owned(),
            Program::OpenSmtpd => self.opensmtpd(),
            Program::OpenDmarc => self.each(|it| format!("{it}\n")),
            Program::Fail2ban => format!(
                "[DEFAULT]\nignoreip = 127.0.0.1/8 ::1 {}\n",
                self.joined(" ")
            ),
        }
    }

    fn each(&self, line: impl Fn(&str) -> String) -> String {
        self.networks.iter().map(|it| line(&shown(it))).collect()
    }

    /// Postfix compares both the certificate and its key, and the key stays when the certificate is renewed.
    fn keys(&self) -> String {
        let line = |(agent, key): &(String, Fingerprint)| {
            let pairs: Vec<String> = key.0.iter().map(|byte| format!("{byte:02X}")).collect();
            format!("# {agent}\n{}\tpermit\n", pairs.join(":"))
        };
        self.agents.iter().map(line).collect()
    }

    fn joined(&self, between: &str) -> String {
        let all: Vec<String> = self.networks.iter().map(shown).collect();
        all.join(between)
    }

    fn quoted(&self) -> String {
        format!("\"{}\"", self.joined("\", \""))
    }

    fn ports(&self, between: &str) -> String {
        let all: Vec<String> = self.ports.iter().map(u16::to_string).collect();
        all.join(between)
    }

    fn of_family(&self, is_v6: bool) -> Vec<String> {
        let of_it = self
            .networks
            .iter()
            .filter(|it| it.addr().is_ipv6() == is_v6);
        of_it.map(shown).collect()
    }

    /// A table of its own: what it drops stays dropped, whatever other tables accept.
    fn nft(&self) -> String {
        let mut text = String::from("table inet mail_provider\ndelete table inet mail_provider\n");
        text.push_str("table inet mail_provider {\n");
        let families = [("ip", "ipv4_addr", false), ("ip6", "ipv6_addr", true)];
        let families = families.map(|(word, kind, is_v6)| (word, kind, self.of_family(is_v6)));
        let families: Vec<_> = families
            .iter()
            .filter(|(_, _, its)| !its.is_empty())
            .collect();
        for (word, kind, its) in &families {
            let elements = its.join(", ");
            let _ = write!(
                text,
                "  set from_{word} {{\n    type {kind}\n    flags interval\n    elements = {{ {elements} }}\n  }}\n"
            );
        }
        text.push_str(
            "  chain input {\n    type filter hook input priority filter; policy accept;\n",
        );
        let port = format!("tcp dport {{ {} }}", self.ports(", "));
        let _ = writeln!(text, "    iifname \"lo\" accept");
        for (word, _, _) in &families {
            let _ = writeln!(text, "    {port} {word} saddr @from_{word} accept");
        }
        let _ = write!(text, "    {port} drop\n  }}\n}}\n");
        text
    }

    fn iptables(&self) -> String {
        let port = format!("-p tcp -m multiport --dports {}", self.ports(","));
        let mut text = String::new();
        for (command, is_v6) in [("iptables", false), ("ip6tables", true)] {
            // Each is put in front of those before it.
            let _ = writeln!(text, "{command} -I INPUT {port} -j DROP");
            for it in self.of_family(is_v6) {
                let _ = writeln!(text, "{command} -I INPUT {port} -s {it} -j ACCEPT");
            }
            let _ = writeln!(text, "{command} -I INPUT -i lo {port} -j ACCEPT");
        }
        text
    }

    fn exim(&self) -> String {
        let (all, others) = (self.joined(" ; "), self.joined(" ; ! "));
        format!(
            "hostlist mail_provider = <; {all}\n\
             MAIN_SMTP_ACCEPT_MAX_NOMAIL_HOSTS = <; ! {others} ; *\n\
             smtp_accept_queue_per_connection = 0\n"
        )
    }

    fn opensmtpd(&self) -> String {
        let quoted = |all: Vec<String>| format!("{{ \"{}\" }}", all.join("\", \""));
        let domains = self.domains.iter().map(ToString::to_string).collect();
        format!(
            "table mail_provider {}\nmatch from src <mail_provider> for domain {} action \"local\"\n",
            quoted(self.networks.iter().map(shown).collect()),
            quoted(domains),
        )
    }
}

/// A network of one as its address.
fn shown(net: &IpNet) -> String {
    match net.prefix_len() == net.max_prefix_len() {
        true => net.addr().to_string(),
        false => net.to_string(),
    }
}

/// In front of whatever judges a client.
const POSTFIX: &str = "postscreen_access_list = permit_mynetworks, cidr:/etc/postfix/provider.cidr
smtpd_recipient_restrictions = permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination,
        check_client_access cidr:/etc/postfix/provider.cidr
";

/// The same by what the agents show, whatever address they come from.
const POSTFIX_BY_KEY: &str = "smtpd_tls_ask_ccert = yes
smtpd_tls_fingerprint_digest = sha256
smtpd_recipient_restrictions = permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination,
        check_ccert_access texthash:/etc/postfix/provider.keys
";

/// The file is the one that comes with the member's own certificate.
const EXIM_SHOWN: &str = "MAIN_TLS_TRY_VERIFY_HOSTS = *
MAIN_TLS_VERIFY_CERTIFICATES = /etc/exim4/ca.pem
";

/// Members have certificates of the same authority; the unit is the agents' alone.
const EXIM_BY_CERTIFICATE: &str = "  !condition = ${if and{{eq{$tls_in_certificate_verified}{1}}{match{$tls_in_peerdn}{OU=dd-agent}}}}
";

/// The first `Received` field of an address that is not local names who spoke to the provider.
const RSPAMD_RELAY: &str = "enabled = true;
rules {
  MAIL_PROVIDER {
    strategy = \"local\";
  }
}
";

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(addresses: &[&str]) -> Ends {
        let domains = ["home.example", "home.example.net"].map(|it| it.parse().unwrap());
        Ends::new(
            addresses.iter().copied(),
            vec![2525, 25, 25],
            domains.to_vec(),
        )
    }

    fn text(ends: &Ends) -> String {
        let all = ends.snippets().into_iter();
        all.map(|it| {
            format!(
                "# {} {}\n{}\n",
                it.program.word(),
                it.program.file(),
                it.lines
            )
        })
        .collect()
    }

    #[test]
    fn a_family_without_addresses_has_no_empty_set_and_no_addresses_are_no_lines() {
        let four = text(&ends(&["192.0.2.10"]));
        assert!(!four.contains("from_ip6"), "{four}");
        assert_eq!(ends(&[]).snippets(), []);
    }

    #[test]
    fn the_agents_keys_are_pasted_only_where_they_are_shown() {
        let none = text(&ends(&["192.0.2.10"]));
        assert!(!none.contains("ccert"), "{none}");
        let agents = vec![("out1".to_owned(), Fingerprint([0xab; 32]))];
        let shown = text(&ends(&["192.0.2.10"]).shown(agents));
        let line = format!("# out1\nAB{}\tpermit\n", ":AB".repeat(31));
        assert!(shown.contains(&line), "{shown}");
        assert!(shown.contains("smtpd_tls_ask_ccert = yes"), "{shown}");
    }
}

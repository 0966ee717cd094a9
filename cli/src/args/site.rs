//! `ddadm site …`.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use clap::{Args as Group, Subcommand, ValueEnum};
use dd_proto::domain::Domain;
use dd_proto::fingerprint::Fingerprint;
use dd_proto::name::{AgentName, AuthorityName, SiteName};
use dd_proto::path::Mailbox;
use dd_proto::pattern::Pattern;
use dd_proto::site::{Family, HandOver, Language};
use dd_proto::units::{OutageNotice, parse_duration, parse_size};
use ipnet::IpNet;
use jiff::Timestamp;

use crate::args::values::{HostArg, host, mailbox, network, time};

pub(crate) const EXAMPLES: &str = "\
Examples:
  ddadm site add sitename --domain sitename.example.net \\
        --host home.dyndns.example --proof certificate \\
        --authority member-ca --cert-name sitename.members.example.net
  ddadm site add office --domain office.example --host 192.0.2.25 \\
        --proof static-ip
  ddadm site add shed --domain shed.example --host shed.dyndns.example:2525 \\
        --proof port
  ddadm site set sitename --retry 1m --quota-bytes 1G
  ddadm site set sitename --clear quota-bytes
  ddadm site set --match 'office-*' --lifetime 5d
  ddadm site list --state waiting --why wrong-host
  ddadm site list --columns name,last-mail,contact
  ddadm site hold sitename --until 2026-12-24T18:00
  ddadm site move-domain shed.example --to office

certificate  a chain to --authority, and --cert-name in the certificate
public       a chain to a root of the web PKI, and --cert-name in it
fingerprint  the certificate, or its public key, is one of --fingerprint
static-ip    the connected address must be listed; a --host that is an
             address lists itself
port         nothing but the agreed host and a port other than 25

DUR is a number of s, m, h or d; SIZE is bytes, or a number of K, M or G. A flag that takes several values \
takes them together or repeated. In a PATTERN * stands for any characters and ? for one, in either case.";

#[derive(Debug, Subcommand)]
pub(crate) enum SiteVerb {
    /// Add a site, complete in one command
    Add(Box<Add>),
    /// Change what is given; a list replaces the earlier one
    Set(Box<Set>),
    /// State, queue, last attempts, and who answered
    Show { name: SiteName },
    /// All sites, or some: where they stand and what waits
    List(Box<List>),
    /// One of its domains goes to another site, in one step: no mail for it is refused meanwhile
    ///
    /// What waits stays with the site that it came for. Recipients at the domain that are listed go along.
    MoveDomain {
        #[arg(value_name = "DOMAIN")]
        domain: Domain,
        /// The site that has it from now on
        #[arg(long, value_name = "NAME")]
        to: SiteName,
    },
    /// Remove a site; one with mail only with --fail or --discard
    Remove {
        name: SiteName,
        #[command(flatten)]
        mail: RemovedMail,
    },
    /// Let its mail wait: nothing is tried, nothing expires
    Hold {
        #[arg(value_name = "NAME", required = true)]
        names: Vec<SiteName>,
        /// Ends by itself then: RFC 3339, or a local date or time such as 2026-12-24T18:00
        #[arg(long, value_name = "T", value_parser = time)]
        until: Option<Timestamp>,
    },
    /// End a hold
    Resume {
        #[arg(value_name = "NAME", required = true)]
        names: Vec<SiteName>,
    },
    /// What every agent sees there now: resolve, connect, banner, STARTTLS, chain, name; no mail
    Check {
        name: SiteName,
        /// Only this agent
        #[arg(long, value_name = "A")]
        agent: Option<AgentName>,
    },
    /// Lines to paste at the member's: firewall, mail server, filters
    Snippets { name: SiteName },
    /// Set the wake-up password, or make one up and print it once
    Password {
        name: SiteName,
        /// Read it from standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// Make the secret URL that wakes the site up, and print it once; an earlier one is void
    WakeSecret {
        name: SiteName,
        /// Make the URL void, and no new one
        #[arg(long)]
        revoke: bool,
    },
}

/// Which sites, and what is said of each.
#[derive(Debug, Default, Group)]
pub(crate) struct List {
    /// Only in this state; several are alternatives
    #[arg(long, value_enum, value_name = "STATE", num_args = 1.., value_delimiter = ',')]
    pub(crate) state: Vec<State>,
    /// Only those that wait for this reason; several are alternatives
    #[arg(long, value_enum, value_name = "WHY", num_args = 1.., value_delimiter = ',')]
    pub(crate) why: Vec<Why>,
    /// Only those whose names match
    #[arg(long = "match", value_name = "PATTERN")]
    pub(crate) matching: Option<Pattern>,
    /// What the table shows, in this order; JSON has everything
    #[arg(long, value_enum, value_name = "COLUMN", num_args = 1.., value_delimiter = ',')]
    pub(crate) columns: Vec<Column>,
}

impl List {
    /// Whether some sites may be left out.
    pub(crate) fn is_narrowed(&self) -> bool {
        !self.state.is_empty() || !self.why.is_empty() || self.matching.is_some()
    }
}

/// How a site stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum State {
    Idle,
    Ready,
    Proving,
    Flowing,
    Waiting,
    Held,
}

/// Why a site waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Why {
    Down,
    WrongHost,
    Refused,
    Busy,
    Deferred,
}

/// A column of the table of sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Column {
    Name,
    State,
    Why,
    Messages,
    Size,
    NextAttempt,
    Proof,
    Hosts,
    Domains,
    Contact,
    LastMail,
    Agents,
    CertName,
    Version,
}

/// What becomes of the mail of a site that is removed; without either, a site that has mail stays.
#[derive(Debug, Group)]
pub(crate) struct RemovedMail {
    /// Return its mail to the senders
    #[arg(long, conflicts_with = "discard")]
    pub(crate) fail: bool,
    /// Forget its mail, without telling anybody
    #[arg(long)]
    pub(crate) discard: bool,
}

#[derive(Debug, Group)]
pub(crate) struct Add {
    pub(crate) name: SiteName,
    #[command(flatten)]
    pub(crate) flags: SiteFlags,
    /// Take over mail that is held under this name since an earlier site was removed
    #[arg(long)]
    pub(crate) take_mail: bool,
}

#[derive(Debug, Group)]
#[command(group = clap::ArgGroup::new("sites").required(true).args(["name", "all", "matching"]))]
pub(crate) struct Set {
    pub(crate) name: Option<SiteName>,
    /// Every site; with what they can have in common, such as --retry or --agent
    #[arg(long)]
    pub(crate) all: bool,
    /// The sites whose names match
    #[arg(long = "match", value_name = "PATTERN")]
    pub(crate) matching: Option<Pattern>,
    #[command(flatten)]
    pub(crate) flags: SiteFlags,
    /// Remove what these flags once set
    #[arg(long, value_name = "FLAG", value_enum, num_args = 1.., value_delimiter = ',')]
    pub(crate) clear: Vec<Clear>,
}

/// What can be said about a site. `add` insists on domain, host and proof (see `cmd::site::spec`).
#[derive(Debug, Group)]
pub(crate) struct SiteFlags {
    /// Mail domains
    #[arg(long, value_name = "D", num_args = 1.., value_delimiter = ',')]
    pub(crate) domain: Vec<Domain>,
    /// Where its mail server is reached, in order of preference; `[2001:db8::1]:25` for IPv6 with a port
    #[arg(long, value_name = "HOST[:PORT]", num_args = 1.., value_delimiter = ',', value_parser = host)]
    pub(crate) host: Vec<HostArg>,
    /// How the far end proves to be the site
    #[arg(long, value_enum)]
    pub(crate) proof: Option<ProofKind>,
    /// For hosts given without a port [default: 25]
    #[arg(long, value_name = "N", requires = "host")]
    pub(crate) port: Option<NonZeroU16>,
    /// static-ip: the addresses that count
    #[arg(long, value_name = "IP", num_args = 1.., value_delimiter = ',')]
    pub(crate) address: Vec<IpAddr>,
    /// certificate (and static-ip, to ask for both): an authority, see `ddadm ca list`
    #[arg(long, value_name = "CA")]
    pub(crate) authority: Option<AuthorityName>,
    /// certificate, public (and static-ip): the DNS name it must carry
    #[arg(long, value_name = "NAME")]
    pub(crate) cert_name: Option<Domain>,
    /// fingerprint: the certificates or public keys that count
    #[arg(long, value_name = "SHA256", num_args = 1.., value_delimiter = ',')]
    pub(crate) fingerprint: Vec<Fingerprint>,
    /// Only these addresses exist there [default: any]
    #[arg(long, value_name = "R", num_args = 1.., value_parser = mailbox)]
    pub(crate) recipient: Vec<Mailbox>,
    /// Sessions at once, 1 to 20
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=20))]
    pub(crate) connections: Option<u32>,
    /// Between two tries of a site that is away
    #[arg(long, value_name = "DUR", value_parser = parse_duration)]
    pub(crate) retry: Option<Duration>,
    /// After it, mail that could not be delivered goes back
    #[arg(long, value_name = "DUR", value_parser = parse_duration)]
    pub(crate) lifetime: Option<Duration>,
    /// After it, a sender who asked for that is told
    #[arg(long, value_name = "DUR", value_parser = parse_duration)]
    pub(crate) delay_warning: Option<Duration>,
    /// The contact is told when mail has waited that long because the site is away; or never
    #[arg(long, value_name = "DUR|never")]
    pub(crate) outage_notice: Option<OutageNotice>,
    /// The largest message it takes
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) max_message: Option<u64>,
    /// Messages that may wait [default: any number]
    #[arg(long, value_name = "N")]
    pub(crate) quota_messages: Option<u64>,
    /// Bytes that may wait [default: any number]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) quota_bytes: Option<u64>,
    /// Read the wake-up password from standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
    /// Whom to ask about the site
    #[arg(long, value_name = "ADDR", value_parser = mailbox)]
    pub(crate) contact: Option<Mailbox>,
    /// What the contact reads: en or de [default: both]
    #[arg(long, value_name = "LANG")]
    pub(crate) language: Option<Language>,
    /// Networks its hosts may lie in although the built-in rules forbid them
    #[arg(long, value_name = "NET", num_args = 1.., value_delimiter = ',', value_parser = network)]
    pub(crate) allow_target: Vec<IpNet>,
    /// How it is told, once proved, from whom your MX had a message: none, xforward or xclient [default: none]
    #[arg(long, value_name = "HOW")]
    pub(crate) hand_over: Option<HandOver>,
    /// Your agents show its hosts a certificate where one is asked for: of this authority of yours [default: that of its
    /// proof, or your only one]
    #[arg(long, value_name = "CA", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub(crate) client_certificate: Option<String>,
    /// TLS begins with the first byte of a connection to its hosts, without STARTTLS
    #[arg(long)]
    pub(crate) tls_on_connect: bool,
    /// Its hosts speak LMTP, such as Dovecot and Cyrus; not on port 25
    #[arg(long)]
    pub(crate) lmtp: bool,
    /// Of its hosts' names only IPv4 or only IPv6 addresses are connected to: 4, 6 or any [default: any]
    #[arg(long, value_name = "4|6|any")]
    pub(crate) family: Option<Family>,
    /// Only these agents carry its mail [default: any does]
    #[arg(long, value_name = "NAME", num_args = 1.., value_delimiter = ',')]
    pub(crate) agent: Vec<AgentName>,
}

/// The proofs a site can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProofKind {
    StaticIp,
    Certificate,
    Port,
    Fingerprint,
    Public,
}

/// The flags whose values can be absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Clear {
    Recipient,
    Connections,
    Retry,
    Lifetime,
    DelayWarning,
    OutageNotice,
    MaxMessage,
    QuotaMessages,
    QuotaBytes,
    #[value(alias = "password-stdin")]
    Password,
    Contact,
    Language,
    HandOver,
    ClientCertificate,
    TlsOnConnect,
    Lmtp,
    Family,
    AllowTarget,
    Agent,
    /// What it has shown: a host without TLS is taken again, and its next key is no news
    Shown,
}

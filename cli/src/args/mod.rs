//! The command line: what stands here is what people script against.
//!
//! # Invariants
//! A value that parsed is a domain type; what the controller would refuse as malformed never leaves this file.

pub(crate) mod queue;
pub(crate) mod site;
mod values;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args as Group, Parser, Subcommand, ValueEnum};
use dd_proto::domain::Domain;
use dd_proto::name::{AdminName, AgentName, AuthorityName, SiteName};
use dd_proto::units::parse_duration;
use jiff::Timestamp;

use crate::args::queue::QueueVerb;
use crate::args::site::SiteVerb;
pub(crate) use crate::args::values::IdArg;
use crate::failure::Failure;
use crate::output::Output;

/// Where help lists what goes with every command.
const GLOBAL: &str = "Every command";

/// Administers a controller: sites, their mail, agents and authorities.
#[derive(Debug, Parser)]
#[command(
    name = "ddadm",
    version,
    max_term_width = 100,
    propagate_version = false,
    after_help = "\
Examples:
  ddadm status
  ddadm site add sitename --domain sitename.example.net \\
        --host home.dyndns.example --proof certificate \\
        --authority member-ca --cert-name sitename.members.example.net
  ddadm etrn sitename --wait
  ddadm queue list sitename --output json

Exit: 0 done, 1 failed or refused, 2 usage, 3 controller not reachable, 4 no such thing, 5 site not reached \
or not proved."
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// For people, or one JSON value for programs
    #[arg(long, global = true, value_enum, value_name = "FORM", default_value_t = Output::Table,
        help_heading = GLOBAL)]
    pub(crate) output: Output,
    #[command(subcommand)]
    pub(crate) noun: Noun,
}

/// Where a controller has its socket as the packages configure it, and where it has it without `[control] socket`, in the
/// state directory that the packages use.
const SOCKETS: [&str; 2] = [
    "/run/dd-controller/admin.sock",
    "/var/lib/dd-controller/admin.sock",
];

/// The first at which something lies; where nothing does, the first of all, which the error names.
fn usual_socket(is_there: impl Fn(&Path) -> bool) -> PathBuf {
    let found = SOCKETS
        .map(Path::new)
        .into_iter()
        .find(|path| is_there(path));
    found.unwrap_or(Path::new(SOCKETS[0])).to_owned()
}

/// How the controller is reached.
#[derive(Debug, Group)]
pub(crate) struct Connection {
    /// The local controller's socket; where nothing lies there, /var/lib/dd-controller/admin.sock
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "DDADM_SOCKET",
        default_value = SOCKETS[0],
        help_heading = GLOBAL
    )]
    pub(crate) socket: PathBuf,
    /// A controller elsewhere, such as https://controller.example.net:7443; instead of --socket
    #[arg(long, global = true, value_name = "URL", env = "DDADM_CONTROLLER", help_heading = GLOBAL)]
    pub(crate) controller: Option<String>,
    /// Who we are there: a directory with admin.pem, admin.key and authority.pem
    #[arg(long, global = true, value_name = "DIR", env = "DDADM_IDENTITY", help_heading = GLOBAL)]
    pub(crate) identity: Option<PathBuf>,
}

impl Connection {
    /// What the command line says goes before the environment; in the environment alone, a controller elsewhere goes
    /// before the socket, and an identity that nothing asks for means nothing.
    ///
    /// # Errors
    /// The command line asks for both ways.
    pub(crate) fn settle(&mut self, matches: &ArgMatches) -> Result<(), Failure> {
        let said = |id| matches.value_source(id) == Some(ValueSource::CommandLine);
        match (said("socket"), said("controller")) {
            (true, true) => {
                return Err(Failure::Usage(
                    "--socket and --controller are two ways to a controller: say one of them"
                        .into(),
                ));
            }
            (true, false) => self.controller = None,
            (false, true) => {}
            (false, false) => self.controller = self.controller.take().filter(|it| !it.is_empty()),
        }
        if matches.value_source("socket") == Some(ValueSource::DefaultValue) {
            self.socket = usual_socket(Path::exists);
        }
        if self.controller.is_none() && !said("identity") {
            self.identity = None;
        }
        Ok(())
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Noun {
    /// Sites: whom the mail is for, where it goes, how the far end proves to be the right machine
    #[command(after_help = site::EXAMPLES, arg_required_else_help = true)]
    Site {
        #[command(subcommand)]
        verb: SiteVerb,
    },
    /// Make everything that waits for a site due now
    #[command(after_help = "\
Examples:
  ddadm etrn sitename
  ddadm etrn sitename --wait
  ddadm etrn sitename other --wait 5m

With --wait it says what came of it, and exits 5 where the site was not reached or not proved, 1 where mail \
still waits for another reason.")]
    Etrn(Etrn),
    /// Mail that waits
    #[command(
        after_help = "\
Examples:
  ddadm queue list
  ddadm queue list sitename
  ddadm queue show 0197f3a07a5b7c3e8d2f4a5b6c7d8e9f
  ddadm queue retry 0197f3a07a5b7c3e8d2f4a5b6c7d8e9f --site sitename
  ddadm queue fail 0197f3a07a5b7c3e8d2f4a5b6c7d8e9f
  ddadm queue remove --site sitename
  ddadm queue fail --match 'spammer@*'
  ddadm queue list --output json | jq -r '.[].id' | ddadm queue retry -
  ddadm queue search --from a@b.example --since 2026-12-24

A PATTERN is an address, with * for any characters and ? for one, in either case. States are due, waiting, \
held, kept, in-doubt, failed and out, as in the column NEXT.",
        arg_required_else_help = true
    )]
    Queue {
        #[command(subcommand)]
        verb: QueueVerb,
    },
    /// Agents: who hands the mail over, and from which addresses
    #[command(
        after_help = "\
Examples:
  ddadm agent add out1 --address 192.0.2.10 2001:db8::10
  ddadm agent add out2 --address 192.0.2.11 --from 2026-12-24
  ddadm agent list
  ddadm agent set out1 --address 192.0.2.12
  ddadm agent token out1
  ddadm agent drain out1
  ddadm agent addresses --format nft",
        arg_required_else_help = true
    )]
    Agent {
        #[command(subcommand)]
        verb: AgentVerb,
    },
    /// Who may administer from another machine, and how much
    #[command(
        after_help = "\
Examples:
  ddadm admin add anna --out anna
  ddadm admin add helpdesk --role operator --csr helpdesk.csr --out helpdesk
  ddadm admin list
  ddadm admin remove anna

  export DDADM_CONTROLLER=https://controller.example.net:7443
  export DDADM_IDENTITY=~/anna
  ddadm status

Roles: a reader shows and lists, without the content of mail and without hashes; an operator also holds, \
resumes, releases, checks, retries and drains; an admin may do everything. Whoever may open the local socket \
may do everything too, and is not listed here: the audit has the user's own name, so that `root` is no name \
for an administrator.",
        arg_required_else_help = true
    )]
    Admin {
        #[command(subcommand)]
        verb: AdminVerb,
    },
    /// Authorities (CAs) that sites prove themselves with
    #[command(
        after_help = "\
Examples:
  ddadm ca create member-ca --permit members.example.net
  ddadm ca import other-ca --certificate other-ca.pem --crl other-ca.crl
  ddadm ca list
  ddadm ca show member-ca",
        arg_required_else_help = true
    )]
    Ca {
        #[command(subcommand)]
        verb: CaVerb,
    },
    /// Sites, agents and authorities as one file: backup, and many at once
    #[command(
        after_help = "\
Examples:
  ddadm registry export > registry.toml
  ddadm registry apply registry.toml

The file has tables [site.NAME], [agent.NAME] and [authority.NAME]; keys are the long flags of the add \
commands. It holds hashes of passwords, and no private key. What it does not say stays as it is.",
        arg_required_else_help = true
    )]
    Registry {
        #[command(subcommand)]
        verb: RegistryVerb,
    },
    /// Certificates for members' mail servers, by an authority of our own
    #[command(
        after_help = "\
Examples:
  ddadm cert issue sitename --out sitename-tls
  ddadm cert issue sitename --csr sitename.csr --days 90 --out sitename-tls
  ddadm cert list sitename
  ddadm cert revoke 4a5b6c7d8e9fa0b1c2d3e4f506172839",
        arg_required_else_help = true
    )]
    Cert {
        #[command(subcommand)]
        verb: CertVerb,
    },
    /// The wall clock, by which mail expires
    #[command(
        after_help = "Example:\n  ddadm clock confirm",
        arg_required_else_help = true
    )]
    Clock {
        #[command(subcommand)]
        verb: ClockVerb,
    },
    /// What happens from now on, one event a line; Ctrl-C ends it
    #[command(after_help = "Examples:\n  ddadm watch\n  ddadm watch sitename --output json")]
    Watch {
        /// Only what concerns this site
        site: Option<SiteName>,
    },
    /// Who changed what, oldest first
    #[command(after_help = "Example:\n  ddadm audit --last 200")]
    Audit {
        /// The newest so many
        #[arg(long, value_name = "N", default_value_t = 50)]
        last: u64,
    },
    /// What the controller is doing, and what is wrong
    #[command(after_help = "Example:\n  ddadm status --output json")]
    Status,
    /// The configuration that is in force, and where each value comes from
    #[command(after_help = "\
Examples:
  ddadm config
  ddadm config --changed

It is what the controller read at its start: what the file has been given since then takes effect at the next \
one, and is said.")]
    Config {
        /// Only what the file says, without the defaults
        #[arg(long)]
        changed: bool,
    },
    /// All that a report of a fault needs, as one text: no secrets, no content of mail, no addresses of people
    #[command(after_help = "\
Examples:
  ddadm report > report.txt
  ddadm report --site sitename > report.txt

Look at it before you send it. The log is not in it: add the lines around the fault, such as those of \
`journalctl -u dd-controller --since -1h`.")]
    Report {
        /// With all that is known of this site
        #[arg(long, value_name = "NAME")]
        site: Option<SiteName>,
    },
    /// Completions for a shell, on standard output; packages ship them
    #[command(hide = true)]
    Completions { shell: Shell },
    /// The manual pages of all three programs, as files; packages ship them
    #[command(hide = true)]
    Man {
        /// Made where it is missing
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, Group)]
pub(crate) struct Etrn {
    #[arg(value_name = "NAME", required = true)]
    pub(crate) sites: Vec<SiteName>,
    /// Wait for what comes of it, at most this long
    #[arg(
        long,
        value_name = "DUR",
        num_args = 0..=1,
        default_missing_value = "60s",
        value_parser = parse_duration
    )]
    pub(crate) wait: Option<Duration>,
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum ClockVerb {
    /// After an alarm: it is right, and mail may expire again
    Confirm,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AgentVerb {
    /// Announce a new agent and print its join token, which works for an hour
    Add {
        name: AgentName,
        /// The outbound addresses it binds
        #[arg(long, value_name = "IP", required = true, num_args = 1.., value_delimiter = ',')]
        address: Vec<IpAddr>,
        /// Publish the addresses now, use them from then on
        #[arg(long, value_name = "DATE", value_parser = values::time)]
        from: Option<Timestamp>,
    },
    /// Change its outbound addresses, or from when it works
    #[command(group = clap::ArgGroup::new("change").required(true).multiple(true)
        .args(["address", "from", "at_once"]))]
    Set {
        name: AgentName,
        /// The outbound addresses it binds, instead of the present ones
        #[arg(long, value_name = "IP", num_args = 1.., value_delimiter = ',')]
        address: Vec<IpAddr>,
        /// Use it from then on
        #[arg(long, value_name = "DATE", value_parser = values::time, conflicts_with = "at_once")]
        from: Option<Timestamp>,
        /// Use it from now on
        #[arg(long)]
        at_once: bool,
    },
    /// Print a new join token, which works for an hour; the agent goes on as it is until it is used
    Token { name: AgentName },
    /// State, load and addresses of each; FROM is when addresses that were set ahead come into use
    List,
    /// Give it no new work, over restarts too, until it is resumed; its sites go on through other agents
    Drain { name: AgentName },
    /// Give it work again
    Resume { name: AgentName },
    /// End its stream at once and let it in no more; what it had in hand goes to others
    Remove { name: AgentName },
    /// What members open their firewalls to
    Addresses {
        /// `--output json` gives JSON whatever stands here
        #[arg(long, value_enum, default_value_t = AddressFormat::Text)]
        format: AddressFormat,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AdminVerb {
    /// Make an identity: a key that stays here, and a certificate for 90 days, which ddadm renews by itself
    Add {
        name: AdminName,
        /// What it may do
        #[arg(long, value_enum, value_name = "ROLE", default_value_t = Role::Admin)]
        role: Role,
        /// Certify the key of this request (PEM or DER) instead of making one
        #[arg(long, value_name = "FILE")]
        csr: Option<PathBuf>,
        /// Where admin.key (0600), admin.pem and authority.pem are written
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Role, end of the certificate and last call of each
    List,
    /// Let it in no more, and end what it is calling, at once
    Remove { name: AdminName },
    /// A certificate for another 90 days in --identity; at two thirds of its life every command does it by itself
    Renew,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Everything
    Admin,
    /// What a reader may; also hold, resume, etrn, check, retry, drain
    Operator,
    /// Show and list
    Reader,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AddressFormat {
    /// One a line
    Text,
    Json,
    /// Definitions to include in an nftables file
    Nft,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CertVerb {
    /// For exactly the name in the site's record; the lines to paste are printed. Again, to renew it
    Issue {
        site: SiteName,
        /// Sign the key of this request (PEM or DER) instead of making one
        #[arg(long, value_name = "FILE")]
        csr: Option<PathBuf>,
        /// How long it is valid, 1 to 825 [default: 365]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=825))]
        days: Option<u32>,
        /// Where SITE.key (0600), SITE.pem and ca.pem are written
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// What was issued, revoked ones included
    List {
        /// Only this site's
        site: Option<SiteName>,
    },
    /// Refuse it from the next handshake on, and end open sessions
    Revoke {
        /// As `cert list` shows it
        serial: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum CaVerb {
    /// Make an authority of our own; its key never leaves the controller
    Create {
        name: AuthorityName,
        /// Certify only names at or below these domains [default: any]
        #[arg(long, value_name = "DOMAIN", num_args = 1.., value_delimiter = ',')]
        permit: Vec<Domain>,
    },
    /// Issue with a new key from now on; what the old one signed still counts until --finish
    Rollover {
        name: AuthorityName,
        /// The old keys go: what they signed proves nothing any more
        #[arg(long)]
        finish: bool,
        /// Also where sites still use what they signed: those are cut off
        #[arg(long, requires = "finish")]
        force: bool,
    },
    /// Remove one that no site relies on, with its keys
    Remove { name: AuthorityName },
    /// Take in an authority, or the present certificates of one that is known
    Import {
        name: AuthorityName,
        /// PEM (any number of certificates) or DER (one)
        #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
        certificate: Vec<PathBuf>,
        /// Revocation lists of these certificates, PEM (any number) or DER (one)
        #[arg(long, value_name = "FILE", num_args = 1..)]
        crl: Vec<PathBuf>,
    },
    /// Its revocation lists as PEM; with --import, newer ones are taken in
    Crl {
        name: AuthorityName,
        /// PEM (any number) or DER (one); each takes the place of an earlier one of its issuer
        #[arg(long, value_name = "FILE", num_args = 1..)]
        import: Vec<PathBuf>,
    },
    /// Names, subjects and how long they are valid
    List,
    /// One authority and its certificates
    Show { name: AuthorityName },
}

#[derive(Debug, Subcommand)]
pub(crate) enum RegistryVerb {
    /// Print the file
    Export,
    /// Take a file in: adds and changes, never removes, and says what the file lacks
    ///
    /// The file may be older than what is there. So no revocation list is replaced by an older one, and the certificates
    /// of an authority that is there stay: our own change with `ca rollover`, imported ones with `ca import`, or by
    /// `replace = true` in their table. What is left out for that is named as `not taken`.
    Apply {
        /// `-` reads standard input
        file: PathBuf,
        /// Say what would be added and changed, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
}

#[cfg(test)]
mod tests;

//! `ddadm queue …`.

use std::time::Duration;

use clap::{Args as Group, Subcommand, ValueEnum};
use dd_proto::id::MessageId;
use dd_proto::name::SiteName;
use dd_proto::pattern::Pattern;
use dd_proto::units::parse_duration;
use jiff::Timestamp;

use crate::args::values::{self, IdArg};

#[derive(Debug, Subcommand)]
pub(crate) enum QueueVerb {
    /// One row for each message and site
    List {
        /// Only what waits for this site
        site: Option<SiteName>,
        #[command(flatten)]
        filter: Filter,
    },
    /// Messages that wait, and those that are settled, for as long as `[history] keep`; the newest first
    Search(Box<Search>),
    /// One message: its envelope, and what became of it at each site
    Show { id: MessageId },
    /// The message itself, on standard output; who reads it is in the audit
    Content { id: MessageId },
    /// Make due now
    Retry(Selection),
    /// Give up, and tell the sender
    Fail(Selection),
    /// Forget, without telling the sender
    Remove(Selection),
}

/// What is left out of a list.
#[derive(Debug, Group)]
pub(crate) struct Filter {
    /// Only what stands so; several are alternatives
    #[arg(long, value_enum, value_name = "STATE", num_args = 1.., value_delimiter = ',')]
    pub(crate) state: Vec<Stands>,
    /// Only what has come longer ago
    #[arg(long, value_name = "DUR", value_parser = parse_duration)]
    pub(crate) older: Option<Duration>,
    /// Only from this sender
    #[arg(long, value_name = "PATTERN")]
    pub(crate) from: Option<Pattern>,
    /// Only where a recipient is this one
    #[arg(long, value_name = "PATTERN")]
    pub(crate) to: Option<Pattern>,
    /// Only where the sender or a recipient is this one
    #[arg(long = "match", value_name = "PATTERN")]
    pub(crate) matching: Option<Pattern>,
}

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stands {
    Due,
    Waiting,
    Held,
    Kept,
    InDoubt,
    Failed,
    Out,
}

#[derive(Debug, Group)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true).args(["ids", "site", "matching"]))]
pub(crate) struct Selection {
    /// Messages, as in `queued as ID`, with all their open deliveries; `-` reads IDs from standard input
    #[arg(value_name = "ID", value_parser = values::id)]
    pub(crate) ids: Vec<IdArg>,
    /// Only the deliveries to this site; without an ID, all that wait for it
    #[arg(long, value_name = "NAME")]
    pub(crate) site: Option<SiteName>,
    /// Instead of IDs: all whose sender or one of whose recipients is this one
    #[arg(long = "match", value_name = "PATTERN", conflicts_with = "ids")]
    pub(crate) matching: Option<Pattern>,
}

/// What is looked for. All that is given has to be true of a message.
#[derive(Debug, Group)]
pub(crate) struct Search {
    /// As in `queued as ID`
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<MessageId>,
    /// The Message-ID field, with or without its angle brackets
    #[arg(long, value_name = "PATTERN")]
    pub(crate) message_id: Option<Pattern>,
    /// The sender, as in MAIL FROM
    #[arg(long, value_name = "PATTERN")]
    pub(crate) from: Option<Pattern>,
    /// One of the recipients
    #[arg(long, value_name = "PATTERN")]
    pub(crate) to: Option<Pattern>,
    /// To this site
    #[arg(long, value_name = "NAME")]
    pub(crate) site: Option<SiteName>,
    /// Came at this time or later: RFC 3339, or a local date or time such as 2026-12-24T18:00
    #[arg(long, value_name = "T", value_parser = values::time)]
    pub(crate) since: Option<Timestamp>,
    /// Came before this time
    #[arg(long, value_name = "T", value_parser = values::time)]
    pub(crate) until: Option<Timestamp>,
    /// At most this many messages, 1 to 10000
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) limit: u32,
}

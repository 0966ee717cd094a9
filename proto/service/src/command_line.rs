//! The command lines of both daemons.

use std::path::PathBuf;

use clap::Parser;

/// Takes mail for sites, and decides what is tried when and by which agent.
#[derive(Debug, Parser)]
#[command(name = "dd-controller", version)]
pub struct Controller {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Say whether a start would succeed, and exit; nothing is changed.
    #[arg(long)]
    pub check: bool,
    /// Start as if the index were gone: it is built again from the log.
    #[arg(long)]
    pub rebuild_index: bool,
}

/// Hands mail to sites over verified SMTP.
#[derive(Debug, Parser)]
#[command(name = "dd-agent", version)]
pub struct Agent {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The join token that `ddadm agent add` or `agent token` printed; ignored while the certificate lets the agent in.
    #[arg(long, value_name = "TOKEN", conflicts_with = "join_file")]
    pub join: Option<String>,
    /// A file with the join token; `-` is standard input.
    #[arg(long, value_name = "PATH")]
    pub join_file: Option<PathBuf>,
    /// Say whether a start would succeed, and exit; nothing is changed.
    #[arg(long)]
    pub check: bool,
}

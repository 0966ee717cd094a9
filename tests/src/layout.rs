//! What a world has that is not as usual, and the configuration files that say so.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{Observer, program};
use crate::world::{Listeners, MAIL_NAME};

/// A world's particulars. The default is a controller with its state in the world's own directory.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    /// Where the controller has its state; the world's directory where nothing is said.
    pub controller_state: Option<PathBuf>,
    /// Where each agent has a directory for its state; the world's directory where nothing is said.
    pub agents_state: Option<PathBuf>,
    /// Lines below `[store]`; none: small segments, quickly made.
    pub store: String,
    /// The web is served over TLS, with the certificate that intake shows.
    pub secure_web: bool,
    /// The network that may hand in mail; none: all of loopback.
    pub trusted: Option<&'static str>,
    /// Lines below `[web]`.
    pub web: String,
    /// Where SMTP comes in; 0: any.
    pub smtp_port: u16,
    /// Where DSNs leave.
    pub smarthost: Option<SocketAddr>,
    /// More lines below `[notify]`.
    pub notify: String,
    /// The program that runs ours, such as a profiler, with its arguments; none: they run by themselves.
    pub runner: Vec<String>,
    /// Variables set for the controller, such as a library to load before others.
    pub environment: Vec<(String, String)>,
    /// Variables set for each agent.
    pub agent_environment: Vec<(String, String)>,
    /// Is told every line that a program of this world logs.
    pub observer: Option<Observer>,
}

/// What a controller in `directory` reads.
pub(crate) fn controller(layout: &Layout, directory: &Path, listeners: &Listeners) -> String {
    let Listeners {
        smtp,
        lmtp,
        control,
        web,
        metrics,
        socket,
    } = listeners;
    let mut text = format!(
        "hostname = \"{MAIL_NAME}\"\n\
         state_dir = \"{state}\"\n\
         [intake]\n\
         smtp = [\"{smtp}\"]\n\
         lmtp = [\"{lmtp}\"]\n\
         trusted = [\"{trusted}\"]\n\
         max_message_bytes = 67108864\n\
         {tls}\n\
         [store]\n\
         {store}\n\
         [control]\n\
         listen = \"{control}\"\n\
         socket = \"{socket}\"\n\
         [web]\n\
         listen = \"{web}\"\n\
         outbound_networks = [\"192.0.2.0/27\"]\n\
         {more_web}\n\
         {web_tls}\n\
         [metrics]\n\
         listen = \"{metrics}\"\n\
         [notify]\n\
         postmaster = \"postmaster@provider.example\"\n",
        state = layout.controller_state(directory).display(),
        store = match layout.store.as_str() {
            "" => "segment_bytes = \"1M\"",
            lines => lines,
        },
        socket = socket.display(),
        trusted = layout.trusted.unwrap_or("127.0.0.0/8"),
        more_web = layout.web,
        web_tls = match layout.secure_web {
            true => tls(directory),
            false => String::new(),
        },
        tls = tls(directory),
    );
    if let Some(smarthost) = layout.smarthost {
        let _ = writeln!(text, "smarthost = \"{smarthost}\"");
    }
    text.push_str(&layout.notify);
    text
}

fn tls(directory: &Path) -> String {
    format!(
        "tls = {{ certificate = \"{}\", key = \"{}\" }}",
        directory.join("mail.pem").display(),
        directory.join("mail.key").display()
    )
}

/// What an agent of a world in `directory` reads.
pub(crate) fn agent(
    layout: &Layout,
    directory: &Path,
    name: &str,
    address: Ipv4Addr,
    control: SocketAddr,
    dns: SocketAddr,
) -> String {
    format!(
        "name = \"{name}\"\n\
         state_dir = \"{state}\"\n\
         controller = \"https://{control}\"\n\
         addresses = [\"{address}\"]\n\
         helo = \"{name}.provider.example\"\n\
         [targets]\n\
         allow = [\"127.0.0.0/8\"]\n\
         [dns]\n\
         servers = [\"{dns}\"]\n",
        state = layout.agent_state(directory, name).display(),
    )
}

impl Layout {
    /// Programs that may open so many files when they start: the soft limit and the hard one.
    pub fn with_open_files(soft: u64, hard: u64) -> Self {
        Self {
            runner: vec!["prlimit".to_owned(), format!("--nofile={soft}:{hard}")],
            ..Self::default()
        }
    }

    /// One of our programs.
    pub(crate) fn command(&self, name: &str) -> Command {
        let program = program(name);
        match self.runner.split_first() {
            None => Command::new(program),
            Some((runner, arguments)) => {
                let mut command = Command::new(runner);
                command.args(arguments).arg(program);
                command
            }
        }
    }

    pub(crate) fn controller_state(&self, directory: &Path) -> PathBuf {
        let usual = || directory.join("controller-state");
        self.controller_state.clone().unwrap_or_else(usual)
    }

    pub(crate) fn agent_state(&self, directory: &Path, name: &str) -> PathBuf {
        let parent = self.agents_state.as_deref().unwrap_or(directory);
        parent.join(format!("{name}-state"))
    }
}

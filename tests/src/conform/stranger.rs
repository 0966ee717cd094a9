//! Any agent, as a process in a [`World`]: started by the command line of whoever wrote it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use crate::process::Process;
use crate::world::World;

/// What stands for something in a command line, and what for.
pub const PLACEHOLDERS: &[(&str, &str)] = &[
    (
        "{token}",
        "the join token; also given when it is started again, and of no use then",
    ),
    ("{token_file}", "a file that holds the token"),
    (
        "{config}",
        "a configuration file as dd-agent reads it, with all of the following",
    ),
    ("{name}", "the agent's name"),
    (
        "{state}",
        "a directory for its key, certificate and journal; it may have to be made",
    ),
    ("{controller}", "HOST:PORT of the control plane"),
    ("{source}", "the outbound address, which it has to bind"),
    ("{helo}", "the name it gives in EHLO"),
    ("{dns}", "HOST:PORT of the name server it has to ask"),
    (
        "{allow}",
        "the network that sites may lie in, although it is loopback",
    ),
];

/// Where sites lie in tests.
pub(super) const LOOPBACK: &str = "127.0.0.0/8";

/// What an agent is told of where it is.
pub(super) struct Around<'a> {
    pub(super) token: String,
    /// `agent.toml`.
    pub(super) config: String,
    pub(super) state: PathBuf,
    pub(super) controller: SocketAddr,
    pub(super) dns: SocketAddr,
    pub(super) allow: &'a str,
}

/// An agent, running or not.
#[derive(Debug)]
pub struct Stranger {
    name: String,
    /// For the shell.
    command: String,
    state: PathBuf,
    process: Option<Process>,
    directory: TempDir,
}

impl Stranger {
    /// Registers an agent, starts it by its `recipe`, and waits until it is attached.
    ///
    /// # Panics
    /// Something does not start; the panic says what.
    pub fn start(world: &World, name: &str, address: Ipv4Addr, recipe: &str) -> Self {
        let agent = Self::introduce(world, name, address, recipe);
        world.attached(name);
        agent
    }

    /// The same without waiting.
    ///
    /// # Panics
    /// Something does not start; the panic says what.
    pub fn introduce(world: &World, name: &str, address: Ipv4Addr, recipe: &str) -> Self {
        let around = Around {
            token: world.token(name, address),
            config: world.agent_config(name, address),
            state: world.agent_state(name),
            controller: world.listeners().control,
            dns: world.dns.address(),
            allow: LOOPBACK,
        };
        Self::around(around, name, address, recipe)
    }

    /// Starts it where this is around it.
    pub(super) fn around(around: Around<'_>, name: &str, address: Ipv4Addr, recipe: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let at = |file: &str| directory.path().join(file);
        write(&at("token"), &around.token);
        write(&at("agent.toml"), &around.config);
        let values = [
            around.token,
            text(at("token")),
            text(at("agent.toml")),
            name.to_owned(),
            text(around.state.clone()),
            around.controller.to_string(),
            address.to_string(),
            format!("{name}.provider.example"),
            around.dns.to_string(),
            around.allow.to_owned(),
        ];
        let mut command = recipe.to_owned();
        for ((placeholder, _), value) in PLACEHOLDERS.iter().zip(values) {
            command = command.replace(placeholder, &quoted(&value));
        }
        let mut agent = Self {
            name: name.to_owned(),
            command,
            state: around.state,
            process: None,
            directory,
        };
        agent.run();
        agent
    }

    /// The same agent on another machine: its state directory was copied, certificate and all.
    ///
    /// # Panics
    /// It cannot be copied.
    pub fn copy(&self) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let copied = directory.path().join("state");
        let done = Command::new("cp")
            .arg("-a")
            .arg(&self.state)
            .arg(&copied)
            .status();
        assert!(done.is_ok_and(|status| status.success()), "cp failed");
        let (state, copied) = (quoted(&text(self.state.clone())), text(copied));
        let mut copy = Self {
            name: self.name.clone(),
            command: self.command.replace(&state, &quoted(&copied)),
            state: copied.into(),
            process: None,
            directory,
        };
        copy.run();
        copy
    }

    /// Waits for the first line of its log that holds `text`.
    ///
    /// # Panics
    /// It does not run, or there is no such line.
    pub fn log_line(&mut self, text: &str) -> String {
        self.process.as_mut().expect("it runs").log_line(text)
    }

    /// `kill -9`, of all that its command has started.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }

    /// SIGTERM, and no more.
    pub fn ask_to_end(&self) {
        self.signal(Signal::TERM);
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// It does not run, or does not end.
    pub fn ended(&mut self) -> ExitStatus {
        self.process.as_mut().expect("it runs").ended()
    }

    /// Starts it again, by the same command.
    pub fn run(&mut self) {
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(format!("exec {}", self.command))
            .current_dir(self.directory.path())
            .process_group(0);
        self.process = Some(Process::start(&self.name, &mut command));
    }

    /// It stands still until [`thaw`](Self::thaw).
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// It goes on where it was.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// To its whole process group, which is its own.
    fn signal(&self, signal: Signal) {
        let Some(process) = &self.process else { return };
        let group = i32::try_from(process.pid()).ok().and_then(Pid::from_raw);
        if let Some(group) = group {
            // It may have ended by itself a moment ago.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        if let Some(process) = self.process.as_ref().filter(|_| std::thread::panicking()) {
            crate::world::show(&process.tail());
        }
        self.kill();
    }
}

/// What a recipe holds in braces that stands for nothing.
pub fn unknown_placeholder(recipe: &str) -> Option<String> {
    let mut rest = recipe;
    while let Some((_, after)) = rest.split_once('{') {
        let (inner, behind) = after.split_once('}')?;
        let word = format!("{{{inner}}}");
        let is_word = inner.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        if is_word && !inner.is_empty() && PLACEHOLDERS.iter().all(|(known, _)| *known != word) {
            return Some(word);
        }
        rest = behind;
    }
    None
}

/// One word for the shell, whatever it holds.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

fn write(path: &PathBuf, content: &str) {
    fs::write(path, content).expect("a temporary directory is writable");
}

fn text(path: PathBuf) -> String {
    let path = path.into_os_string().into_string();
    path.expect("temporary paths are UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_that_stands_for_nothing_is_named() {
        for (recipe, unknown) in [
            ("agent --join {token} --state {state}", None),
            ("agent --join {tokn}", Some("{tokn}")),
            ("sh -c 'x=${HOME}; agent {name}'", None),
            ("agent {}", None),
        ] {
            assert_eq!(unknown_placeholder(recipe).as_deref(), unknown);
        }
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}

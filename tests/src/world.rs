//! A provider on loopback: controller, agents, name service and authority, as real processes.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::ca::Ca;
use crate::ddadm::Ddadm;
use crate::dns::Dns;
use crate::layout::{self, Layout};
use crate::loopback;
use crate::process::{Process, Unheard};
use crate::site::{Script, Site};
use crate::submit::{Client, Protocol, message};
use crate::wait::{PATIENCE, until};

/// The outbound addresses of a world's agents, in the order they are added.
pub const OUTBOUND: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3)];

/// The name under which every world imports its members' authority.
pub const AUTHORITY: &str = "member-ca";

/// The controller's own name.
pub const MAIL_NAME: &str = "mail.provider.example";

/// A whole provider. Everything in it ends when this is dropped.
#[derive(Debug)]
pub struct World {
    // First, so that the processes end before their directory goes.
    agents: Vec<Agent>,
    controller: Option<Process>,
    listeners: Listeners,
    pub ca: Ca,
    /// Whose certificate the controller shows after STARTTLS.
    pub provider: Ca,
    pub dns: Dns,
    /// What changes here holds from the next start of a program on.
    pub layout: Layout,
    directory: TempDir,
}

/// An agent's configuration on disk, and the process if it runs.
#[derive(Debug)]
struct Agent {
    name: String,
    config: PathBuf,
    process: Option<Process>,
}

/// What the controller bound.
#[derive(Debug, Clone)]
pub struct Listeners {
    pub smtp: SocketAddr,
    pub lmtp: SocketAddr,
    pub control: SocketAddr,
    pub web: SocketAddr,
    pub metrics: SocketAddr,
    pub socket: PathBuf,
}

impl World {
    /// A controller and one agent on 127.0.0.2, attached; the authority is imported as [`AUTHORITY`].
    pub fn start() -> Self {
        Self::with_agents(1)
    }

    /// The same with as many agents, on the addresses of [`OUTBOUND`].
    ///
    /// # Panics
    /// Something does not start; the panic says what.
    pub fn with_agents(count: usize) -> Self {
        Self::laid_out(Layout::default(), count)
    }

    /// The same with these particulars.
    ///
    /// # Panics
    /// Something does not start; the panic says what.
    pub fn laid_out(layout: Layout, count: usize) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("dd-world-")
            // Postfix gives up root and must still reach what lies below.
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()
            .expect("a temporary directory");
        let address = SocketAddr::from((loopback::fresh(), 0));
        let asked = Listeners {
            smtp: SocketAddr::new(address.ip(), layout.smtp_port),
            lmtp: address,
            control: address,
            web: address,
            metrics: address,
            socket: directory.path().join("admin.sock"),
        };
        let mut world = Self {
            agents: Vec::new(),
            controller: None,
            listeners: asked,
            ca: Ca::new("Members of the provider"),
            provider: Ca::new("The provider"),
            dns: Dns::start(),
            layout,
            directory,
        };
        let identity = world.provider.identity(&[MAIL_NAME]);
        world.write(&world.path().join("mail.pem"), identity.chain_pem());
        world.write(&world.path().join("mail.key"), identity.key_pem());
        world.start_controller();
        // A site is added only when it is known that no mail waits under its name.
        world.all_known();
        world.import(AUTHORITY, &world.ca);
        for address in &OUTBOUND[..count] {
            world.add_agent(&format!("out{}", address.octets()[3] - 1), *address);
        }
        world
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Where the controller has its state.
    pub fn controller_state(&self) -> PathBuf {
        self.layout.controller_state(self.directory.path())
    }

    pub fn listeners(&self) -> &Listeners {
        &self.listeners
    }

    /// Starts the controller, for the first time or again: it binds what it bound before.
    ///
    /// # Panics
    /// It does not say that it listens.
    pub fn start_controller(&mut self) {
        let mut command = self.controller_command();
        let observer = self.layout.observer.clone();
        let mut process = Process::observed("controller", &mut command, observer);
        self.listeners = Listeners::parse(&process.log_line("listening "));
        self.controller = Some(process);
    }

    /// The same where it may end instead: then with what it has said.
    ///
    /// # Errors
    /// It has ended.
    pub fn try_start_controller(&mut self) -> Result<(), Vec<String>> {
        let mut command = self.controller_command();
        let mut process = Process::start("controller", &mut command);
        let listens = until("the controller to listen or to end", PATIENCE, || {
            let line = process.lines("listening ").into_iter().next();
            match line {
                Some(line) => Some(Some(line)),
                None => (!process.runs()).then_some(None),
            }
        });
        match listens {
            Some(line) => {
                self.listeners = Listeners::parse(&line);
                self.controller = Some(process);
                Ok(())
            }
            None => Err(process.last_words()),
        }
    }

    /// Starts the controller again, on what it bound before, with nobody who reads its log.
    pub fn start_controller_unheard(&mut self, how: Unheard) {
        let mut command = self.controller_command();
        self.controller = Some(Process::unheard("controller", &mut command, how));
        until("the controller to answer", PATIENCE, || {
            (self.ddadm().run(&["status"]).code == 0).then_some(())
        });
    }

    fn controller_command(&self) -> Command {
        let config = self.directory.path().join("controller.toml");
        let directory = self.directory.path();
        self.write(
            &config,
            &layout::controller(&self.layout, directory, &self.listeners),
        );
        let mut command = self.layout.command("dd-controller");
        command.arg("--config").arg(&config);
        command.envs(self.layout.environment.iter().cloned());
        command
    }

    /// `kill -9` of the controller.
    ///
    /// # Panics
    /// It does not run.
    pub fn kill_controller(&mut self) {
        self.controller.take().expect("it runs").kill();
    }

    /// SIGTERM to the controller.
    ///
    /// # Panics
    /// It does not run, or does not end well.
    pub fn stop_controller(&mut self) {
        let status = self.controller.take().expect("it runs").terminate();
        assert!(status.success(), "the controller ended with {status}");
    }

    /// # Panics
    /// It does not run.
    pub fn controller(&mut self) -> &mut Process {
        self.controller.as_mut().expect("it runs")
    }

    /// Registers an agent, starts it with its token, and waits until it is attached.
    pub fn add_agent(&mut self, name: &str, address: Ipv4Addr) {
        self.introduce_agent(name, address);
        self.attached(name);
    }

    /// The same without waiting.
    pub fn introduce_agent(&mut self, name: &str, address: Ipv4Addr) {
        let token = self.token(name, address);
        let config = self.agent_config(name, address);
        let path = self.directory.path().join(format!("{name}.toml"));
        self.write(&path, &config);
        self.agents.push(Agent {
            name: name.to_owned(),
            config: path,
            process: None,
        });
        let index = self.agents.len() - 1;
        self.run_agent(index, &["--join", &token]);
    }

    /// A join token for an agent, which is announced first where there is none of its name.
    ///
    /// # Panics
    /// There is none in the answer.
    pub fn token(&self, name: &str, address: Ipv4Addr) -> String {
        let agents = self.json(&["agent", "list"]);
        let mut agents = agents.as_array().expect("a list").iter();
        let answer = match agents.any(|agent| agent["name"] == name) {
            true => self.json(&["agent", "token", name]),
            false => self.json(&["agent", "add", name, "--address", &address.to_string()]),
        };
        answer["token"].as_str().expect("a token").to_owned()
    }

    /// `agent.toml` for an agent of this world.
    pub fn agent_config(&self, name: &str, address: Ipv4Addr) -> String {
        layout::agent(
            &self.layout,
            self.directory.path(),
            name,
            address,
            self.listeners.control,
            self.dns.address(),
        )
    }

    /// Starts an agent that was killed; it needs no token any more.
    pub fn start_agent(&mut self, name: &str) {
        self.start_agent_with(name, &[]);
    }

    /// The same, with more on its command line.
    pub fn start_agent_with(&mut self, name: &str, more: &[&str]) {
        let index = self.index(name);
        self.run_agent(index, more);
    }

    /// Where an agent keeps its certificate and journal.
    pub fn agent_state(&self, name: &str) -> PathBuf {
        self.layout.agent_state(self.directory.path(), name)
    }

    /// `kill -9` of an agent.
    ///
    /// # Panics
    /// It does not run.
    pub fn kill_agent(&mut self, name: &str) {
        let index = self.index(name);
        self.agents[index].process.take().expect("it runs").kill();
    }

    /// SIGTERM to an agent.
    ///
    /// # Panics
    /// It does not run, or does not end well.
    pub fn stop_agent(&mut self, name: &str) {
        let index = self.index(name);
        let process = self.agents[index].process.take().expect("it runs");
        let status = process.terminate();
        assert!(status.success(), "{name} ended with {status}");
    }

    /// # Panics
    /// It does not run.
    pub fn agent(&mut self, name: &str) -> &mut Process {
        let index = self.index(name);
        self.agents[index].process.as_mut().expect("it runs")
    }

    /// Waits until an agent is connected.
    pub fn attached(&self, name: &str) {
        until(&format!("agent {name} to attach"), PATIENCE, || {
            let agents = self.json(&["agent", "list"]);
            let agent = agents
                .as_array()?
                .iter()
                .find(|agent| agent["name"] == name)?;
            (agent["state"] == "connected").then_some(())
        });
    }

    pub fn ddadm(&self) -> Ddadm {
        Ddadm::new(&self.listeners.socket)
    }

    /// Runs `ddadm --output json`, which must succeed.
    pub fn json(&self, args: &[&str]) -> Value {
        self.ddadm().json(args)
    }

    /// Imports an authority under a name.
    ///
    /// # Panics
    /// It is refused.
    pub fn import(&self, name: &str, ca: &Ca) {
        let path = self.directory.path().join(format!("{name}.pem"));
        self.write(&path, ca.root_pem());
        let path = path.to_str().expect("temporary paths are UTF-8");
        let _ = self
            .ddadm()
            .run(&["ca", "import", name, "--certificate", path])
            .done();
    }

    /// Starts a home mail server for `name.example` with a certificate for that name, and registers it as a site with
    /// *certificate*. Its host `name.dyn.example` is in the name service.
    pub fn home(&self, name: &str, more: &[&str]) -> Site {
        let identity = self.ca.identity(&[&format!("{name}.example")]);
        let site = Site::start(Script::with(&identity));
        self.add_home(name, site.address(), more);
        site
    }

    /// Registers what answers at `address` as the site `name`, as [`home`](Self::home) does.
    ///
    /// # Panics
    /// It is refused.
    pub fn add_home(&self, name: &str, address: SocketAddr, more: &[&str]) {
        let (domain, host) = (format!("{name}.example"), format!("{name}.dyn.example"));
        self.dns.set(&host, &[address.ip()]);
        let host = format!("{host}:{}", address.port());
        let mut args = vec!["site", "add", name, "--domain", &domain, "--host", &host];
        args.extend(["--proof", "certificate", "--authority", AUTHORITY]);
        args.extend(["--cert-name", &domain]);
        args.extend(more);
        let _ = self.ddadm().run(&args).done();
    }

    /// Registers what answers at `address` as the site `name` with *static-ip*: the address is listed, and is its host.
    ///
    /// # Panics
    /// It is refused.
    pub fn add_listed(&self, name: &str, address: SocketAddr) {
        let (domain, host) = (format!("{name}.example"), address.to_string());
        let mut args = vec!["site", "add", name, "--domain", &domain, "--host", &host];
        let ip = address.ip().to_string();
        args.extend(["--proof", "static-ip", "--address", &ip, "--retry", "1h"]);
        let _ = self.ddadm().run(&args).done();
    }

    /// What answers at `address` is the site `name` from now on, which is registered where it was not.
    ///
    /// # Panics
    /// It is refused.
    pub fn home_moves(&self, name: &str, address: SocketAddr) {
        if self.ddadm().run(&["site", "show", name]).code == 4 {
            return self.add_home(name, address, &[]);
        }
        let host = format!("{name}.dyn.example");
        self.dns.set(&host, &[address.ip()]);
        let host = format!("{host}:{}", address.port());
        let _ = self
            .ddadm()
            .run(&["site", "set", name, "--host", &host])
            .done();
    }

    /// `ddadm site show`.
    pub fn show(&self, site: &str) -> Value {
        self.json(&["site", "show", site])
    }

    /// Waits until `ddadm site show` says this state.
    pub fn site_is(&self, site: &str, state: &str) -> Value {
        until(&format!("site {site} to be {state}"), PATIENCE, || {
            let shown = self.show(site);
            (shown["state"] == state).then_some(shown)
        })
    }

    /// Waits until the controller knows all that earlier starts have left.
    pub fn all_known(&self) {
        until("all to be known", PATIENCE, || {
            (self.json(&["status"])["all_known"] == true).then_some(())
        });
    }

    /// Waits until nothing waits for a site any more.
    pub fn drained(&self, site: &str) -> Value {
        until(
            &format!("the queue of {site} to be empty"),
            PATIENCE,
            || {
                let shown = self.show(site);
                let queued = &shown["queued"];
                let empty = queued["messages"] == 0 && queued["complete"] != false;
                empty.then_some(shown)
            },
        )
    }

    /// Sets the password of a site.
    pub fn set_password(&self, site: &str, password: &str) {
        let args = ["site", "password", site, "--password-stdin"];
        let _ = self.ddadm().run_with(&args, password);
    }

    /// A page of the controller's.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.listeners.web)
    }

    /// Waits until a site is down with so many messages waiting, which this hands in.
    pub fn queue(&self, site: &str, count: usize) {
        let mut client = self.smtp();
        for number in 0..count {
            let message = message(&format!("number-{number}"));
            client.send("a@b.example", &format!("me@{site}.example"), &message);
        }
        let shown = self.site_is(site, "waiting");
        assert_eq!(shown["queued"]["messages"], count, "{shown}");
    }

    /// A home as [`home`](Self::home) makes it, that is down, with mail waiting and a password.
    pub fn away(&self, name: &str, waiting: usize, password: &str) -> Site {
        let mut home = self.home(name, &["--retry", "1h"]);
        home.stop();
        self.set_password(name, password);
        self.queue(name, waiting);
        home.forget();
        home
    }

    /// An SMTP session with the controller.
    pub fn smtp(&self) -> Client {
        Client::connect(self.listeners.smtp, Protocol::Smtp)
    }

    /// An LMTP session with the controller.
    pub fn lmtp(&self) -> Client {
        Client::connect(self.listeners.lmtp, Protocol::Lmtp)
    }

    /// Starts an agent again, with nobody who reads its log.
    pub fn start_agent_unheard(&mut self, name: &str, how: Unheard) {
        let index = self.index(name);
        let mut command = self.agent_command(index, &[]);
        self.agents[index].process = Some(Process::unheard(name, &mut command, how));
    }

    fn agent_command(&self, index: usize, more: &[&str]) -> Command {
        let mut command = self.layout.command("dd-agent");
        let config = &self.agents[index].config;
        command.arg("--config").arg(config).args(more);
        command.envs(self.layout.agent_environment.iter().cloned());
        command
    }

    fn run_agent(&mut self, index: usize, more: &[&str]) {
        let mut command = self.agent_command(index, more);
        let agent = &mut self.agents[index];
        let observer = self.layout.observer.clone();
        agent.process = Some(Process::observed(&agent.name, &mut command, observer));
    }

    fn index(&self, name: &str) -> usize {
        self.agents
            .iter()
            .position(|agent| agent.name == name)
            .unwrap_or_else(|| panic!("no agent {name} in this world"))
    }

    fn write(&self, path: &Path, text: &str) {
        fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

impl Listeners {
    /// Reads `listening … smtp=ADDRESS lmtp=ADDRESS …`.
    fn parse(line: &str) -> Self {
        let value = |key: &str| {
            line.split_whitespace()
                .filter_map(|word| word.split_once('='))
                .find(|(name, _)| *name == key)
                .map(|(_, value)| value.trim_matches(['"', '[', ']']))
                .unwrap_or_else(|| panic!("no {key}= in `{line}`"))
        };
        let address = |key: &str| {
            let first = value(key).split(',').next().unwrap_or_default();
            first
                .parse()
                .unwrap_or_else(|_| panic!("{key}={first} is no address"))
        };
        Self {
            smtp: address("smtp"),
            lmtp: address("lmtp"),
            control: address("control"),
            web: address("web"),
            metrics: address("metrics"),
            socket: value("socket").into(),
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let agents = self
            .agents
            .iter()
            .filter_map(|agent| agent.process.as_ref());
        for process in self.controller.iter().chain(agents) {
            show(&process.tail());
        }
    }
}

#[expect(
    clippy::print_stderr,
    reason = "the logs of a world are what a failed test is understood by"
)]
pub(crate) fn show(tail: &str) {
    eprintln!("{tail}");
}

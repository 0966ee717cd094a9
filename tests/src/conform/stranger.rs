//! The example agent in Python (`docs/examples/python-agent`), as a process in a [`World`].
//!
//! It is run from a directory of its own, where what it needs of the contract is generated from the .proto files alone,
//! with Debian's `protoc`. What runs is either the agent itself or one of the careless ones that lie beside the tests.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::Process;
use crate::world::World;

/// Debian's own, which sees Debian's grpcio.
const PYTHON: &str = "/usr/bin/python3";

/// The agent, running or not.
#[derive(Debug)]
pub struct ForeignAgent {
    name: String,
    program: PathBuf,
    arguments: Vec<String>,
    environment: String,
    process: Option<Process>,
    directory: TempDir,
}

impl ForeignAgent {
    /// Registers an agent and starts `program`, a path below the repository, with its token; waits until it is
    /// attached.
    ///
    /// # Panics
    /// Something does not start; the panic says what.
    pub fn start(world: &World, name: &str, address: Ipv4Addr, program: &str) -> Self {
        let agent = Self::introduce(world, name, address, program);
        world.attached(name);
        agent
    }

    /// The same without waiting.
    ///
    /// # Panics
    /// Something does not start; the panic says what.
    pub fn introduce(world: &World, name: &str, address: Ipv4Addr, program: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let generated = directory.path().join("generated");
        generate(&generated);
        let token = directory.path().join("token");
        fs::write(&token, world.token(name, address)).expect("a temporary directory is writable");
        let arguments = [
            ("--name", name.to_owned()),
            ("--state", path(&directory.path().join("state"))),
            ("--controller", world.listeners().control.to_string()),
            ("--source", address.to_string()),
            ("--helo", format!("{name}.provider.example")),
            ("--dns", world.dns.address().to_string()),
            ("--allow", "127.0.0.0/8".to_owned()),
            ("--join-file", path(&token)),
        ];
        let example = path(&repository().join("docs/examples/python-agent"));
        let mut agent = Self {
            name: name.to_owned(),
            program: repository().join(program),
            arguments: arguments
                .into_iter()
                .flat_map(|(flag, value)| [flag.to_owned(), value])
                .collect(),
            environment: format!("{}:{example}", path(&generated)),
            process: None,
            directory,
        };
        agent.run();
        agent
    }

    /// Waits for the first line of its log that holds `text`.
    ///
    /// # Panics
    /// It does not run, or there is no such line.
    pub fn log_line(&mut self, text: &str) -> String {
        self.process.as_mut().expect("it runs").log_line(text)
    }

    /// `kill -9`.
    ///
    /// # Panics
    /// It does not run.
    pub fn kill(&mut self) {
        self.process.take().expect("it runs").kill();
    }

    /// Starts it again; it needs no token any more.
    pub fn run(&mut self) {
        let mut command = Command::new(PYTHON);
        command
            .arg("-B")
            .arg(&self.program)
            .args(&self.arguments)
            .env("PYTHONPATH", &self.environment)
            .current_dir(self.directory.path());
        self.process = Some(Process::start(&self.name, &mut command));
    }

    /// SIGSTOP and SIGCONT.
    ///
    /// # Panics
    /// It does not run.
    pub fn signal(&self, signal: &str) {
        let pid = self.process.as_ref().expect("it runs").pid().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill {signal}");
    }
}

/// Generates the messages of the contract; that is all an agent needs.
fn generate(into: &Path) {
    fs::create_dir_all(into).expect("a temporary directory is writable");
    let proto = repository().join("proto");
    let done = Command::new("protoc")
        .arg(format!("--proto_path={}", proto.display()))
        .arg(format!("--python_out={}", into.display()))
        .args(["dd/v1/site.proto", "dd/v1/delivery.proto"])
        .arg("dd/v1/enrollment.proto")
        .status();
    assert!(
        done.is_ok_and(|status| status.success()),
        "protoc failed; `make deps` installs it"
    );
}

fn repository() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().expect("tests/ lies in the repository").into()
}

fn path(path: &Path) -> String {
    path.to_str().expect("these paths are UTF-8").to_owned()
}

impl Drop for ForeignAgent {
    fn drop(&mut self) {
        if let Some(process) = self.process.as_ref().filter(|_| std::thread::panicking()) {
            crate::world::show(&process.tail());
        }
    }
}

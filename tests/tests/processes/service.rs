//! As services of systemd: what the manager is told, the sockets it passes on, and the format of the state.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use dd_tests::layout::Layout;
use dd_tests::process::program;
use dd_tests::wait::PATIENCE;
use dd_tests::world::World;
use rustix::io::{FdFlags, fcntl_setfd};

/// The manager's end of `sd_notify`. A thread reads, for whoever tells waits until there is room.
struct Manager(Receiver<String>);

impl Manager {
    fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        let (read, messages) = channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length) = socket.recv(&mut bytes) {
                let message = String::from_utf8_lossy(&bytes[..length]).into_owned();
                if read.send(message).is_err() {
                    return;
                }
            }
        });
        Self(messages)
    }

    fn environment(path: &Path) -> Vec<(String, String)> {
        let socket = path.display().to_string();
        vec![
            ("NOTIFY_SOCKET".to_owned(), socket),
            ("WATCHDOG_USEC".to_owned(), "300000".to_owned()),
        ]
    }

    /// Waits for a message with this in it.
    fn hears(&self, text: &str) {
        while !self.0.recv_timeout(PATIENCE).expect(text).contains(text) {}
    }
}

#[test]
fn the_manager_hears_that_both_are_ready_how_they_are_and_that_they_live() {
    let directory = tempfile::tempdir().unwrap();
    let of_controller = directory.path().join("controller");
    let of_agent = directory.path().join("agent");
    let (controller, agent) = (Manager::at(&of_controller), Manager::at(&of_agent));
    let layout = Layout {
        environment: Manager::environment(&of_controller),
        agent_environment: Manager::environment(&of_agent),
        ..Layout::default()
    };
    let mut world = World::laid_out(layout, 1);
    controller.hears("READY=1");
    agent.hears("READY=1");
    controller.hears("STATUS=ready; deliveries waiting: 0; agents connected: 1 of 1");
    agent.hears("STATUS=attached to https://");
    controller.hears("WATCHDOG=1");
    agent.hears("WATCHDOG=1");
    world.stop_controller();
    controller.hears("STOPPING=1");
    agent.hears("STATUS=not attached to the controller: ");
    // That the controller is away is no reason to kill the agent.
    agent.hears("WATCHDOG=1");
}

#[test]
fn while_the_controller_restarts_connections_wait_in_the_socket_that_is_passed_to_it() {
    let mut world = World::with_agents(0);
    world.stop_controller();
    let smtp = world.listeners().smtp;
    let listener = TcpListener::bind(smtp).unwrap();
    fcntl_setfd(&listener, FdFlags::empty()).unwrap();
    world.layout.environment = vec![
        ("LISTEN_FDS".to_owned(), "1".to_owned()),
        (
            "LISTEN_FDS_FIRST_FD".to_owned(),
            listener.as_raw_fd().to_string(),
        ),
    ];
    let early = TcpStream::connect(smtp).unwrap();
    world.start_controller();
    greeted(early);
    world.stop_controller();
    let between = TcpStream::connect(smtp).unwrap();
    world.start_controller();
    greeted(between);
}

#[test]
fn a_passed_socket_that_is_not_configured_is_refused() {
    let mut world = World::with_agents(0);
    world.stop_controller();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    fcntl_setfd(&listener, FdFlags::empty()).unwrap();
    let ended = Command::new(program("dd-controller"))
        .arg("--config")
        .arg(world.path().join("controller.toml"))
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDS_FIRST_FD", listener.as_raw_fd().to_string())
        .output()
        .unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    let address = listener.local_addr().unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    let expected = format!("systemd listens on {address}, which the configuration does not name");
    assert!(said.contains(&expected), "{said}");
}

#[test]
fn a_state_of_a_newer_format_is_refused_by_both_and_stays_as_it_is() {
    let mut world = World::start();
    world.stop_agent("out1");
    world.stop_controller();
    let agent = world.agent_state("out1");
    for (name, program_name, config, state) in [
        (
            "controller",
            "dd-controller",
            "controller.toml",
            world.controller_state(),
        ),
        ("agent", "dd-agent", "out1.toml", agent),
    ] {
        let version = state.join("VERSION");
        // An older program reads the whole file as a number.
        assert_eq!(fs::read_to_string(&version).unwrap(), "1\n", "{name}");
        let owner = fs::read_to_string(state.join("OWNER")).unwrap();
        assert_eq!(owner, format!("{program_name}\n"));
        fs::write(&version, "2\n").unwrap();
        let ended = Command::new(program(program_name))
            .arg("--config")
            .arg(world.path().join(config))
            .output()
            .unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(1), "{said}");
        assert!(
            said.contains("in format 2, and this one reads formats up to 1"),
            "{said}"
        );
        assert_eq!(said.matches("format 2").count(), 1, "{said}");
        assert_eq!(fs::read_to_string(&version).unwrap(), "2\n");
        fs::write(&version, "1\n").unwrap();
    }
    world.start_controller();
    world.start_agent("out1");
    world.attached("out1");
}

fn greeted(mut client: TcpStream) {
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut line = String::new();
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let _ = reader.read_line(&mut line).unwrap();
    assert!(line.starts_with("220 "), "{line}");
    client.write_all(b"QUIT\r\n").unwrap();
}

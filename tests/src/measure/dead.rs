//! Sites that are dead, as many as wanted, and who has tried them.
//!
//! Half of them refuse connections, the other half swallow SYNs: their listener takes no connection, and so many wait for
//! it already that the kernel drops whoever else knocks. All are DynDNS names, so each probe asks DNS.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::loopback;
use crate::wait::Stopwatch;
use crate::world::{AUTHORITY, World};

/// A connect that hangs for so long on loopback has been swallowed.
const SWALLOWED: Duration = Duration::from_millis(300);

/// Dead sites: every other one refuses, every other one is silent.
#[derive(Debug)]
pub(super) struct Dead {
    pub(super) count: usize,
    /// Bound, and nobody listens: connects are refused.
    refusing: TcpListener,
    silent: Silent,
}

/// An address at which connects are swallowed.
#[derive(Debug)]
pub(super) struct Silent {
    listener: TcpListener,
    /// They fill its queue.
    _waiting: Vec<TcpStream>,
}

impl Silent {
    pub(super) fn new() -> Self {
        let listener = bound();
        let address = listener.local_addr().expect("it is bound");
        rustix::net::listen(&listener, 0).expect("a listener's queue can be made shorter");
        let mut waiting = Vec::new();
        while let Ok(connection) = TcpStream::connect_timeout(&address, SWALLOWED) {
            waiting.push(connection);
            assert!(waiting.len() < 100, "{address} swallows nothing");
        }
        Self {
            listener,
            _waiting: waiting,
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("it is bound")
    }
}

fn bound() -> TcpListener {
    TcpListener::bind((loopback::fresh(), 0)).expect("a fresh address has ports")
}

impl Dead {
    pub(super) fn new(count: usize) -> Self {
        let refusing = bound();
        let _ = rustix::net::shutdown(&refusing, rustix::net::Shutdown::Both);
        Self {
            count,
            refusing,
            silent: Silent::new(),
        }
    }

    pub(super) fn name(number: usize) -> String {
        format!("dead-{number}")
    }

    fn address(&self, number: usize) -> SocketAddr {
        match number % 2 {
            0 => self.refusing.local_addr().expect("it is bound"),
            _ => self.silent.address(),
        }
    }

    /// All of them with one file; how long that took.
    pub(super) fn register(&self, world: &World) -> Duration {
        let mut file = String::new();
        for number in 0..self.count {
            let (name, address) = (Self::name(number), self.address(number));
            let host = format!("{name}.dyn.example");
            world.dns.set(&host, &[address.ip()]);
            let _ = write!(
                file,
                "[site.{name}]\n\
                 domain = [\"{name}.example\"]\n\
                 host = [\"{host}:{port}\"]\n\
                 proof = \"certificate\"\n\
                 authority = \"{AUTHORITY}\"\n\
                 cert-name = \"{name}.example\"\n",
                port = address.port(),
            );
        }
        let path = world.path().join("dead.toml");
        std::fs::write(&path, file).expect("the world's directory can be written");
        let begun = Stopwatch::start();
        let path = path.to_str().expect("a path of ASCII");
        let _ = world.ddadm().run(&["registry", "apply", path]).done();
        begun.elapsed()
    }
}

/// Attempts at dead sites, as the agent logs them.
#[derive(Debug, Default)]
pub(super) struct Tried(Mutex<HashMap<String, u64>>);

impl Tried {
    pub(super) fn read(&self, line: &str) {
        let site = line.split_once(" site=dead-").map(|(_, rest)| rest);
        if let (true, Some(rest)) = (line.contains("attempt ended"), site) {
            let site = rest.split_whitespace().next().unwrap_or_default();
            *self.locked().entry(site.to_owned()).or_default() += 1;
        }
    }

    /// From here on.
    pub(super) fn begin(&self) {
        self.locked().clear();
    }

    pub(super) fn sites(&self) -> usize {
        self.locked().len()
    }

    pub(super) fn attempts(&self) -> u64 {
        self.locked().values().sum()
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! The two servers, each in front of a sink that proves who it is and of one that offers no TLS.

use std::net::SocketAddr;
use std::time::Duration;

use super::cpu;
use super::sink::{Row, Sink};
use crate::layout::Layout;
use crate::loopback;
use crate::postfix::Postfix;
use crate::process::Observer;
use crate::wait::{PATIENCE, until};
use crate::world::World;

/// How mail goes to the sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// STARTTLS, and the certificate is that of the authority for the name.
    Verified,
    /// The sink offers no TLS; its address is what is known of it.
    Plain,
}

impl Security {
    pub const ALL: [Self; 2] = [Self::Verified, Self::Plain];

    pub fn name(self) -> &'static str {
        match self {
            Self::Verified => "verified TLS",
            Self::Plain => "no TLS",
        }
    }

    /// The site's name; its domain is `NAME.example`.
    pub fn site(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Plain => "plain",
        }
    }
}

/// Ours, with one agent.
#[derive(Debug)]
pub struct Ours {
    pub world: World,
    sinks: [SocketAddr; 2],
}

/// Whose figures they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    Ours,
    Postfix,
}

/// One server in front of one sink.
#[derive(Debug)]
pub struct Bench {
    pub system: System,
    pub security: Security,
    pub smtp: SocketAddr,
    pub recipient: String,
    /// Each process that is accounted for, with its name.
    pub parts: Vec<(&'static str, u32)>,
    pub sink_at: SocketAddr,
}

impl Ours {
    /// With the configuration as it is where nothing is said, on this directory's disk.
    pub fn start() -> Self {
        Self::start_under(&[])
    }

    /// The same, both programs run by this one.
    pub fn start_under(runner: &[String]) -> Self {
        let layout = Layout {
            // The default; worlds of tests have smaller ones.
            store: "segment_bytes = \"64M\"".to_owned(),
            runner: runner.to_vec(),
            // Of the log only the newest lines are kept.
            observer: Some(Observer::new(|_| {})),
            ..Layout::default()
        };
        let world = World::laid_out(layout, 1);
        let sinks = Security::ALL.map(|_| loopback::free_port());
        for (security, address) in Security::ALL.into_iter().zip(sinks) {
            match security {
                Security::Verified => world.add_home(security.site(), address, &["--retry", "1h"]),
                Security::Plain => add_plain(&world, security.site(), address),
            }
        }
        Self { world, sinks }
    }

    pub fn bench(&mut self, security: Security) -> Bench {
        let controller = self.world.controller().pid();
        let agent = self.world.agent("out1").pid();
        Bench {
            system: System::Ours,
            security,
            smtp: self.world.listeners().smtp,
            recipient: recipient(security),
            parts: vec![("controller", controller), ("agent", agent)],
            sink_at: self.sink_at(security),
        }
    }

    pub fn sink_at(&self, security: Security) -> SocketAddr {
        self.sinks[usize::from(security == Security::Plain)]
    }

    /// A sink for a site.
    pub fn sink(&self, security: Security, row: &Row) -> Sink {
        sink(&self.world, security, self.sink_at(security), row)
    }
}

/// A site known by its address, without TLS.
fn add_plain(world: &World, name: &str, address: SocketAddr) {
    let (domain, host) = (format!("{name}.example"), address.to_string());
    let args = ["site", "add", name, "--domain", &domain, "--host", &host];
    let more = ["--proof", "static-ip", "--retry", "1h"];
    let _ = world.ddadm().run(&[&args[..], &more].concat()).done();
}

fn sink(world: &World, security: Security, address: SocketAddr, row: &Row) -> Sink {
    let name = format!("{}.example", security.site());
    let identity = world.ca.identity(&[&name]);
    let identity = (security == Security::Verified).then_some(&identity);
    Sink::start(address, identity, row)
}

fn recipient(security: Security) -> String {
    format!("me@{}.example", security.site())
}

/// Postfix in front of a sink, configured as one would for a site.
#[derive(Debug)]
pub struct Theirs {
    pub postfix: Postfix,
    security: Security,
    sink_at: SocketAddr,
}

impl Theirs {
    pub fn start(world: &World, security: Security) -> Self {
        let sink_at = loopback::free_port();
        let domain = format!("{}.example", security.site());
        let authority = (security == Security::Verified).then(|| world.ca.root_pem());
        let postfix = Postfix::relay(world.path(), &domain, sink_at, authority);
        Self {
            postfix,
            security,
            sink_at,
        }
    }

    pub fn bench(&self) -> Bench {
        Bench {
            system: System::Postfix,
            security: self.security,
            smtp: self.postfix.address(),
            recipient: recipient(self.security),
            parts: vec![("postfix", self.postfix.pid())],
            sink_at: self.sink_at,
        }
    }

    pub fn sink(&self, world: &World, row: &Row) -> Sink {
        sink(world, self.security, self.sink_at, row)
    }

    /// Waits until so many have been tried and wait for another time.
    pub fn deferred(&self, count: u64) {
        let what = format!("{count} messages in Postfix's deferred queue");
        until(&what, PATIENCE * 10, || {
            (self.postfix.queued("deferred") as u64 >= count).then_some(())
        });
    }
}

impl Bench {
    /// The processor time of each part so far.
    pub fn times(&self) -> Vec<Duration> {
        let pids = self.parts.iter().map(|(_, pid)| *pid);
        pids.map(cpu::of_tree).collect()
    }
}

impl System {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Postfix => "Postfix",
        }
    }
}

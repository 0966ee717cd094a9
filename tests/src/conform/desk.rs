//! An agent between a scripted controller and scripted homes.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use dd_proto::pb;
use dd_proto::pb::order::Order;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tempfile::TempDir;

use super::NAME;
use super::scripted::{Controller, Manner, Stream};
use super::stranger::{Around, LOOPBACK, Stranger};
use crate::ca::Ca;
use crate::dns::Dns;
use crate::layout::{self, Layout};
use crate::site::{Script, Site};
use crate::wait::{PATIENCE, Stopwatch, until};
use crate::world::OUTBOUND;

/// The one site.
const SITE: &str = "home";
const HOST: &str = "home.dyn.example";
/// What its certificate names.
pub(super) const CERTIFIED: &str = "home.example";

const RECIPIENT: &str = "me@home.example";

pub(super) struct Desk {
    // First, so that it ends before what it talks to.
    pub(super) agent: Stranger,
    pub(super) controller: Controller,
    pub(super) ca: Ca,
    dns: Dns,
    _directory: TempDir,
}

impl Desk {
    pub(super) fn start(recipe: &str, manner: Manner) -> Self {
        Self::permitting(LOOPBACK, recipe, manner)
    }

    /// An agent to which sites are permitted there, although its own rules forbid it.
    pub(super) fn permitting(allow: &str, recipe: &str, manner: Manner) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let controller = Controller::start(manner);
        let dns = Dns::start();
        let (layout, own) = (Layout::default(), OUTBOUND[0]);
        let (at, ask) = (controller.address(), dns.address());
        let config = layout::agent(&layout, directory.path(), NAME, own, at, ask);
        let around = Around {
            token: controller.token(NAME),
            config: config.replace(LOOPBACK, allow),
            state: layout.agent_state(directory.path(), NAME),
            controller: at,
            dns: ask,
            allow,
        };
        Self {
            agent: Stranger::around(around, NAME, own, recipe),
            controller,
            ca: Ca::new("Members of the provider"),
            dns,
            _directory: directory,
        }
    }

    /// The site, at an address of its own.
    pub(super) fn home(&self, script: Script) -> Site {
        let home = Site::start(script);
        self.lies_at(&[home.address().ip()]);
        home
    }

    /// A home that proves itself.
    pub(super) fn good(&self) -> Script {
        Script::with(&self.ca.identity(&[CERTIFIED]))
    }

    pub(super) fn lies_at(&self, addresses: &[IpAddr]) {
        self.dns.set(HOST, addresses);
    }

    /// How the site is reached, and proved by its certificate.
    pub(super) fn plan(&self, port: u16) -> pb::RoutePlan {
        let root = CertificateDer::from_pem_slice(self.ca.root_pem().as_bytes());
        let certificate = pb::proof::Certificate {
            authority: "member-ca".to_owned(),
            name: CERTIFIED.to_owned(),
        };
        pb::RoutePlan {
            site: SITE.to_owned(),
            version: 1,
            kind: "smtp".to_owned(),
            hosts: vec![pb::Host {
                host: HOST.to_owned(),
                port: port.into(),
            }],
            proof: Some(pb::Proof {
                kind: Some(pb::proof::Kind::Certificate(certificate)),
            }),
            anchors: vec![root.expect("our own root").to_vec().into()],
            connections: 1,
            ..pb::RoutePlan::default()
        }
    }

    /// The agent's stream of that number, which has the site's plan now.
    pub(super) fn planned(&self, number: usize, home: SocketAddr) -> std::sync::Arc<Stream> {
        let stream = self.controller.stream(number);
        stream.order(Order::RoutePlan(Box::new(self.plan(home.port()))));
        stream
    }
}

/// Lets so much time go by.
pub(super) fn goes_by(time: Duration) {
    let watch = Stopwatch::start();
    until("time to go by", PATIENCE, || {
        (watch.elapsed() > time).then_some(())
    });
}

impl Stream {
    /// Assigns message `number`. Returns its lease.
    pub(super) fn assign(&self, number: u8, content: &[u8]) -> pb::Lease {
        self.assign_to(RECIPIENT, number, content)
    }

    /// The same for somebody else.
    pub(super) fn assign_to(&self, recipient: &str, number: u8, content: &[u8]) -> pb::Lease {
        let bytes = content.len() as u64;
        self.assign_as(SITE, number, recipient, bytes, Some(content.to_vec()))
    }

    /// The same for another site.
    pub(super) fn assign_at(&self, site: &str, number: u8, content: &[u8]) -> pb::Lease {
        let bytes = content.len() as u64;
        self.assign_as(site, number, RECIPIENT, bytes, Some(content.to_vec()))
    }

    /// The same with a content that has to be fetched.
    pub(super) fn assign_to_fetch(&self, number: u8, bytes: u64) -> pb::Lease {
        self.assign_as(SITE, number, RECIPIENT, bytes, None)
    }

    fn assign_as(
        &self,
        site: &str,
        number: u8,
        recipient: &str,
        content_bytes: u64,
        content: Option<Vec<u8>>,
    ) -> pb::Lease {
        let lease = pb::Lease {
            message_id: vec![number; 16].into(),
            site: site.to_owned(),
            generation: Some(pb::Generation {
                start: 1,
                counter: number.into(),
            }),
        };
        let recipient = pb::Recipient {
            number: 0,
            forward_path: recipient.to_owned(),
            ..pb::Recipient::default()
        };
        self.order(Order::Assignment(Box::new(pb::Assignment {
            lease: Some(lease.clone()),
            site_version: 1,
            envelope: Some(pb::Envelope {
                reverse_path: "a@b.example".to_owned(),
                recipients: vec![recipient],
                ..pb::Envelope::default()
            }),
            content_bytes,
            content: content.map(Into::into),
            ..pb::Assignment::default()
        })));
        lease
    }
}

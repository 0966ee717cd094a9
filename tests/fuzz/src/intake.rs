//! Intake's session with a client that says whatever it likes.

use std::net::IpAddr;
use std::sync::Arc;

use dd_controller::config::SiteDefaults;
use dd_controller::intake::Settings;
use dd_controller::intake::lmtp::Protocol;
use dd_controller::intake::member::{AuthAnswer, EtrnAnswer};
use dd_controller::intake::policy::{Directory, Space, Usage};
use dd_controller::intake::session::{MAX_UNWRITTEN, Output, Session, Surroundings};
use dd_controller::registry::check::{self, check};
use dd_proto::domain::Domain;
use dd_proto::name::SiteName;
use dd_proto::pb;
use dd_proto::site::Site;
use dd_proto::smtp::data::StrayCrLf;
use jiff::Timestamp;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

/// The longest reply, RFC 5321 §4.5.3.1.5, of as many lines as EHLO has.
const REPLY: usize = 16 * 512;

/// Whatever comes, and however it is cut: the same is answered, within bounds; and what is accepted has somebody who gets
/// it, and ends as a message does.
pub fn intake(input: &[u8]) {
    for protocol in [Protocol::Smtp, Protocol::Lmtp] {
        let whole = Run::over(protocol, input, input.len().max(1));
        assert_eq!(whole, Run::over(protocol, input, 1), "cut otherwise");
        for (recipients, content) in &whole.accepted {
            assert!(*recipients > 0, "for nobody");
            let text = String::from_utf8_lossy(content);
            assert!(text.starts_with("Received: "), "{text}");
            assert!(text.ends_with("\r\n"), "{text}");
        }
    }
}

/// What a session said and did.
#[derive(Debug, Default, PartialEq)]
struct Run {
    said: Vec<u8>,
    content: Vec<u8>,
    accepted: Vec<(usize, Vec<u8>)>,
    closed: bool,
}

impl Run {
    fn over(protocol: Protocol, input: &[u8], size: usize) -> Self {
        let client: IpAddr = "127.0.0.1".parse().expect("an address");
        let entropy = StdRng::seed_from_u64(1);
        let now = Timestamp::UNIX_EPOCH;
        let mut session = Session::new(surroundings(), protocol, client, entropy, now);
        let mut run = Self::default();
        run.perform(&mut session);
        for part in input.chunks(size) {
            if !run.closed {
                session.receive(part, now);
                run.perform(&mut session);
            }
        }
        run
    }

    fn perform(&mut self, session: &mut Session) {
        loop {
            let before = self.said.len();
            self.outputs(session);
            let unwritten = self.said.len() - before;
            assert!(unwritten <= MAX_UNWRITTEN + REPLY, "{unwritten} bytes");
            if self.closed || !session.written() {
                return;
            }
        }
    }

    fn outputs(&mut self, session: &mut Session) {
        while let Some(output) = session.next_output() {
            match output {
                Output::Write(bytes) => {
                    assert!(bytes.ends_with(b"\r\n") && bytes.is_ascii(), "{bytes:?}");
                    self.said.extend_from_slice(&bytes);
                }
                Output::Reserve { .. } => {
                    self.content.clear();
                    session.buffer_ready(Ok(()));
                }
                Output::Content(part) => self.content.extend_from_slice(&part),
                Output::Discard => self.content.clear(),
                Output::Accept(letter) => {
                    let numbers = letter.sorted.deliveries.iter();
                    let recipients = numbers.map(|(_, numbers)| numbers.len()).sum();
                    self.accepted
                        .push((recipients, std::mem::take(&mut self.content)));
                    session.accepted(Ok(()));
                }
                Output::StartTls => panic!("it is not offered"),
                Output::Etrn { .. } => session.etrn_answered(&EtrnAnswer::NothingWaiting),
                Output::SignIn { .. } => session.signed_in(AuthAnswer::Wrong),
                Output::Close => self.closed = true,
            }
        }
    }
}

fn surroundings() -> Arc<Surroundings> {
    let loopback = "127.0.0.0/8".parse().expect("a network");
    let settings = Settings {
        hostname: "mail.example.net".parse().expect("a name"),
        smtp: Vec::new(),
        lmtp: Vec::new(),
        trusted: vec![loopback],
        max_message_bytes: 2000,
        max_sessions: 10,
        max_sessions_per_client: 10,
        buffer_bytes: 1 << 20,
        stray_cr_lf: StrayCrLf::Refuse,
        authserv_ids: Arc::new(["mx.example".to_owned()]),
        tls: None,
    };
    Arc::new(Surroundings {
        settings: Arc::new(settings),
        directory: Arc::new(Sites),
        refusals: Arc::default(),
        quotas: Arc::default(),
    })
}

/// Every domain below `.example` is a site of its own.
struct Sites;

impl Directory for Sites {
    fn site_for(&self, domain: &Domain) -> Option<Arc<Site>> {
        let name = domain.as_str().strip_suffix(".example")?;
        let spec = pb::SiteSpec {
            name: name.to_owned(),
            domains: vec![domain.to_string()],
            hosts: vec![pb::Host {
                host: domain.to_string(),
                port: 2525,
            }],
            proof: Some(pb::Proof {
                kind: Some(pb::proof::Kind::Port(pb::proof::Port {})),
            }),
            ..pb::SiteSpec::default()
        };
        let around = check::Surroundings {
            defaults: SiteDefaults::default(),
            has_authority: &|_| false,
            own_authorities: &std::collections::BTreeSet::new,
            has_agent: &|_| false,
            owner: &|_| None,
        };
        check(&spec, &around).ok().map(Arc::new)
    }

    fn usage(&self, _: &SiteName) -> Usage {
        Usage {
            messages: 0,
            bytes: 0,
        }
    }

    fn space(&self) -> Space {
        Space::Enough
    }
}

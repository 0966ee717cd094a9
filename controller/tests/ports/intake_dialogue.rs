//! Runs every dialogue in `tests/dialogue/` through an intake session, in several chunkings.
//!
//! `C: line` and `C-raw: "escaped"` is what the client sends, `S: reply` what it must be told (a `*` at the end stands
//! for the rest of the line), `= …` what the session asked for. Lines before the first `C:` may say `protocol lmtp`,
//! `client ADDRESS`, `authserv ID`, `stray space`, `store full`, `store failed`, `tls`.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use dd_controller::intake::accept::AcceptError;
use dd_controller::intake::lmtp::Protocol;
use dd_controller::intake::member::{AuthAnswer, EtrnAnswer, Shown};
use dd_controller::intake::policy::{Directory, Space, Usage};
use dd_controller::intake::session::{Output, Session, Surroundings};
use dd_proto::client::Attributes;
use dd_proto::domain::Domain;
use dd_proto::envelope::{Body, Envelope};
use dd_proto::name::SiteName;
use dd_proto::site::Site;
use dd_proto::smtp::data::StrayCrLf;
use jiff::Timestamp;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::world;

/// How the client's bytes are cut before the session sees them.
#[derive(Debug, Clone, Copy)]
enum Chunks {
    Group,
    Line,
    Byte,
}

struct Dialogue {
    client: IpAddr,
    authserv: Vec<String>,
    protocol: Protocol,
    stray: StrayCrLf,
    store: Result<(), AcceptError>,
    space: Space,
    tls: bool,
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Client(Vec<u8>),
    Server(String),
    Effect(String),
}

struct Registry(Space);

impl Directory for Registry {
    fn site_for(&self, domain: &Domain) -> Option<Arc<Site>> {
        world::site_for(domain)
    }

    fn usage(&self, site: &SiteName) -> Usage {
        world::usage(site)
    }

    fn space(&self) -> Space {
        self.0
    }
}

fn parse(text: &str) -> Dialogue {
    let mut dialogue = Dialogue {
        client: "127.0.0.1".parse().unwrap(),
        authserv: Vec::new(),
        protocol: Protocol::Smtp,
        stray: StrayCrLf::Refuse,
        store: Ok(()),
        space: Space::Enough,
        tls: false,
        steps: Vec::new(),
    };
    for line in text
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
    {
        let step = if let Some(sent) = line.strip_prefix("C: ") {
            Step::Client(format!("{sent}\r\n").into_bytes())
        } else if line == "C:" {
            Step::Client(b"\r\n".to_vec())
        } else if let Some(raw) = line.strip_prefix("C-raw: ") {
            Step::Client(unescape(raw))
        } else if let Some(reply) = line.strip_prefix("S: ") {
            Step::Server(reply.to_owned())
        } else if let Some(effect) = line.strip_prefix("= ") {
            Step::Effect(effect.to_owned())
        } else {
            set(&mut dialogue, line);
            continue;
        };
        dialogue.steps.push(step);
    }
    dialogue
}

fn set(dialogue: &mut Dialogue, line: &str) {
    match line.split_once(' ').unwrap_or((line, "")) {
        ("protocol", "lmtp") => dialogue.protocol = Protocol::Lmtp,
        ("client", address) => dialogue.client = address.parse().unwrap(),
        ("stray", "space") => dialogue.stray = StrayCrLf::Space,
        ("authserv", id) => dialogue.authserv = vec![id.to_owned()],
        ("store", "full") => dialogue.store = Err(AcceptError::Full),
        ("store", "failed") => dialogue.store = Err(AcceptError::LogFailed),
        ("space", "short") => dialogue.space = Space::Short,
        ("tls", "") => dialogue.tls = true,
        _ => panic!("not a dialogue line: {line}"),
    }
}

/// A quoted string, perhaps with `*N` behind it for repetition.
fn unescape(raw: &str) -> Vec<u8> {
    let (body, times) = match raw.rsplit_once("\"*") {
        Some((body, times)) => (body, times.parse().unwrap()),
        None => (raw.strip_suffix('"').unwrap(), 1),
    };
    let mut bytes = Vec::new();
    let mut rest = body.strip_prefix('"').unwrap().bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next().unwrap() {
                b'r' => b'\r',
                b'n' => b'\n',
                b't' => b'\t',
                b'0' => 0,
                b'x' => {
                    let digits = [rest.next().unwrap(), rest.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                other => other,
            },
            other => other,
        });
    }
    bytes.repeat(times)
}

/// Runs it and returns what the session said and did, in order.
struct Run<'a> {
    dialogue: &'a Dialogue,
    session: Session,
    seen: VecDeque<Step>,
    content: Vec<u8>,
    closed: bool,
}

impl<'a> Run<'a> {
    fn new(dialogue: &'a Dialogue) -> Self {
        let mut settings = world::settings();
        settings.stray_cr_lf = dialogue.stray;
        settings.authserv_ids = dialogue.authserv.clone().into();
        settings.tls = dialogue.tls.then(world::server_tls);
        let around = Arc::new(Surroundings {
            settings: Arc::new(settings),
            directory: Arc::new(Registry(dialogue.space)),
            refusals: Arc::default(),
            quotas: Arc::default(),
        });
        let entropy = StdRng::seed_from_u64(1);
        Self {
            session: Session::new(around, dialogue.protocol, dialogue.client, entropy, epoch()),
            dialogue,
            seen: VecDeque::new(),
            content: Vec::new(),
            closed: false,
        }
    }

    fn send(&mut self, bytes: &[u8], chunks: Chunks) {
        let size = match chunks {
            Chunks::Byte => 1,
            Chunks::Group | Chunks::Line => bytes.len().max(1),
        };
        for chunk in bytes.chunks(size) {
            if !self.closed {
                self.session.receive(chunk, epoch());
                self.perform();
            }
        }
    }

    fn perform(&mut self) {
        self.outputs();
        while self.session.written() {
            self.outputs();
        }
    }

    fn outputs(&mut self) {
        while let Some(output) = self.session.next_output() {
            match output {
                Output::Write(bytes) => {
                    let text = String::from_utf8(bytes.to_vec()).unwrap();
                    self.seen
                        .extend(text.lines().map(|l| Step::Server(l.to_owned())));
                }
                Output::Reserve { .. } => {
                    self.content.clear();
                    self.session.buffer_ready(Ok(()));
                }
                Output::Content(chunk) => self.content.extend_from_slice(&chunk),
                Output::Discard => self.content.clear(),
                Output::Accept(letter) => {
                    let sites: Vec<String> = letter
                        .sorted
                        .deliveries
                        .iter()
                        .map(|(site, numbers)| {
                            let paths = numbers.iter().map(|n| {
                                letter.sorted.envelope.recipients[usize::from(n.0)]
                                    .path
                                    .as_str()
                            });
                            format!("{site}:{}", paths.collect::<Vec<_>>().join(","))
                        })
                        .collect();
                    self.effect(&format!("accept {}", sites.join(" ")));
                    self.needs(&letter.sorted.envelope);
                    let content = String::from_utf8_lossy(&self.content).into_owned();
                    let own = content.find("+0000\r\n").unwrap() + 7;
                    self.effect(&format!("content {:?}", &content[own..]));
                    self.session.accepted(self.dialogue.store);
                }
                Output::StartTls => {
                    self.effect("tls");
                    self.session.started_tls(Arc::new([]));
                }
                Output::Etrn { node, shown } => self.etrn(&node, &shown),
                Output::SignIn { login, .. } => {
                    self.effect(&format!("sign in {}", login.user));
                    let answer = match (login.user.as_str(), login.password.as_str()) {
                        (_, "too often") => AuthAnswer::NotNow,
                        ("home", "right password") => AuthAnswer::As("home".parse().unwrap()),
                        _ => AuthAnswer::Wrong,
                    };
                    self.session.signed_in(answer);
                }
                Output::Close => {
                    self.effect("close");
                    self.closed = true;
                }
            }
        }
    }

    /// What is passed on beside the paths, where it is anything.
    fn needs(&mut self, envelope: &Envelope) {
        let ret = envelope.ret.map(|ret| format!("RET={}", ret.as_str()));
        let envid = envelope.envid.as_ref().map(|it| format!("ENVID={it}"));
        let body = (envelope.body == Body::EightBitMime).then(|| "8BITMIME".to_owned());
        let utf8 = envelope.wants_utf8().then(|| "SMTPUTF8".to_owned());
        let mut needs: Vec<String> = [body, utf8, ret, envid].into_iter().flatten().collect();
        for recipient in &envelope.recipients {
            let notify = recipient.notify.as_ref();
            needs.extend(notify.map(|it| format!("NOTIFY={it}")));
            needs.extend(recipient.orcpt.as_ref().map(|it| format!("ORCPT={it}")));
        }
        if let Some(client) = envelope.client.as_deref() {
            let all = "NAME ADDR PORT PROTO HELO".split(' ');
            let line = client.xforward(Attributes::announced(all)).unwrap();
            needs.push(line.trim_end().to_owned());
        }
        if !needs.is_empty() {
            self.effect(&format!("with {}", needs.join(" ")));
        }
    }

    /// A stand-in for the gatekeeper: `home` has mail, `empty.example` has none, `held.example` is held.
    fn etrn(&mut self, node: &str, shown: &Shown) {
        self.effect(&format!("etrn {node}"));
        let answer = match (&shown.signed_in, node) {
            (None, _) => EtrnAnswer::Started,
            (_, "home.example" | "#home" | "@example") => EtrnAnswer::Pending(Some(14)),
            (_, "starting.example") => EtrnAnswer::Pending(None),
            (_, "empty.example") => EtrnAnswer::NothingWaiting,
            (_, "held.example") => EtrnAnswer::CannotNow("held by anna".to_owned()),
            _ => EtrnAnswer::NotAllowed,
        };
        self.session.etrn_answered(&answer);
    }

    fn effect(&mut self, text: &str) {
        self.seen.push_back(Step::Effect(text.to_owned()));
    }

    fn expect(&mut self, step: &Step, place: &str) {
        let seen = self.seen.pop_front();
        let same = match (step, &seen) {
            (Step::Server(wanted), Some(Step::Server(got))) => alike(wanted, got),
            (Step::Effect(wanted), Some(Step::Effect(got))) => alike(wanted, got),
            _ => false,
        };
        assert!(same, "{place}: expected {step:?}, but saw {seen:?}");
    }
}

fn alike(wanted: &str, got: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(start) => got.starts_with(start),
        None => got == wanted,
    }
}

fn epoch() -> Timestamp {
    Timestamp::UNIX_EPOCH
}

fn check(name: &str, dialogue: &Dialogue, chunks: Chunks) {
    let mut run = Run::new(dialogue);
    run.perform();
    let mut group = Vec::new();
    for (index, step) in dialogue.steps.iter().enumerate() {
        let place = format!("{name}, step {}, {chunks:?}", index + 1);
        match (step, chunks) {
            (Step::Client(bytes), Chunks::Group) => group.extend_from_slice(bytes),
            (Step::Client(bytes), _) => run.send(bytes, chunks),
            (expected, _) => {
                run.send(&std::mem::take(&mut group), chunks);
                run.expect(expected, &place);
            }
        }
    }
    assert!(
        run.seen.is_empty(),
        "{name}, {chunks:?}: more than expected: {:?}",
        run.seen
    );
}

#[test]
fn every_dialogue_runs_as_written_however_it_is_cut() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogue");
    let mut found = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let dialogue = parse(&std::fs::read_to_string(&path).unwrap());
        // What stands behind STARTTLS is only seen where it comes in one piece with it.
        let whole_only = name == "starttls_with_bytes_behind";
        for chunks in [Chunks::Group, Chunks::Line, Chunks::Byte] {
            if !whole_only || matches!(chunks, Chunks::Group) {
                check(&name, &dialogue, chunks);
            }
        }
        found += 1;
    }
    assert!(found >= 20, "only {found} dialogues");
}

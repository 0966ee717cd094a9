//! What the log has of a refusal: whom it is about, and nobody else.

use std::io;
use std::sync::{Arc, Mutex};

use dd_controller::intake::lmtp::Protocol;
use dd_controller::intake::policy::{Directory, Space, Usage};
use dd_controller::intake::session::{Output, Session, Surroundings};
use dd_proto::domain::Domain;
use dd_proto::name::SiteName;
use dd_proto::site::Site;
use jiff::Timestamp;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tracing::subscriber::DefaultGuard;

use super::world;

struct Sites;

impl Directory for Sites {
    fn site_for(&self, domain: &Domain) -> Option<Arc<Site>> {
        world::site_for(domain)
    }

    fn usage(&self, _: &SiteName) -> Usage {
        Usage::default()
    }

    fn space(&self) -> Space {
        Space::Enough
    }
}

/// What was logged.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Hears this thread, as long as the guard lives.
    pub(crate) fn listening() -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// The lines about refusals.
    pub(crate) fn refusals(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let refused = text.lines().filter(|line| line.contains("refused"));
        refused.map(str::to_owned).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The lines about refusals that this session leaves behind.
fn refusals(protocol: Protocol, said: &str) -> Vec<String> {
    let (log, _guard) = Log::listening();
    let around = Arc::new(Surroundings {
        settings: Arc::new(world::settings()),
        directory: Arc::new(Sites),
        refusals: Arc::default(),
        quotas: Arc::default(),
    });
    let client = "127.0.0.1".parse().unwrap();
    let entropy = StdRng::seed_from_u64(1);
    let now = Timestamp::UNIX_EPOCH;
    let mut session = Session::new(around, protocol, client, entropy, now);
    for line in said.lines() {
        session.receive(format!("{line}\r\n").as_bytes(), now);
        while let Some(output) = session.next_output() {
            match output {
                Output::Reserve { .. } => session.buffer_ready(Ok(())),
                Output::Accept(_) => session.accepted(Ok(())),
                _ => _ = session.written(),
            }
        }
    }
    log.refusals()
}

#[test]
fn in_lmtp_a_refusal_names_the_recipient_that_it_answers() {
    let content = "x".repeat(200);
    let said = format!(
        "LHLO me\nMAIL FROM:<a@b.example>\nRCPT TO:<anna@home.example>\nRCPT TO:<bert@small.example>\nDATA\nSubject: x\n\n{content}\n.\nQUIT"
    );
    let lines = refusals(Protocol::Lmtp, &said);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("bert@small.example"), "{lines:?}");
    assert!(!lines[0].contains("anna@home.example"), "{lines:?}");
}

#[test]
fn a_command_with_a_bad_parameter_is_logged_with_its_address() {
    let said = "EHLO me\nMAIL FROM:<c@b.example> XYZZY=1\nMAIL FROM:<a@b.example>\nRCPT TO:<anna@home.example> XYZZY=1\nRCPT TO:<gone@nowhere.example>\nDATA\nQUIT";
    let lines = refusals(Protocol::Smtp, said);
    let of = |line: usize, sender: &str, recipient: &str| {
        let fields = format!("sender=\"{sender}\" recipient=\"{recipient}\"");
        assert!(lines[line].contains(&fields), "{line}: {lines:?}");
    };
    of(0, "c@b.example", "");
    of(1, "a@b.example", "anna@home.example");
    of(2, "a@b.example", "gone@nowhere.example");
    of(3, "a@b.example", "");
}

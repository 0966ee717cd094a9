//! The feeders of a trial: they hand letters in as fast as they are taken, by SMTP and LMTP, and go on when the
//! controller is back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::ledger::Ledger;
use crate::submit::{Client, Protocol};
use crate::wait::pause;

/// Letters that are handed over in one session, at most.
const SESSION: usize = 40;
/// How soon a feeder tries again that finds nobody.
const AGAIN: Duration = Duration::from_millis(10);

/// Feeders at work.
#[derive(Debug)]
pub struct Feeders {
    stop: Arc<AtomicBool>,
    running: Vec<JoinHandle<()>>,
}

/// Where feeders hand letters in, and which.
#[derive(Debug, Clone)]
pub struct Intake {
    pub smtp: SocketAddr,
    pub lmtp: SocketAddr,
    pub ledger: Arc<Ledger>,
    /// The next letter, over all feeders of the trial.
    pub next: Arc<AtomicU64>,
    /// Between two letters of a feeder.
    pub gap: Duration,
}

impl Feeders {
    /// Starts as many; every other one speaks LMTP.
    pub fn start(intake: &Intake, count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let running = (0..count)
            .map(|number| {
                let (intake, stop) = (intake.clone(), Arc::clone(&stop));
                let protocol = match number % 2 {
                    0 => Protocol::Smtp,
                    _ => Protocol::Lmtp,
                };
                thread::spawn(move || intake.feed(protocol, &stop))
            })
            .collect();
        Self { stop, running }
    }

    /// Returns when the last letter has its answer, or its session has ended.
    ///
    /// # Panics
    /// A feeder was told what no server says.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for feeder in self.running {
            feeder.join().expect("a feeder understands its server");
        }
    }
}

impl Intake {
    fn feed(&self, protocol: Protocol, stop: &AtomicBool) {
        let server = match protocol {
            Protocol::Smtp => self.smtp,
            Protocol::Lmtp => self.lmtp,
        };
        while !stop.load(Ordering::Relaxed) {
            let Some(mut client) = Client::try_connect(server, protocol) else {
                pause(AGAIN);
                continue;
            };
            for _ in 0..SESSION {
                if stop.load(Ordering::Relaxed) || self.hand_in(&mut client, protocol).is_none() {
                    break;
                }
                pause(self.gap);
            }
        }
    }

    /// One letter. `None`: the session has ended.
    fn hand_in(&self, client: &mut Client, protocol: Protocol) -> Option<()> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let letter = self.ledger.post().letter(number);
        let content = self.ledger.post().content(&letter);
        self.ledger.offered(number);
        let recipients: Vec<&str> = letter
            .recipients
            .iter()
            .map(|recipient| recipient.address.as_str())
            .collect();
        let from = format!("<{}>{}", letter.sender(), letter.parameters());
        let replies = client.try_transaction(protocol, &from, &recipients, &content);
        // What was answered before the session ended counts.
        for (place, reply) in &replies.answers {
            if reply.code == 250 {
                self.ledger.acknowledged(number, [*place], &reply.id());
            }
        }
        replies.open.then_some(())
    }
}

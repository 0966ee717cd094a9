//! What is measured rather than tested: figures for docs/reliability.md, each by a world of its own.

pub mod cleaning;
mod dead;
pub mod homes;
pub mod hostile;
pub mod index;
pub mod latency;
pub mod line;
pub mod long_queue;
pub mod silent_line;
pub mod start;
pub mod strangers;
pub mod unheard;
pub mod unreadable;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::submit::{Client, Protocol, message};

/// Hands in `count` messages of about `bytes` over `sessions` sessions; `to` names the recipient of each.
///
/// # Panics
/// One is refused.
pub fn submit(
    server: SocketAddr,
    sessions: usize,
    count: usize,
    bytes: usize,
    to: impl Fn(usize) -> String + Send + Sync + 'static,
) {
    let next = Arc::new(AtomicUsize::new(0));
    let to = Arc::new(to);
    let feeders: Vec<_> = (0..sessions)
        .map(|_| {
            let (next, to) = (Arc::clone(&next), Arc::clone(&to));
            thread::spawn(move || {
                let mut client = Client::connect(server, Protocol::Smtp);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let mut content = message(&format!("number-{number}"));
                    while content.len() < bytes {
                        content.extend_from_slice(
                            b"All work and no play makes mail a dull matter.\r\n",
                        );
                    }
                    client.send("a@b.example", &to(number), &content);
                }
            })
        })
        .collect();
    for feeder in feeders {
        feeder.join().expect("every message is taken");
    }
}

//! The load generator: a thread with as many sessions as wanted, that hands messages in as fast as they are taken or at
//! a pace.
//!
//! It pipelines MAIL, RCPT and DATA as a feeder does, and keeps its sessions.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::cpu::Thread;
use super::letters::{Letters, Template};

/// What shall be handed in.
#[derive(Debug, Clone)]
pub struct Load {
    pub to: SocketAddr,
    /// In turn.
    pub recipients: Arc<[String]>,
    pub sessions: u32,
    pub bytes: usize,
    pub most: u64,
    pub pace: Pace,
}

impl Load {
    /// In one group, as RFC 2920 §3.1 allows.
    fn envelope(&self, number: u64) -> String {
        let place = number % self.recipients.len() as u64;
        let recipient = &self.recipients[usize::try_from(place).expect("they are in memory")];
        format!("MAIL FROM:<a@b.example>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n")
    }
}

/// When the next message goes.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// As soon as the one before it in its session has been taken.
    Free,
    /// So many a second over all sessions.
    PerSecond(f64),
}

/// A generator at work.
#[derive(Debug)]
pub struct Generator {
    stop: Arc<AtomicBool>,
    pub thread: Thread,
    running: JoinHandle<()>,
}

impl Generator {
    /// # Panics
    /// There are no threads.
    pub fn start(load: Load, letters: Arc<Letters>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (thread, running) = Thread::start("generator", move || async move {
            let mut sessions = JoinSet::new();
            for _ in 0..load.sessions {
                let (load, letters) = (load.clone(), Arc::clone(&letters));
                sessions.spawn(feed(load, letters, Arc::clone(&stopped)));
            }
            while let Some(ended) = sessions.join_next().await {
                ended.expect("a session goes as it should");
            }
        });
        Self {
            stop,
            thread,
            running,
        }
    }

    pub fn is_done(&self) -> bool {
        self.running.is_finished()
    }

    /// Lets the transactions in hand end, and waits for that.
    ///
    /// # Panics
    /// A message was not taken.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.running.join().expect("every message is taken");
    }
}

async fn feed(load: Load, letters: Arc<Letters>, stop: Arc<AtomicBool>) {
    let mut session = Session::open(load.to).await;
    let mut template = Template::new(load.bytes);
    let mut beat = match load.pace {
        Pace::Free => None,
        Pace::PerSecond(rate) => {
            let each = Duration::from_secs_f64(f64::from(load.sessions) / rate);
            Some(tokio::time::interval(each))
        }
    };
    while !stop.load(Ordering::Relaxed) {
        if let Some(beat) = &mut beat {
            beat.tick().await;
        }
        let Some(number) = letters.number(load.most) else {
            break;
        };
        session.write(load.envelope(number).as_bytes()).await;
        session.replies(&["250", "250", "354"]).await;
        letters.sent(number);
        session.write(template.numbered(number)).await;
        session.replies(&["250"]).await;
        letters.taken();
    }
    session.write(b"QUIT\r\n").await;
    session.replies(&["221"]).await;
}

struct Session {
    stream: TcpStream,
    input: BytesMut,
}

impl Session {
    async fn open(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).await.expect("somebody listens");
        stream.set_nodelay(true).expect("a socket takes options");
        let input = BytesMut::with_capacity(4096);
        let mut session = Self { stream, input };
        session.replies(&["220"]).await;
        session.write(b"EHLO feeder.example\r\n").await;
        session.replies(&["250"]).await;
        session
    }

    async fn write(&mut self, bytes: &[u8]) {
        let written = self.stream.write_all(bytes).await;
        written.expect("the server reads");
    }

    /// Reads a reply for each code, and no more.
    async fn replies(&mut self, codes: &[&str]) {
        for code in codes {
            let line = self.last_line().await;
            assert!(
                line.starts_with(code),
                "{code} wanted, and there came {line}"
            );
        }
    }

    /// Of the next reply.
    async fn last_line(&mut self) -> String {
        loop {
            while let Some(end) = memchr::memchr(b'\n', &self.input) {
                let line = self.input.split_to(end + 1);
                if line.get(3) != Some(&b'-') {
                    return String::from_utf8_lossy(&line).into_owned();
                }
            }
            let read = self.stream.read_buf(&mut self.input).await;
            assert!(read.expect("the server writes") > 0, "the server hung up");
        }
    }
}

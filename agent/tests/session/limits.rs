//! A lane against homes that take so many messages of a session and no more, however they say it, or that lose what
//! travels together: everything gets through, in seconds, and nothing is told of a message that was the session's doing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dd_agent::agent::now;
use dd_agent::deliver::Lane;
use dd_proto::pb;
use dd_proto::pb::agent_event::Event;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::lanes::{assignment, lane, number};
use super::loopback::{Bench, CONTENT, bench};

const MESSAGES: usize = 60;
const A_SESSION: usize = 10;

/// What a home does beyond its limit.
#[derive(Debug, Clone, Copy)]
enum Beyond {
    /// Answers this verb so, and stays.
    Says(&'static str, &'static str),
    /// The same, and hangs up.
    SaysAndCloses(&'static str, &'static str),
    /// Sends this with the 250 to the last dot, and hangs up.
    BehindTheDot(&'static str),
}

/// How a home takes the lines that it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reads {
    All,
    /// What came together with a dot is thrown away.
    NothingBehindADot,
    /// Of lines that came together the first.
    OneLine,
}

#[derive(Debug)]
struct Home {
    limit: usize,
    beyond: Beyond,
    reads: Reads,
    connections: AtomicUsize,
    taken: Mutex<BTreeMap<String, usize>>,
}

impl Home {
    async fn serve(self: Arc<Self>, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            self.connections.fetch_add(1, Ordering::Relaxed);
            let home = Arc::clone(&self);
            tokio::spawn(async move {
                // A connection that the agent dropped is none of the test's business.
                let _ = home.converse(stream).await;
            });
        }
    }

    async fn converse(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        stream.write_all(b"220 home\r\n").await?;
        let (mut here, mut sender, mut in_content) = (0, String::new(), false);
        let mut has_recipient = false;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let line = line.trim_end();
            if in_content && line != "." {
                continue;
            }
            let verb = line.split(' ').next().unwrap_or_default();
            let (mut answer, mut closes) = match verb {
                "EHLO" => ("250-home\r\n250 PIPELINING\r\n".to_owned(), false),
                "DATA" if !has_recipient => ("554 no valid recipients\r\n".to_owned(), false),
                "DATA" => ("354 go\r\n".to_owned(), false),
                _ => ("250 ok\r\n".to_owned(), false),
            };
            if verb == "MAIL" {
                sender = line.to_owned();
            }
            match self.beyond {
                Beyond::Says(at, says) | Beyond::SaysAndCloses(at, says)
                    if here >= self.limit && verb == at =>
                {
                    answer = format!("{says}\r\n");
                    closes = matches!(self.beyond, Beyond::SaysAndCloses(..));
                }
                _ => {}
            }
            has_recipient = match verb {
                "RCPT" => answer.starts_with('2'),
                "DATA" => has_recipient,
                _ => false,
            };
            in_content = answer.starts_with("354");
            if verb == "." {
                here += 1;
                *self
                    .taken
                    .lock()
                    .unwrap()
                    .entry(sender.clone())
                    .or_default() += 1;
                if let Beyond::BehindTheDot(says) = self.beyond
                    && here == self.limit
                {
                    answer += says;
                    closes = true;
                }
            }
            let all = match self.reads {
                Reads::All => false,
                Reads::NothingBehindADot => verb == ".",
                Reads::OneLine => !in_content,
            };
            if all {
                let together = stream.buffer().len();
                stream.consume(together);
            }
            stream.write_all(answer.as_bytes()).await?;
            if closes {
                return Ok(());
            }
        }
    }
}

/// What the agent told.
#[derive(Debug, Default)]
struct Told {
    reports: Vec<pb::Report>,
    closed: Vec<pb::SessionClosed>,
}

/// Hands messages to a lane as a controller does: some at a time, and again what comes back.
async fn deliver(home: &Arc<Home>) -> Told {
    let mut bench = bench(4);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(Arc::clone(home).serve(listener));
    let lane = lane(&bench.agent, address, 1);
    let mut told = Told::default();
    let mut waiting: Vec<u64> = (0..MESSAGES as u64).rev().collect();
    for _ in 0..16 {
        assign(&bench, &*lane, waiting.pop().unwrap());
    }
    while told.reports.len() < MESSAGES {
        match bench.events.recv().await.unwrap() {
            Event::Report(report) => {
                told.reports.push(*report);
                if let Some(next) = waiting.pop() {
                    assign(&bench, &*lane, next);
                }
            }
            Event::GivenBack(given) => {
                assign(&bench, &*lane, number(given.lease));
            }
            Event::SessionClosed(closed) => told.closed.push(closed),
            _ => {}
        }
    }
    lane.close();
    while told.closed.len() < home.connections.load(Ordering::Relaxed) {
        if let Event::SessionClosed(closed) = bench.events.recv().await.unwrap() {
            told.closed.push(closed);
        }
    }
    serving.abort();
    told
}

fn assign(bench: &Bench, lane: &dyn Lane, number: u64) {
    lane.assign(assignment(&bench.agent, number, CONTENT));
}

async fn all_get_through(limit: usize, beyond: Beyond, reads: Reads) -> (Arc<Home>, Told) {
    let home = Arc::new(Home {
        limit,
        beyond,
        reads,
        connections: AtomicUsize::new(0),
        taken: Mutex::default(),
    });
    let what = format!("{beyond:?} {reads:?}");
    let patience = Duration::from_secs(40);
    let delivering = tokio::time::timeout(patience, deliver(&home));
    let told = delivering.await.unwrap_or_else(|_| panic!("{what}: late"));
    for report in &told.reports {
        assert_eq!(
            report.outcome(),
            pb::Outcome::Transacted,
            "{what}: {report:?}"
        );
        let disposition = report.recipients[0].disposition();
        assert_eq!(disposition, pb::Disposition::Relayed, "{what}: {report:?}");
    }
    let taken = home.taken.lock().unwrap().clone();
    assert_eq!(taken.len(), MESSAGES, "{what}");
    assert!(
        taken.values().all(|copies| *copies == 1),
        "{what}: {taken:?}"
    );
    (home, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_messages_a_session_costs_a_session_and_nothing_else() {
    const FULL: &str = "452 4.5.3 Too many messages sent";
    const BYE: &str = "421 4.7.0 enough";
    for beyond in [
        Beyond::Says("MAIL", FULL),
        Beyond::Says("RCPT", FULL),
        Beyond::Says("DATA", FULL),
        Beyond::SaysAndCloses("MAIL", BYE),
        Beyond::SaysAndCloses("RCPT", BYE),
        Beyond::SaysAndCloses("DATA", BYE),
        Beyond::BehindTheDot("421 4.7.0 enough\r\n"),
        Beyond::BehindTheDot(""),
    ] {
        let begun = now();
        let (home, told) = all_get_through(A_SESSION, beyond, Reads::All).await;
        let took = now() - begun;
        assert!(took < Duration::from_secs(10), "{beyond:?}: {took:?}");
        let sessions = home.connections.load(Ordering::Relaxed);
        let least = MESSAGES / A_SESSION;
        assert!(
            (least..=least + 2).contains(&sessions),
            "{beyond:?}: {sessions}"
        );
        assert!(
            told.closed
                .iter()
                .all(|it| it.proved && it.answered > 0 || it.orderly),
            "{told:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_behind_a_dot_and_is_lost_costs_one_wait_and_is_told() {
    let never = Beyond::Says("", "");
    let (home, told) = all_get_through(usize::MAX, never, Reads::NothingBehindADot).await;
    assert_eq!(home.connections.load(Ordering::Relaxed), 2);
    assert!(
        told.closed
            .iter()
            .any(|it| it.lost_behind_dot && !it.lost_together),
        "{told:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_lost_costs_one_wait_and_is_told() {
    let never = Beyond::Says("", "");
    let (home, told) = all_get_through(usize::MAX, never, Reads::OneLine).await;
    assert_eq!(home.connections.load(Ordering::Relaxed), 2);
    assert!(told.closed.iter().any(|it| it.lost_together), "{told:?}");
}

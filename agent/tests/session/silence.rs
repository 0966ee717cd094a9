//! Homes that fall silent, at every phase: what a recall takes back and what goes on, and that others do not wait for them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dd_agent::agent::{Agent, now};
use dd_agent::deliver::Lane;
use dd_agent::plan::Assignment;
use dd_agent::resolve::Freshness;
use dd_proto::pb;
use dd_proto::pb::agent_event::Event;
use dd_proto::pb::given_back::Reason;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::lanes::{assignment, lane, number};
use super::loopback::bench;

/// A home that asks to be tried again has its mail by then, on a busy machine too. How soon it really is, the measurement of
/// a silent line tells.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// Where a home says nothing more, and reads nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Greeting,
    /// One byte, and no more.
    GreetingBegun,
    Ehlo,
    Handshake,
    Mail,
    Rcpt,
    Data,
    Content,
    Dot,
    /// Takes a message and then nothing.
    Kept,
    Never,
}

const BEFORE_THE_PROOF: [Phase; 4] = [
    Phase::Greeting,
    Phase::GreetingBegun,
    Phase::Ehlo,
    Phase::Handshake,
];

const BEFORE_THE_DOT: [Phase; 4] = [Phase::Mail, Phase::Rcpt, Phase::Data, Phase::Content];

/// A scripted home: its first connection falls silent at a phase, the others work.
pub(crate) struct Home {
    pub(crate) address: SocketAddr,
    /// One for each connection that has fallen silent.
    pub(crate) silent: mpsc::UnboundedReceiver<TcpStream>,
}

impl Home {
    pub(crate) async fn silent_at(phase: Phase, connections: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (is_silent, silent) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let phase = match number < connections {
                    true => phase,
                    false => Phase::Never,
                };
                let is_silent = is_silent.clone();
                tokio::spawn(async move {
                    if let Some(stream) = serve(stream, phase).await {
                        let _ = is_silent.send(stream);
                    }
                });
            }
        });
        Self { address, silent }
    }
}

/// Returns the connection where it falls silent; None: the far end has closed it.
async fn serve(mut stream: TcpStream, phase: Phase) -> Option<TcpStream> {
    match phase {
        Phase::Greeting => return Some(stream),
        Phase::GreetingBegun => {
            stream.write_all(b"2").await.ok()?;
            return Some(stream);
        }
        _ => stream.write_all(b"220 home\r\n").await.ok()?,
    }
    let mut stream = BufReader::new(stream);
    let mut in_content = false;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let command = match in_content {
            true => ".",
            false => line.get(..4)?,
        };
        if in_content && line != ".\r\n" {
            continue;
        }
        let (at, answer) = match command {
            "EHLO" if phase == Phase::Handshake => (Phase::Ehlo, "250-home\r\n250 STARTTLS\r\n"),
            "EHLO" => (Phase::Ehlo, "250-home\r\n250 PIPELINING\r\n"),
            "STAR" => (Phase::Handshake, "220 go\r\n"),
            "MAIL" => (Phase::Mail, "250 ok\r\n"),
            "RCPT" => (Phase::Rcpt, "250 ok\r\n"),
            "DATA" => (Phase::Data, "354 go\r\n"),
            "." => (Phase::Dot, "250 taken\r\n"),
            _ => (Phase::Never, "221 bye\r\n"),
        };
        in_content = command == "DATA";
        let last_words = matches!(
            (phase, at),
            (Phase::Handshake, Phase::Handshake)
                | (Phase::Content, Phase::Data)
                | (Phase::Kept, Phase::Dot)
        );
        if phase != at || last_words {
            stream.write_all(answer.as_bytes()).await.ok()?;
        }
        if phase == at || last_words {
            return Some(stream.into_inner());
        }
    }
}

static COUNTER: AtomicU64 = AtomicU64::new(1);

/// More than what lies in the buffers of a connection.
fn content(phase: Phase) -> Vec<u8> {
    let lines = match phase {
        Phase::Content => 600_000,
        _ => 1,
    };
    b"what it says\r\n".repeat(lines)
}

/// Gives the lane a message; returns its number.
pub(crate) fn assign(agent: &Agent, lane: &dyn Lane, freshness: Freshness, content: &[u8]) -> u64 {
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    lane.assign(Assignment {
        freshness,
        ..assignment(agent, number, content)
    });
    number
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    Back(u64, Reason),
    Relayed(u64),
}

pub(crate) async fn next(events: &mut mpsc::UnboundedReceiver<Event>) -> Came {
    loop {
        match events.recv().await.unwrap() {
            Event::GivenBack(it) => {
                return Came::Back(number(it.lease.clone()), it.reason());
            }
            Event::Report(it) => {
                assert_eq!(it.outcome(), pb::Outcome::Transacted, "{it:?}");
                assert_eq!(it.recipients[0].disposition(), pb::Disposition::Relayed);
                return Came::Relayed(number(it.lease));
            }
            _ => {}
        }
    }
}

/// The first of two messages hangs and the other waits behind it; a recall brings the second one out by itself, and the
/// first one back.
async fn recall(phase: Phase) {
    let mut bench = bench(4);
    let mut home = Home::silent_at(phase, 1).await;
    let lane = lane(&bench.agent, home.address, 1);
    let assign = |freshness| assign(&bench.agent, &*lane, freshness, &content(phase));
    let hangs = assign(Freshness::Cached);
    let _silent = home.silent.recv().await.unwrap();
    let waits = assign(Freshness::Cached);
    let began = now();
    lane.recall();
    let mut came = vec![next(&mut bench.events).await, next(&mut bench.events).await];
    came.sort_by_key(|it| matches!(it, Came::Relayed(_)));
    let expected = [Came::Back(hangs, Reason::Recalled), Came::Relayed(waits)];
    assert_eq!(came, expected, "{phase:?}");
    // The controller gives it again, as the first attempt after the release.
    let again = assign(Freshness::Fresh);
    assert_eq!(next(&mut bench.events).await, Came::Relayed(again));
    let took = now() - began;
    assert!(took < SOON, "{phase:?}: {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recall_reaches_what_hangs_before_its_dot() {
    let mut running = JoinSet::new();
    for phase in BEFORE_THE_PROOF.into_iter().chain(BEFORE_THE_DOT) {
        running.spawn(recall(phase));
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
}

/// The same where the site's plan is another one now: nobody waits for the old one.
async fn close(phase: Phase) {
    let mut bench = bench(4);
    let mut home = Home::silent_at(phase, 1).await;
    let lane = lane(&bench.agent, home.address, 1);
    let hangs = assign(&bench.agent, &*lane, Freshness::Cached, &content(phase));
    let _silent = home.silent.recv().await.unwrap();
    let began = now();
    lane.close();
    let came = next(&mut bench.events).await;
    assert_eq!(came, Came::Back(hangs, Reason::Closing), "{phase:?}");
    assert!(now() - began < SOON, "{phase:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hangs_before_its_dot_does_not_hold_another_plan_up() {
    let mut running = JoinSet::new();
    for phase in BEFORE_THE_PROOF.into_iter().chain(BEFORE_THE_DOT) {
        running.spawn(close(phase));
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recall_finds_a_kept_session_that_has_died_without_a_sign() {
    let mut bench = bench(4);
    let mut home = Home::silent_at(Phase::Kept, 1).await;
    let lane = lane(&bench.agent, home.address, 1);
    let assign = |freshness| assign(&bench.agent, &*lane, freshness, &content(Phase::Kept));
    let first = assign(Freshness::Cached);
    assert_eq!(next(&mut bench.events).await, Came::Relayed(first));
    let silent = home.silent.recv().await.unwrap();
    let hangs = assign(Freshness::Cached);
    silent.readable().await.unwrap();
    let began = now();
    lane.recall();
    let again = assign(Freshness::Fresh);
    let mut came = vec![next(&mut bench.events).await, next(&mut bench.events).await];
    came.sort_by_key(|it| matches!(it, Came::Relayed(_)));
    assert_eq!(
        came,
        [Came::Back(hangs, Reason::Recalled), Came::Relayed(again)]
    );
    assert!(now() - began < SOON);
}

/// A home on a slow line, and where it says that a content has begun: that it reads bit by bit, all the time.
async fn slow_home() -> (SocketAddr, mpsc::UnboundedReceiver<()>) {
    const AT_ONCE: u32 = 64 << 10;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(AT_ONCE).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(4).unwrap();
    let address = listener.local_addr().unwrap();
    let (begins, begun) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Some(mut stream) = serve(stream, Phase::Content).await else {
                continue;
            };
            begins.send(()).unwrap();
            let mut bits = tokio::time::interval(Duration::from_millis(100));
            let (mut read, mut end) = (vec![0; AT_ONCE as usize], Vec::new());
            while !end.ends_with(b"\r\n.\r\n") {
                bits.tick().await;
                let Ok(1..) = stream.read(&mut read).await.inspect(|&got| {
                    end.extend_from_slice(&read[..got]);
                    end.drain(..end.len().saturating_sub(5));
                }) else {
                    break;
                };
            }
            // An agent that has taken the message back is gone.
            let _ = stream.write_all(b"250 taken\r\n").await;
        }
    });
    (address, begun)
}

/// The system holds megabytes of what was written, and asks for more when a third of them is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_recall_does_not_take_back_what_moves_slowly() {
    let mut bench = bench(4);
    let (home, mut begun) = slow_home().await;
    let lane = lane(&bench.agent, home, 1);
    let content = b"what it says\r\n".repeat(300_000);
    // On a busy machine the home itself may stand still for a second.
    for _ in 0..5 {
        let moves = assign(&bench.agent, &*lane, Freshness::Cached, &content);
        begun.recv().await.unwrap();
        lane.recall();
        if next(&mut bench.events).await == Came::Relayed(moves) {
            return;
        }
    }
    panic!("what moved was taken back, five times");
}

/// Behind its dot a message may be the site's: it waits for the answer, and its company does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_recall_leaves_what_is_behind_its_dot_and_takes_what_was_sent_ahead() {
    let mut bench = bench(4);
    let mut home = Home::silent_at(Phase::Dot, 1).await;
    let lane = lane(&bench.agent, home.address, 1);
    let assign = |freshness| assign(&bench.agent, &*lane, freshness, &content(Phase::Dot));
    let behind = assign(Freshness::Cached);
    let ahead = assign(Freshness::Cached);
    let mut silent = home.silent.recv().await.unwrap();
    lane.recall();
    assert_eq!(next(&mut bench.events).await, Came::Relayed(ahead));
    let again = assign(Freshness::Fresh);
    assert_eq!(next(&mut bench.events).await, Came::Relayed(again));
    silent.write_all(b"250 taken\r\n").await.unwrap();
    assert_eq!(next(&mut bench.events).await, Came::Relayed(behind));
}

/// A reply that never ends is silence too.
async fn drip(mut stream: TcpStream) {
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    while stream.write_all(b"2").await.is_ok() {
        tick.tick().await;
    }
}

/// One slot, and homes at each phase that are silent there beside one that is not.
#[tokio::test(flavor = "multi_thread")]
async fn silent_homes_leave_the_slots_to_others() {
    let mut bench = bench(1);
    let phases = BEFORE_THE_PROOF
        .into_iter()
        .chain(BEFORE_THE_DOT)
        .chain([Phase::Dot]);
    let (mut held, mut sockets) = (Vec::new(), Vec::new());
    for phase in phases.flat_map(|phase| [phase; 3]) {
        let mut home = Home::silent_at(phase, 1).await;
        let lane = lane(&bench.agent, home.address, 1);
        assign(&bench.agent, &*lane, Freshness::Cached, &content(phase));
        let silent = home.silent.recv().await.unwrap();
        held.push(lane);
        match phase {
            Phase::GreetingBegun | Phase::Mail => _ = tokio::spawn(drip(silent)),
            _ => sockets.push(silent),
        }
    }
    let home = Home::silent_at(Phase::Never, 0).await;
    let lane = lane(&bench.agent, home.address, 1);
    for _ in 0..20 {
        let began = now();
        let good = assign(
            &bench.agent,
            &*lane,
            Freshness::Cached,
            &content(Phase::Never),
        );
        assert_eq!(next(&mut bench.events).await, Came::Relayed(good));
        assert!(now() - began < SOON);
    }
}

//! Homes on loopback sockets: the thin loop around the models, and the line to each.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dd_tests::zoo::habits::Habits;
use dd_tests::zoo::{Act, Connection, Home};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Half of a round trip.
const DELAY: Duration = Duration::from_millis(1);

/// A loopback address for a home or an agent, in a network that no other test uses: ports do not run out, and a home
/// that is there again gets its port back.
pub(super) fn own_address() -> Ipv4Addr {
    static USED: AtomicU32 = AtomicU32::new(0);
    let number = USED.fetch_add(1, Ordering::Relaxed) & 0xffff;
    let own = (std::process::id() & 0x3f) << 16;
    Ipv4Addr::from_bits(Ipv4Addr::new(127, 192, 0, 0).to_bits() + own + number)
}

/// Whether a home can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    Up,
    /// Connections are refused.
    Down,
    /// It is connected to, and says nothing.
    Mute,
    /// Every connection is reset at once.
    Resets,
}

/// A home, its line, and where it listens.
#[derive(Debug)]
pub(super) struct Standing {
    home: Arc<Mutex<Home>>,
    line: watch::Sender<Line>,
    pub(super) address: SocketAddr,
    began: Instant,
    keeper: JoinSet<()>,
}

impl Standing {
    pub(super) async fn new(habits: Habits, began: Instant) -> Self {
        let home = Arc::new(Mutex::new(Home::new(habits)));
        let (line, changes) = watch::channel(Line::Up);
        let listener = TcpListener::bind((own_address(), 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut keeper = JoinSet::new();
        keeper.spawn(keep(listener, Arc::clone(&home), changes, began));
        Self {
            home,
            line,
            address,
            began,
            keeper,
        }
    }

    /// It is at another address from now on; what was open at the old one is gone.
    pub(super) async fn moves(&mut self) {
        self.keeper.shutdown().await;
        let listener = TcpListener::bind((own_address(), 0)).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let (home, changes) = (Arc::clone(&self.home), self.line.subscribe());
        self.keeper.spawn(keep(listener, home, changes, self.began));
    }

    pub(super) fn home(&self) -> MutexGuard<'_, Home> {
        lock(&self.home)
    }

    pub(super) fn set_line(&self, line: Line) {
        self.line.send_replace(line);
    }
}

fn lock(home: &Mutex<Home>) -> MutexGuard<'_, Home> {
    home.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Listens while the line is not down; a change of it ends all connections.
async fn keep(
    first: TcpListener,
    home: Arc<Mutex<Home>>,
    mut changes: watch::Receiver<Line>,
    began: Instant,
) {
    let address = first.local_addr().unwrap();
    let mut listener = Some(first);
    loop {
        let line = *changes.borrow_and_update();
        if line == Line::Down {
            listener = None;
            changes.changed().await.unwrap();
            continue;
        }
        let listening = match listener.take() {
            Some(listening) => listening,
            None => TcpListener::bind(address).await.unwrap(),
        };
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    break;
                }
                accepted = listening.accept() => {
                    let (stream, _) = accepted.unwrap();
                    connections.spawn(attend(stream, Arc::clone(&home), line, began));
                }
            }
        }
        listener = Some(listening);
    }
}

async fn attend(mut stream: TcpStream, home: Arc<Mutex<Home>>, line: Line, began: Instant) {
    stream.set_nodelay(true).unwrap();
    match line {
        Line::Resets => return reset(stream),
        Line::Mute => return mute(&mut stream).await,
        Line::Up | Line::Down => {}
    }
    let (mut connection, acts) = Connection::begin(&mut lock(&home), began.elapsed());
    let Some(mut stream) = act(stream, acts).await else {
        return;
    };
    let mut buffer = vec![0; 8192];
    loop {
        let n = stream.read(&mut buffer).await.unwrap_or_default();
        if n == 0 {
            return;
        }
        tokio::time::sleep(DELAY).await;
        let acts = connection.read(&mut lock(&home), &buffer[..n], began.elapsed());
        match act(stream, acts).await {
            Some(open) => stream = open,
            None => return,
        }
    }
}

/// Replies that follow each other are one segment. None: it is over.
async fn act(mut stream: TcpStream, acts: Vec<Act>) -> Option<TcpStream> {
    tokio::time::sleep(DELAY).await;
    let mut said = Vec::new();
    for act in acts {
        match act {
            Act::Say(reply) => {
                said.extend_from_slice(reply.as_bytes());
                continue;
            }
            Act::Wait(time) => {
                stream.write_all(&std::mem::take(&mut said)).await.ok()?;
                tokio::time::sleep(time).await;
                continue;
            }
            Act::Close => {
                let _ = stream.write_all(&said).await;
                let _ = stream.shutdown().await;
            }
            Act::Reset => {
                let _ = stream.write_all(&said).await;
                reset(stream);
            }
            Act::Mute => {
                let _ = stream.write_all(&said).await;
                mute(&mut stream).await;
            }
        }
        return None;
    }
    stream.write_all(&said).await.ok()?;
    Some(stream)
}

/// Until the client has had enough.
async fn mute(stream: &mut TcpStream) {
    let mut buffer = [0; 1024];
    while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
}

fn reset(stream: TcpStream) {
    let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    drop(stream);
}

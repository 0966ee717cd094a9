//! A line between two machines, with the delay of one: what a home behind DSL looks like from the provider.
//!
//! Whoever connects to [`Line::address`] reaches the far end, and every byte takes as long as the line says, each way.
//! How long something takes over it depends on the machine; how often the near end had to wait for an answer does not,
//! so that is what tests count ([`Line::turns`]).
//!
//! # Invariants
//! - Bytes arrive in the order and number in which they were sent; an end arrives behind them.
//! - The delay is no limit: bytes are on the line side by side, as on a real one, up to [`ON_THE_WAY`] pieces.
//! - The connect itself takes no time; what is measured over a line is an open session.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::loopback;
use crate::wait::Due;

/// Pieces that may be on their way in one direction; behind them the sender has to wait.
pub const ON_THE_WAY: usize = 4096;
const PIECE_BYTES: usize = 64 * 1024;

/// A line to one listener. It is cut when this is dropped.
#[derive(Debug)]
pub struct Line {
    address: SocketAddr,
    listener: TcpListener,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    to: SocketAddr,
    one_way: Duration,
    turns: AtomicUsize,
    connections: AtomicUsize,
    sockets: Mutex<Vec<TcpStream>>,
}

/// What travels: bytes until the end of the stream.
type Piece = (Due, Vec<u8>);

/// One connection, and who spoke last on it.
struct Connection {
    shared: Arc<Shared>,
    far_end_spoke: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// From whoever connected.
    Out,
    Back,
}

impl Line {
    /// A line to what listens at `to`. A round trip takes twice `one_way`.
    ///
    /// # Panics
    /// There is no socket left.
    pub fn to(to: SocketAddr, one_way: Duration) -> Self {
        let listener = TcpListener::bind((loopback::fresh(), 0)).expect("a fresh address is free");
        let shared = Arc::new(Shared {
            to,
            one_way,
            turns: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            sockets: Mutex::default(),
        });
        let line = Self {
            address: listener
                .local_addr()
                .expect("a bound socket has an address"),
            listener,
            shared: Arc::clone(&shared),
        };
        let listener = line.listener.try_clone().expect("a socket can be cloned");
        thread::spawn(move || {
            while let Ok((near, _)) = listener.accept() {
                // A far end that does not listen looks like one that hangs up.
                let _ = join(near, &shared);
            }
        });
        line
    }

    /// Where the near end connects to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How often the near end spoke after the far end had: each time it had waited for an answer.
    pub fn turns(&self) -> usize {
        self.shared.turns.load(Ordering::Relaxed)
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // `shutdown` on a listening socket ends the accept() that holds it.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        for socket in self.shared.sockets().drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn sockets(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn join(near: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    let far = TcpStream::connect(shared.to)?;
    // The line forwards what it gets when it gets it; whether to wait for more is for the ends to say.
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    shared.connections.fetch_add(1, Ordering::Relaxed);
    shared
        .sockets()
        .extend([near.try_clone()?, far.try_clone()?]);
    let connection = Arc::new(Connection {
        shared: Arc::clone(shared),
        far_end_spoke: AtomicBool::new(false),
    });
    let (near_again, far_again) = (near.try_clone()?, far.try_clone()?);
    carry(Way::Out, near, far, Arc::clone(&connection));
    carry(Way::Back, far_again, near_again, connection);
    Ok(())
}

/// Two threads: one takes bytes in as they come, one puts them out when they are due.
fn carry(way: Way, from: TcpStream, to: TcpStream, connection: Arc<Connection>) {
    let (send, receive) = sync_channel(ON_THE_WAY);
    thread::spawn(move || take_in(way, from, &send, &connection));
    thread::spawn(move || put_out(to, &receive));
}

fn take_in(way: Way, mut from: TcpStream, line: &SyncSender<Piece>, connection: &Connection) {
    let mut buffer = vec![0; PIECE_BYTES];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        connection.spoke(way);
        let due = Due::after(connection.shared.one_way);
        if line.send((due, buffer[..count].to_vec())).is_err() {
            // The other side of this direction is closed: the sender shall know.
            let _ = from.shutdown(Shutdown::Read);
            return;
        }
    }
    let _ = line.send((Due::after(connection.shared.one_way), Vec::new()));
}

/// An empty piece is the end.
fn put_out(mut to: TcpStream, line: &Receiver<Piece>) {
    while let Ok((due, piece)) = line.recv() {
        due.wait();
        if piece.is_empty() || to.write_all(&piece).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

impl Connection {
    fn spoke(&self, way: Way) {
        match way {
            Way::Back => self.far_end_spoke.store(true, Ordering::Relaxed),
            Way::Out => {
                if self.far_end_spoke.swap(false, Ordering::Relaxed) {
                    self.shared.turns.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::Stopwatch;

    const ONE_WAY: Duration = Duration::from_millis(15);

    /// A far end that answers every line it gets.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind((loopback::fresh(), 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut buffer = [0; 1024];
            while let Ok(count @ 1..) = socket.read(&mut buffer) {
                socket.write_all(&buffer[..count]).unwrap();
            }
        });
        address
    }

    fn answer(near: &mut TcpStream, bytes: &[u8]) {
        let mut back = vec![0; bytes.len()];
        near.read_exact(&mut back).unwrap();
        assert_eq!(back, bytes);
    }

    #[test]
    fn an_answer_takes_a_round_trip_and_is_a_turn() {
        let line = Line::to(echo(), ONE_WAY);
        let mut near = TcpStream::connect(line.address()).unwrap();
        let begun = Stopwatch::start();
        for asked in 0..3 {
            assert_eq!(line.turns(), usize::max(asked, 1) - 1);
            near.write_all(b"ping").unwrap();
            answer(&mut near, b"ping");
        }
        assert!(begun.elapsed() >= 6 * ONE_WAY, "{:?}", begun.elapsed());
        assert_eq!(line.turns(), 2);
    }

    #[test]
    fn bytes_and_the_end_keep_their_order() {
        let line = Line::to(echo(), ONE_WAY);
        let mut near = TcpStream::connect(line.address()).unwrap();
        let bytes: Vec<u8> = (0..250_000_u32).flat_map(u32::to_le_bytes).collect();
        let mut sender = near.try_clone().unwrap();
        let sent = bytes.clone();
        let sending = thread::spawn(move || {
            sender.write_all(&sent).unwrap();
            sender.shutdown(Shutdown::Write).unwrap();
        });
        answer(&mut near, &bytes);
        sending.join().unwrap();
        assert_eq!(near.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn what_is_on_the_way_holds_up_nothing_behind_it() {
        // Nothing of this arrives while the test lasts; it is more than the sockets' own buffers take.
        let line = Line::to(echo(), Duration::from_secs(86_400));
        let mut near = TcpStream::connect(line.address()).unwrap();
        let piece = vec![0; PIECE_BYTES];
        for _ in 0..1000 {
            near.write_all(&piece).unwrap();
        }
    }
}

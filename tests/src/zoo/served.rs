//! A home on a socket of its own, in real time: threads around the model.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::{Act, Connection, Home};
use crate::loopback;
use crate::wait::{Stopwatch, pause};

/// A home that listens until the process ends.
#[derive(Debug)]
pub struct Served {
    home: Arc<Mutex<Home>>,
    address: SocketAddr,
}

impl Served {
    /// Starts on a fresh loopback address.
    pub fn start(home: Home) -> Self {
        Self::start_at(SocketAddr::from((loopback::fresh(), 0)), home)
    }

    /// Starts on this one.
    ///
    /// # Panics
    /// It cannot be bound.
    pub fn start_at(address: SocketAddr, home: Home) -> Self {
        let listener = TcpListener::bind(address).expect("an address that nobody else uses");
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let home = Arc::new(Mutex::new(home));
        let (shared, clock) = (Arc::clone(&home), Stopwatch::start());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let home = Arc::clone(&shared);
                thread::spawn(move || attend(stream, &home, clock));
            }
        });
        Self { home, address }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn home(&self) -> MutexGuard<'_, Home> {
        lock(&self.home)
    }
}

fn lock(home: &Mutex<Home>) -> MutexGuard<'_, Home> {
    home.lock().unwrap_or_else(PoisonError::into_inner)
}

fn attend(mut stream: TcpStream, home: &Mutex<Home>, clock: Stopwatch) {
    let (mut connection, acts) = Connection::begin(&mut lock(home), clock.elapsed());
    let mut goes_on = act(&mut stream, acts);
    let mut buffer = [0; 8192];
    while goes_on {
        let n = stream.read(&mut buffer).unwrap_or_default();
        if n == 0 {
            return;
        }
        let acts = connection.read(&mut lock(home), &buffer[..n], clock.elapsed());
        goes_on = act(&mut stream, acts);
    }
}

/// Whether the connection goes on.
fn act(stream: &mut TcpStream, acts: Vec<Act>) -> bool {
    let mut said = Vec::new();
    for act in acts {
        match act {
            Act::Say(reply) => said.extend_from_slice(reply.as_bytes()),
            Act::Wait(time) => pause(time),
            Act::Mute => {
                let _ = stream.write_all(&said);
                let mut rest = [0; 1024];
                while stream.read(&mut rest).is_ok_and(|n| n > 0) {}
                return false;
            }
            Act::Close | Act::Reset => {
                let _ = stream.write_all(&said);
                // Unread bytes would turn a close into a reset, which may overtake the last reply.
                let _ = stream.shutdown(Shutdown::Write);
                let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
                let mut rest = [0; 1024];
                while act == Act::Close && stream.read(&mut rest).is_ok_and(|n| n > 0) {}
                return false;
            }
        }
    }
    stream.write_all(&said).is_ok()
}

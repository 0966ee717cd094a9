//! Loopback addresses that nobody else uses.
//!
//! A server on an address of its own can be stopped and started on the same port: no other test's socket can take the
//! port in between, for those have addresses of their own too.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

static USED: AtomicU32 = AtomicU32::new(0);

/// An address in 127.64.0.0/10 that no other part of this process, and no other process of the run, has.
///
/// # Panics
/// After 250 addresses in one process.
pub fn fresh() -> Ipv4Addr {
    let [high, low] = u16::try_from(process::id() & 0x3fff)
        .expect("14 bits fit into 16")
        .to_be_bytes();
    let host = USED.fetch_add(1, Ordering::Relaxed) + 1;
    let host = u8::try_from(host)
        .ok()
        .filter(|host| *host <= 250)
        .expect("a test process needs at most 250 addresses");
    Ipv4Addr::new(127, 64 + high, low, host)
}

/// A port that is free on a fresh address, for a server that must be told its port.
///
/// # Panics
/// The address cannot be bound, which on loopback means that there are no sockets left.
pub fn free_port() -> SocketAddr {
    TcpListener::bind((fresh(), 0))
        .and_then(|listener| listener.local_addr())
        .expect("a fresh loopback address has a free port")
}

//! Loopback addresses that nobody else uses.
//!
//! A server on an address of its own can be stopped and started on the same port: no other test's socket can take the
//! port in between, for those have addresses of their own too.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

static USED: AtomicU32 = AtomicU32::new(0);

/// So many addresses a process may have: all tests of whole processes are one, and each has several.
const EACH: u32 = 1 << 11;

/// An address in 127.128.0.0/9 that no other part of this process, and no other process of the run, has: 12 bits are the
/// process's, eleven count.
///
/// # Panics
/// After 2,046 addresses in one process.
pub fn fresh() -> Ipv4Addr {
    let number = USED.fetch_add(1, Ordering::Relaxed) + 1;
    assert!(number < EACH - 1, "a test process needs fewer addresses");
    let own = (process::id() & 0xfff) * EACH;
    Ipv4Addr::from_bits(Ipv4Addr::new(127, 128, 0, 0).to_bits() + own + number)
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

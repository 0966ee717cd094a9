//! Who is at the other end of a connection.

use std::net::IpAddr;

/// The address it came from; an extension of every request. No header says otherwise.
#[derive(Debug, Clone, Copy)]
pub struct Client(pub IpAddr);

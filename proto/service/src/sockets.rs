//! Listening sockets that the service manager opened and passes on (`sd_listen_fds(3)`), so that an upgrade refuses no
//! connection: while the program restarts, connections wait in the sockets.
//!
//! A socket is taken for the configured address that it is bound to; names and order in the unit do not matter.
//!
//! # Invariants
//! A socket that nobody takes is an error: clients would connect to it and hang.

use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;

/// Why the sockets cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SocketsError {
    #[error(
        "a socket that systemd passes cannot be used, expected `ListenStream=` with an address and a port: {0}"
    )]
    Unusable(io::Error),
    #[error(
        "systemd listens on {0}, which the configuration does not name: make the socket unit and the configuration name the same addresses"
    )]
    Unnamed(SocketAddr),
}

/// Sockets that were passed and not taken yet.
#[derive(Debug, Default)]
pub struct Passed(Vec<(SocketAddr, TcpListener)>);

impl Passed {
    /// Takes what the environment says, and clears it there. To be called before the first thread is started.
    ///
    /// # Errors
    /// One of them is no listening TCP socket.
    pub fn from_environment() -> Result<Self, SocketsError> {
        let mut passed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..passed.len() {
            let taken = passed.take_tcp_listener(index);
            if let Some(socket) = taken.map_err(SocketsError::Unusable)? {
                let address = socket.local_addr().map_err(SocketsError::Unusable)?;
                socket
                    .set_nonblocking(true)
                    .map_err(SocketsError::Unusable)?;
                sockets.push((address, socket));
            }
        }
        Ok(Self(sockets))
    }

    /// The socket bound to this address, if one was passed.
    pub fn take(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let place = self.0.iter().position(|(bound, _)| *bound == address)?;
        Some(self.0.swap_remove(place).1)
    }

    /// To be asked when everything that listens has been opened.
    ///
    /// # Errors
    /// A socket is left.
    pub fn all_taken(&self) -> Result<(), SocketsError> {
        match self.0.first() {
            None => Ok(()),
            Some((address, _)) => Err(SocketsError::Unnamed(*address)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_taken_once_and_for_its_address_only() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let mut passed = Passed(vec![(address, socket)]);
        assert!(passed.take("127.0.0.2:25".parse().unwrap()).is_none());
        let left = passed.all_taken().unwrap_err().to_string();
        assert!(left.contains(&address.to_string()), "{left}");
        assert!(passed.take(address).is_some());
        assert!(passed.take(address).is_none());
        assert!(passed.all_taken().is_ok());
    }
}

//! HTTP/2 by hand, at the control port and without a certificate: clients that are libraries would not do what this does.

use std::io::Write as _;
use std::net::{IpAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;

use crate::secure::{anonymous, connect_from};
use crate::world::World;

/// RFC 9113 §3.4, with SETTINGS that set nothing.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// How long a write waits for whoever does not read.
const PATIENCE: Duration = Duration::from_millis(200);

/// The name that the controller's certificate has at the control port.
pub(super) const NAME: &str = "dd-controller.control.invalid";

/// A connection behind its handshake.
pub type Secured = StreamOwned<ClientConnection, TcpStream>;

/// # Panics
/// The controller is not there.
pub fn connect(world: &World, from: IpAddr) -> Secured {
    let name = ServerName::try_from(NAME).expect("it is a name");
    let config = Arc::new(config(world));
    let connection = ClientConnection::new(config, name).expect("it is whole");
    let socket = connect_from(from, world.listeners().control);
    let set = socket.set_write_timeout(Some(PATIENCE));
    set.expect("a socket takes a timeout");
    StreamOwned::new(connection, socket)
}

/// Of a client without a certificate.
///
/// # Panics
/// The control plane has no authority.
pub(super) fn config(world: &World) -> ClientConfig {
    let authority = world.controller_state().join("admin/authority.pem");
    let authority = std::fs::read_to_string(authority).expect("it can be read");
    anonymous(&authority, &[b"h2"])
}

/// Says as much of it as the other end takes.
pub fn say(stream: &mut Secured, parts: impl Iterator<Item = Vec<u8>>) {
    for part in parts {
        if stream.write_all(&part).is_err() {
            return;
        }
    }
    let _ = stream.flush();
}

/// Calls that do not end, of messages that are `announced` to be so long; of each `sent` bytes come.
pub fn unfinished(announced: u32, sent: usize) -> Vec<Vec<u8>> {
    const PART: usize = 8_000;
    let mut parts = vec![PREFACE.to_vec()];
    let streams = [1, 3, 5, 7, 9, 11, 13, 15];
    for stream in streams {
        parts.push(headers(stream, "/dd.v1.Enrollment/Join", false));
        let prefix = [&[0][..], &announced.to_be_bytes()].concat();
        parts.push(frame(0, 0, stream, &prefix));
    }
    for _ in 0..sent / PART {
        parts.extend(streams.map(|stream| frame(0, 0, stream, &[7; PART])));
    }
    parts
}

/// This many calls that are denied.
pub fn refused(count: u32) -> impl Iterator<Item = Vec<u8>> {
    let calls = (0..count).map(|n| headers(2 * n + 1, "/dd.v1.Sites/List", true));
    [PREFACE.to_vec()].into_iter().chain(calls)
}

/// Four whole calls to join under a name as long as that, with something that is neither a token nor a request.
pub fn named(name: &str) -> impl Iterator<Item = Vec<u8>> {
    let length = u32::try_from(name.len()).expect("it is short");
    // Field 1, a string, with a length of two bytes (dd.v1.JoinRequest).
    let message = [&[0x0a], &varint(length)[..], name.as_bytes()].concat();
    let length = u32::try_from(message.len()).expect("it is short");
    let message = [&[0][..], &length.to_be_bytes(), &message].concat();
    let calls = (0..4).flat_map(move |n| {
        let stream = 2 * n + 1;
        let call = headers(stream, "/dd.v1.Enrollment/Join", false);
        [call, frame(0, 1, stream, &message)]
    });
    [PREFACE.to_vec()].into_iter().chain(calls)
}

/// Two bytes of a number below 16,384.
fn varint(number: u32) -> [u8; 2] {
    let [.., low] = number.to_be_bytes();
    let [.., high] = (number >> 7).to_be_bytes();
    [low | 0x80, high & 0x7f]
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("it is short");
    let length = length.to_be_bytes();
    let begin = [length[1], length[2], length[3], kind, flags];
    [&begin[..], &stream.to_be_bytes(), payload].concat()
}

/// RFC 7541: POST, https, a path, and what gRPC asks for, without a dynamic table.
fn headers(stream: u32, path: &str, end: bool) -> Vec<u8> {
    let mut block = vec![0x83, 0x87];
    let mut literal = |begin: &[u8], texts: &[&str]| {
        block.extend_from_slice(begin);
        for text in texts {
            block.push(u8::try_from(text.len()).expect("it is short"));
            block.extend_from_slice(text.as_bytes());
        }
    };
    literal(&[4], &[path]);
    literal(&[1], &["controller"]);
    literal(&[0x0f, 16], &["application/grpc"]);
    literal(&[0], &["te", "trailers"]);
    frame(1, 0x4 | u8::from(end), stream, &block)
}

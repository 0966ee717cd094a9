//! The PROXY protocol, versions 1 and 2: what a load balancer says about the client for whom it connects.
//! <https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>
//!
//! # Invariants
//! No byte behind the header is taken, and no more than [`LONGEST`] bytes are read for it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// §2.2: begins every header of version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// §2.1: a line of version 1 has at most 107 bytes, the line's end with it.
const LONGEST_LINE: usize = 107;
/// With room for what else a proxy may say about a connection, such as its certificate's name.
const LONGEST: usize = 4096;

/// The client; None where the proxy speaks for itself, or does not know.
///
/// # Errors
/// There is no such header.
pub(super) async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<IpAddr>> {
    let mut begin = [0; 12];
    stream.read_exact(&mut begin).await?;
    if begin == SIGNATURE {
        return version_2(stream).await;
    }
    let mut line = begin.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() >= LONGEST_LINE {
            return Err(malformed());
        }
        line.push(stream.read_u8().await?);
    }
    version_1(&line).ok_or_else(malformed)
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "expected a PROXY header")
}

/// §2.1: `PROXY TCP4 SOURCE DESTINATION PORT PORT`, or `PROXY UNKNOWN` and anything.
fn version_1(line: &[u8]) -> Option<Option<IpAddr>> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix("\r\n")?;
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        ["PROXY", "UNKNOWN", ..] => Some(None),
        ["PROXY", family, source, destination, from, to] => {
            let (_, _): (u16, u16) = (from.parse().ok()?, to.parse().ok()?);
            match family {
                "TCP4" => {
                    let _: Ipv4Addr = destination.parse().ok()?;
                    Some(Some(source.parse::<Ipv4Addr>().ok()?.into()))
                }
                "TCP6" => {
                    let _: Ipv6Addr = destination.parse().ok()?;
                    Some(Some(source.parse::<Ipv6Addr>().ok()?.to_canonical()))
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// §2.2: version and command, family, length; then addresses, and what we do not need.
async fn version_2<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<IpAddr>> {
    let [command, family] = [stream.read_u8().await?, stream.read_u8().await?];
    let length = usize::from(stream.read_u16().await?);
    if command >> 4 != 2 || length > LONGEST {
        return Err(malformed());
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    match command & 0xf {
        // The proxy's own, such as a look whether we are there.
        0 => Ok(None),
        1 => source(family, &rest).ok_or_else(malformed),
        _ => Err(malformed()),
    }
}

fn source(family: u8, addresses: &[u8]) -> Option<Option<IpAddr>> {
    match family >> 4 {
        1 => {
            let source: [u8; 4] = addresses.get(..12)?.first_chunk().copied()?;
            Some(Some(IpAddr::from(source)))
        }
        2 => {
            let source: [u8; 16] = addresses.get(..36)?.first_chunk().copied()?;
            Some(Some(IpAddr::from(source).to_canonical()))
        }
        // A socket of its own machine, or unknown.
        0 | 3 => Some(None),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    async fn of(mut bytes: &[u8]) -> (Option<Option<String>>, usize) {
        let read = read(&mut bytes).await.ok();
        let read = read.map(|client| client.map(|it| it.to_string()));
        (read, bytes.len())
    }

    fn second(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    #[tokio::test]
    async fn both_versions_are_read_and_nothing_behind_them() {
        let v4 = [192, 0, 2, 7, 192, 0, 2, 1, 0, 1, 0, 2];
        let mut v6 = [0; 36];
        v6[..2].copy_from_slice(&[0x20, 1]);
        v6[15] = 9;
        let with_more = [&v4[..], &[4, 0, 1, 0]].concat();
        let client = |text: &str| Some(Some(text.to_owned()));
        for (header, expected) in [
            (
                b"PROXY TCP4 192.0.2.7 192.0.2.1 56324 443\r\n".to_vec(),
                client("192.0.2.7"),
            ),
            (
                b"PROXY TCP6 2001:db8::7 ::1 56324 443\r\n".to_vec(),
                client("2001:db8::7"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), Some(None)),
            (
                b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(),
                Some(None),
            ),
            (b"PROXY TCP4 ::1 ::1 1 2\r\n".to_vec(), None),
            (b"PROXY TCP4 192.0.2.7 192.0.2.1 1\r\n".to_vec(), None),
            (b"PROXY TCP4 192.0.2.7 192.0.2.1 1 99999\r\n".to_vec(), None),
            (b"GET /etrn HTTP/1.1\r\n".to_vec(), None),
            (second(0x21, 0x11, &v4), client("192.0.2.7")),
            (second(0x21, 0x11, &with_more), client("192.0.2.7")),
            (second(0x21, 0x21, &v6), client("2001::9")),
            (second(0x20, 0x00, &[]), Some(None)),
            (second(0x21, 0x31, &[0; 216]), Some(None)),
            (second(0x21, 0x11, &v4[..8]), None),
            (second(0x11, 0x11, &v4), None),
            (second(0x22, 0x11, &v4), None),
        ] {
            let bytes = [&header[..], b"GET /"].concat();
            let (read, left) = of(&bytes).await;
            assert_eq!(read, expected, "{header:?}");
            if expected.is_some() {
                assert_eq!(left, 5, "{header:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_a_bounded_part_of_it_is_read(
            bytes in prop::collection::vec(any::<u8>(), 0..20_000),
            signed in any::<bool>(),
        ) {
            let bytes = match signed {
                true => [&SIGNATURE[..], &bytes].concat(),
                false => bytes,
            };
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (_, left) = runtime.block_on(of(&bytes));
            prop_assert!(bytes.len() - left <= LONGEST + 16);
        }
    }
}

//! Hosts that speak no TLS that is safe, or never come to its end: they get nothing either.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dd_agent::tls::Tls;
use dd_tests::loopback;
use dd_tests::wait::{PATIENCE, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::authority::{Ca, NAME, nothing, pem};
use super::case::{Table, verdict};

/// A home server up to the end of STARTTLS.
async fn secured(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut heard = vec![0; 4096];
    stream.write_all(b"220 home ESMTP\r\n").await.unwrap();
    let _ = stream.read(&mut heard).await.unwrap();
    let offer = b"250-home\r\n250 STARTTLS\r\n";
    stream.write_all(offer).await.unwrap();
    let _ = stream.read(&mut heard).await.unwrap();
    stream.write_all(b"220 go\r\n").await.unwrap();
    stream
}

/// The same, and the client has begun its handshake: what came before that would be no TLS at all.
async fn greeted(listener: &TcpListener) -> TcpStream {
    let mut stream = secured(listener).await;
    let mut hello = vec![0; 4096];
    assert_ne!(stream.read(&mut hello).await.unwrap(), 0);
    stream
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A table with one case that every host is measured by.
fn table() -> Table {
    let mut table = Table {
        ca: Ca::new("members", nothing),
        cases: Vec::new(),
    };
    table.leaf("whatever", &[NAME], nothing, "");
    table
}

/// An alert at most, or the rest of a ClientHello that was not read.
#[track_caller]
fn no_mail(heard: &[u8]) {
    let text = String::from_utf8_lossy(heard).to_ascii_uppercase();
    assert!(!text.contains("EHLO") && !text.contains("MAIL"), "{text}");
}

/// An alert, TLS 1.1, and a server that hangs up.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_a_safe_tls_gets_not_one_byte_more() {
    // A ServerHello of TLS 1.1: version 3.2, 32 random bytes, no session, RSA with AES-128-CBC, no compression.
    let mut hello = vec![0x16, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 0x2f, 0]);
    for (answer, reason) in [
        (vec![0x15, 3, 1, 0, 2, 2, 70], "TlsTooOld"),
        (hello, "TlsTooOld"),
        (vec![0x15, 3, 3, 0, 2, 1, 0], "HandshakeFailed"),
        (Vec::new(), "HandshakeFailed"),
        (b"500 what\r\n".to_vec(), "HandshakeFailed"),
    ] {
        let (listener, address) = listener().await;
        let serving = tokio::spawn(async move {
            let mut stream = secured(&listener).await;
            let mut heard = vec![0; 4096];
            let _ = stream.read(&mut heard).await.unwrap();
            stream.write_all(&answer).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            rest
        });
        let said = verdict(&Tls::default(), &table().cases[0], address).await;
        assert_eq!(said, reason);
        no_mail(&serving.await.unwrap());
    }
}

/// Its time is measured by a clock that stands until everybody waits.
#[tokio::test(start_paused = true)]
async fn a_handshake_that_dribbles_for_ever_ends_in_a_minute() {
    let (listener, address) = listener().await;
    let serving = tokio::spawn(async move {
        let mut stream = greeted(&listener).await;
        let begun = tokio::time::Instant::now();
        let mut sent = 0;
        // The head of a ServerHello that is 60,000 bytes long, and one byte of it a second.
        let mut next = [0x16, 3, 3, 0x40, 0, 2, 0, 0xea, 0x60].into_iter();
        while stream.write_all(&[next.next().unwrap_or(7)]).await.is_ok() {
            sent += 1;
            assert!(sent < 10_000, "it listens for ever");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let mut heard = Vec::new();
        let _ = stream.read_to_end(&mut heard).await;
        (begun.elapsed(), heard)
    });
    let said = verdict(&Tls::default(), &table().cases[0], address).await;
    assert_eq!(said, "HandshakeFailed");
    let (took, heard) = serving.await.unwrap();
    assert!(took < Duration::from_secs(70), "{took:?}");
    no_mail(&heard);
}

/// As fast as it can: whoever reads it all has a gigabyte in memory.
#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_without_an_end_is_not_kept_in_memory() {
    const MOST: usize = 1 << 30;
    // Whole records of one message: one whose head claims 16 MiB, and one too long for the version.
    for head in [[2, 0xff, 0xff, 0xff], [11, 0xff, 0xff, 0xff]] {
        let (listener, address) = listener().await;
        let serving = tokio::spawn(async move {
            let mut stream = greeted(&listener).await;
            let mut record = vec![0x16, 3, 3, 0x40, 0];
            record.extend(head);
            record.resize(5 + 0x4000, 7);
            let mut sent = 0;
            while sent < MOST && stream.write_all(&record).await.is_ok() {
                sent += record.len();
                record[5..9].fill(7);
            }
            sent
        });
        let said = verdict(&Tls::default(), &table().cases[0], address).await;
        assert_eq!(said, "HandshakeFailed");
        // What it left in the sockets' buffers it has not kept.
        let sent = serving.await.unwrap();
        assert!(sent < 32 << 20, "{sent} bytes were taken");
    }
}

/// OpenSSL as a server that speaks TLS 1.1 and nothing else.
struct Old {
    address: SocketAddr,
    server: Child,
}

const WEAK: [&str; 3] = ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"];

impl Old {
    fn start(directory: &std::path::Path) -> Self {
        let ca = Ca::new("members", nothing);
        let shown = ca.leaf(&[NAME], nothing);
        let key = rcgen::KeyPair::try_from(&shown.key[..]).unwrap();
        std::fs::write(directory.join("key.pem"), key.serialize_pem()).unwrap();
        std::fs::write(directory.join("cert.pem"), pem(&shown.chain[0])).unwrap();
        let address = loopback::free_port();
        let server = Command::new("openssl")
            .args(["s_server", "-quiet", "-accept", &address.to_string()])
            .args(["-cert", "cert.pem", "-key", "key.pem"])
            .args(WEAK)
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl is there");
        let old = Self { address, server };
        // It does speak it: with a client as old as itself.
        until("a handshake in TLS 1.1", PATIENCE, || {
            let client = Command::new("openssl")
                .args(["s_client", "-connect", &old.address.to_string()])
                .args(WEAK)
                .stdin(Stdio::null())
                .output()
                .expect("openssl is there");
            let said = String::from_utf8_lossy(&client.stdout).into_owned();
            said.contains("Protocol  : TLSv1.1").then_some(())
        });
        old
    }
}

impl Drop for Old {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_server_of_tls_1_1_is_told_apart_and_gets_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let old = Old::start(directory.path());
    let (listener, address) = listener().await;
    let behind = old.address;
    let serving = tokio::spawn(async move {
        let mut stream = secured(&listener).await;
        let mut server = TcpStream::connect(behind).await.unwrap();
        tokio::io::copy_bidirectional(&mut stream, &mut server)
            .await
            .map_or(0, |(heard, _)| heard)
    });
    let said = verdict(&Tls::default(), &table().cases[0], address).await;
    assert_eq!(said, "TlsTooOld");
    // The ClientHello, and an alert at most.
    let heard = serving.await.unwrap();
    assert!(heard < 2_000, "{heard} bytes");
}

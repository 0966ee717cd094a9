//! The sink: a mail server that takes everything and keeps nothing but when it came. One thread.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::BytesMut;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use super::cpu::Thread;
use super::letters::{Letters, number_of};
use crate::ca::Identity;

/// A message's number is not looked for further down.
const TOP: usize = 4096;
/// What is read at once, at most.
const ROOM: usize = 64 * 1024;

/// A sink that listens until it is dropped.
#[derive(Debug)]
pub struct Sink {
    pub address: SocketAddr,
    pub thread: Thread,
    running: Option<JoinHandle<()>>,
    stop: Option<oneshot::Sender<()>>,
}

/// What arrives is noted in the row that goes on: nothing may arrive between rows.
#[derive(Debug, Clone, Default)]
pub struct Row(Arc<Mutex<Option<Arc<Letters>>>>);

impl Row {
    pub fn begin(&self) -> Arc<Letters> {
        let letters = Arc::new(Letters::begin());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&letters));
        letters
    }

    fn arrived(&self, content: &[u8]) {
        let row = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(letters) = &*row {
            letters.arrived(number_of(&content[..content.len().min(TOP)]));
        }
    }
}

impl Sink {
    /// # Panics
    /// The address cannot be bound.
    pub fn start(address: SocketAddr, identity: Option<&Identity>, row: &Row) -> Self {
        let listener = TcpListener::bind(address)
            .unwrap_or_else(|error| panic!("{address} cannot be bound: {error}"));
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        listener.set_nonblocking(true).expect("a socket can be set");
        let (tls, row) = (identity.map(acceptor), row.clone());
        let (stop, stopped) = oneshot::channel();
        let (thread, running) = Thread::start("sink", move || async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("there is a reactor");
            tokio::select! {
                // An error means that the sink is gone.
                _ = stopped => {}
                () = accept(listener, tls, row) => {}
            }
        });
        Self {
            address,
            thread,
            running: Some(running),
            stop: Some(stop),
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(running) = self.running.take() {
            let _ = running.join();
        }
    }
}

fn acceptor(identity: &Identity) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider serves TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(identity.chain(), identity.key())
        .expect("a certificate of our own with its key");
    TlsAcceptor::from(Arc::new(config))
}

async fn accept(listener: tokio::net::TcpListener, tls: Option<TlsAcceptor>, row: Row) {
    loop {
        let (stream, _) = listener.accept().await.expect("there are sockets left");
        let (tls, row) = (tls.clone(), row.clone());
        tokio::spawn(async move {
            // Whoever hangs up has done so.
            let _ = serve(stream, tls, row).await;
        });
    }
}

async fn serve(mut stream: TcpStream, tls: Option<TlsAcceptor>, row: Row) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(b"220 home.example ESMTP\r\n").await?;
    let mut talk = Talk::new(row, tls.is_some());
    if talk.go_on(&mut stream).await? == Then::StartTls
        && let Some(tls) = tls
    {
        let mut stream = tls.accept(stream).await?;
        talk.starts_tls = false;
        talk.go_on(&mut stream).await?;
        stream.shutdown().await?;
    }
    Ok(())
}

/// One connection's state.
struct Talk {
    row: Row,
    starts_tls: bool,
    input: BytesMut,
    output: Vec<u8>,
    /// In a content: how far it has been searched for its end.
    content: Option<usize>,
}

#[derive(PartialEq)]
enum Then {
    Read,
    StartTls,
    End,
}

impl Talk {
    fn new(row: Row, starts_tls: bool) -> Self {
        Self {
            row,
            starts_tls,
            input: BytesMut::with_capacity(ROOM),
            output: Vec::new(),
            content: None,
        }
    }

    async fn go_on(
        &mut self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    ) -> std::io::Result<Then> {
        loop {
            let then = self.understand();
            if !self.output.is_empty() {
                stream.write_all(&self.output).await?;
                stream.flush().await?;
                self.output.clear();
            }
            if then != Then::Read {
                return Ok(then);
            }
            self.input.reserve(ROOM / 4);
            if stream.read_buf(&mut self.input).await? == 0 {
                return Ok(Then::End);
            }
        }
    }

    /// Answers all that is there.
    fn understand(&mut self) -> Then {
        loop {
            if let Some(searched) = self.content {
                let Some(found) = memchr::memmem::find(&self.input[searched..], b"\r\n.\r\n")
                else {
                    self.content = Some(self.input.len().saturating_sub(4));
                    return Then::Read;
                };
                let content = self.input.split_to(searched + found + 5);
                self.content = None;
                self.row.arrived(&content);
                self.say("250 2.0.0 taken");
                continue;
            }
            let Some(end) = memchr::memchr(b'\n', &self.input) else {
                return Then::Read;
            };
            let line = self.input.split_to(end + 1);
            let then = self.command(&line);
            if then != Then::Read {
                return then;
            }
        }
    }

    fn command(&mut self, line: &[u8]) -> Then {
        match line.get(..4).unwrap_or_default() {
            b"EHLO" => {
                let offers =
                    "250-home.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SIZE 104857600";
                self.say(offers);
                if self.starts_tls {
                    self.say("250-STARTTLS");
                }
                self.say("250 ENHANCEDSTATUSCODES");
            }
            b"STAR" if self.starts_tls => {
                self.say("220 2.0.0 go ahead");
                return Then::StartTls;
            }
            b"DATA" => {
                self.content = Some(0);
                self.say("354 go ahead");
            }
            b"QUIT" => {
                self.say("221 2.0.0 bye");
                return Then::End;
            }
            b"MAIL" | b"RCPT" | b"RSET" | b"NOOP" | b"HELO" => self.say("250 2.1.0 ok"),
            _ => self.say("500 5.5.1 what"),
        }
        Then::Read
    }

    fn say(&mut self, line: &str) {
        self.output.extend_from_slice(line.as_bytes());
        self.output.extend_from_slice(b"\r\n");
    }
}

//! A session on a socket: the thin loops that drive [`crate::session`].
//!
//! # Invariants
//! A reply has one deadline in all, however slowly its bytes come. Nothing is read ahead of what the session wants.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use dd_proto::report::Observed;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::client::TlsStream;

use crate::agent::{now, wall};
use crate::proof::{Refusal, Terms, TlsSeen};
use crate::session::{
    BLOCK_TIMEOUT, Established, HANDSHAKE_TIMEOUT, Lost, Opening, OpeningWant, Unproved,
};
use crate::tls::Tls;

const READ_BYTES: usize = 8 * 1024;
/// More than any reply.
const LAST_WORDS_BYTES: usize = 128 * 1024;

/// A connection, in the clear or not.
#[derive(Debug)]
enum Stream {
    Clear(TcpStream),
    Secure(Box<TlsStream<TcpStream>>),
}

/// A proved session on its socket.
#[derive(Debug)]
pub struct Live {
    pub wire: Wire,
    pub session: Established,
    /// What was seen, as it is told with the proof: made once, for it takes a certificate apart.
    pub observed: Observed,
    /// A handoff is under way, or just was.
    pub slot: Option<OwnedSemaphorePermit>,
    pub connected: Instant,
    pub proved: Instant,
    /// What people should know about how it came about; empty where nothing is.
    pub note: String,
}

/// Reads and writes with deadlines.
#[derive(Debug)]
pub struct Wire {
    stream: Stream,
    buffer: Vec<u8>,
}

impl Wire {
    fn new(stream: Stream) -> Self {
        Self {
            stream,
            buffer: vec![0; READ_BYTES],
        }
    }

    /// # Errors
    /// The connection is lost.
    pub async fn write(&mut self, bytes: &[u8], limit: Duration) -> Result<(), Lost> {
        if bytes.is_empty() {
            return Ok(());
        }
        let writing = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        match tokio::time::timeout(limit, writing).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Lost::Closed),
            Err(_) => Err(Lost::TimedOut),
        }
    }

    /// # Errors
    /// The connection is lost, or nothing came before `deadline`.
    pub async fn read(&mut self, deadline: Instant) -> Result<&[u8], Lost> {
        let reading = self.stream.read(&mut self.buffer);
        match tokio::time::timeout_at(deadline.into(), reading).await {
            Ok(Ok(n)) if n > 0 => Ok(&self.buffer[..n]),
            Ok(_) => Err(Lost::Closed),
            Err(_) => Err(Lost::TimedOut),
        }
    }

    /// What has come already, without waiting; None where nothing has.
    pub async fn read_now(&mut self) -> Option<Result<&[u8], Lost>> {
        let reading = self.stream.read(&mut self.buffer);
        let read = tokio::select! {
            biased;
            read = reading => Some(read),
            () = std::future::ready(()) => None,
        };
        match read? {
            Ok(n) if n > 0 => Some(Ok(&self.buffer[..n])),
            _ => Some(Err(Lost::Closed)),
        }
    }

    /// What had come before a write failed. A server that refuses and hangs up at once has said why: its answer is read
    /// before the end of the connection counts.
    pub async fn last_words(&mut self) -> Vec<u8> {
        let mut words = Vec::new();
        while words.len() < LAST_WORDS_BYTES
            && let Some(Ok(bytes)) = self.read_now().await
        {
            words.extend_from_slice(bytes);
        }
        words
    }

    /// Returns when the far end speaks or hangs up.
    pub async fn disturbed(&mut self) {
        let _ = self.stream.read(&mut self.buffer).await;
    }
}

/// Takes a connection through greeting, TLS and ruling.
///
/// # Errors
/// Why there is no proved session, and what was seen.
pub async fn open(
    stream: TcpStream,
    mut opening: Opening,
    tls: &Tls,
    terms: &Terms,
    slots: &Arc<Semaphore>,
    probe: OwnedSemaphorePermit,
) -> Result<Live, Box<Unproved>> {
    let connected = now();
    let mut wire = Some(Wire::new(Stream::Clear(stream)));
    let mut probe = Some(probe);
    let mut slot = None;
    let mut since = connected;
    while let Some(open) = &mut wire {
        let out = opening.take_output();
        if !out.is_empty() {
            since = now();
        }
        if let Err(lost) = open.write(&out, BLOCK_TIMEOUT).await {
            opening.received(&open.last_words().await, wall());
            opening.lost(lost, wall());
        }
        match opening.want() {
            OpeningWant::Nothing => break,
            OpeningWant::Handshake => wire = handshake(wire, &mut opening, tls, terms).await,
            OpeningWant::Bytes(limit) => match open.read(since + limit).await {
                Err(lost) => opening.lost(lost, wall()),
                Ok(bytes) => {
                    // Whoever greets is worth a slot; until then a hanging connect holds only a socket.
                    if slot.is_none() {
                        slot = Some(take_slot(slots).await);
                        probe = None;
                    }
                    opening.received(bytes, wall());
                }
            },
        }
    }
    drop(probe);
    let session = opening.finish()?;
    let wire = wire.expect("an established session has its connection");
    let observed = session.seen().to_observed(session.proof(), None);
    Ok(Live {
        wire,
        session,
        observed,
        slot,
        connected,
        proved: now(),
        note: String::new(),
    })
}

/// A permit to hand over.
pub async fn take_slot(slots: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    Arc::clone(slots)
        .acquire_owned()
        .await
        .expect("the semaphore is never closed")
}

async fn handshake(
    wire: Option<Wire>,
    opening: &mut Opening,
    tls: &Tls,
    terms: &Terms,
) -> Option<Wire> {
    let Some(Wire {
        stream: Stream::Clear(stream),
        ..
    }) = wire
    else {
        return None;
    };
    let securing = tls.secure(stream, terms);
    let (seen, stream) = match tokio::time::timeout(HANDSHAKE_TIMEOUT, securing).await {
        Ok(ended) => ended,
        Err(_) => {
            let refusal = Refusal::HandshakeFailed("it took longer than a minute".to_owned());
            let chain = Vec::new();
            (TlsSeen::Failed { refusal, chain }, None)
        }
    };
    opening.secured(seen, wall());
    stream.map(|stream| Wire::new(Stream::Secure(stream)))
}

impl Live {
    /// What reports tell of it, for the rest was told with the proof.
    pub fn in_short(&self) -> Observed {
        let Observed {
            peer, local, proof, ..
        } = &self.observed;
        Observed {
            peer: peer.clone(),
            local: local.clone(),
            proof: proof.clone(),
            ..Observed::default()
        }
    }

    /// Says goodbye, where that cannot be taken for content; whether it is heard does not matter.
    pub async fn quit(mut self) {
        if self.session.is_ahead() {
            return;
        }
        let goodbye = BytesMut::from(dd_proto::smtp::compose::QUIT);
        let limit = Duration::from_secs(2);
        if self.wire.write(&goodbye, limit).await.is_ok() {
            let _ = self.wire.read(now() + limit).await;
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Secure(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Secure(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_flush(cx),
            Self::Secure(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Secure(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

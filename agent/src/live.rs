//! A session on a socket: the thin loops that drive [`crate::session`].
//!
//! # Invariants
//! - A reply has one deadline in all, however slowly its bytes come. Nothing is read ahead of what the session wants.
//! - Whoever has not proved himself has no slot, and the time he can take is bounded as a whole.
//! - A handoff that is still gives its slot up while it waits ([`crate::places`]).

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use dd_proto::report::Observed;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::agent::{now, wall};
use crate::alarm::Alarm;
use crate::client_certificate::Shown;
use crate::places::{Holding, Places, STILL};
use crate::proof::{Refusal, Terms, TlsSeen};
use crate::session::{
    BLOCK_TIMEOUT, Established, GREETING_TIMEOUT, Lost, Opening, OpeningWant, Unproved,
};
use crate::tls::Tls;

const READ_BYTES: usize = 8 * 1024;
/// Written at once, and one TLS record. A handoff moves as long as one of them goes out, or one reply comes in, within
/// [`STILL`].
pub const BLOCK_BYTES: usize = 16 * 1024;
/// A greeting that has begun shall be complete by then, counted from its first byte: servers write it at once. The RFC's
/// five minutes are for those that are slow to begin.
const GREETING_BEGUN: Duration = Duration::from_secs(60);
/// And so shall the proof, and the EHLO behind it.
const OPENING_BEGUN: Duration = Duration::from_secs(180);
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
    /// What is read has to be there by then.
    deadline: Alarm,
    movement: Movement,
}

/// Whether a handoff moves, and what it holds meanwhile.
#[derive(Debug)]
struct Movement {
    /// What it counts against; None: it was not proved yet, so it sends no mail, and waits on its opener's probe.
    holding: Option<Holding>,
    pulse: Arc<Pulse>,
    /// One that has not moved until then is still.
    still: Alarm,
}

/// How far a handoff is, for whoever watches it from outside.
#[derive(Debug)]
pub struct Pulse {
    moved: Mutex<Instant>,
    dot_goes: AtomicBool,
}

impl Pulse {
    fn new(now: Instant) -> Self {
        Self {
            moved: Mutex::new(now),
            dot_goes: AtomicBool::new(false),
        }
    }

    /// Another message begins.
    pub fn begins(&self) {
        self.dot_goes.store(false, Ordering::Relaxed);
    }

    /// A reply is complete, or a block is out.
    pub fn moves(&self, now: Instant) {
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// From here on the message may be the site's.
    pub fn dot_goes(&self) {
        self.dot_goes.store(true, Ordering::Relaxed);
    }

    pub fn moved(&self) -> Instant {
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the message in hand moved last; None where its dot goes out, or has.
    pub fn moved_before_its_dot(&self) -> Option<Instant> {
        (!self.dot_goes.load(Ordering::Relaxed)).then(|| self.moved())
    }
}

impl Wire {
    fn new(stream: Stream) -> Self {
        Self {
            stream,
            buffer: vec![0; READ_BYTES],
            deadline: Alarm::new(),
            movement: Movement {
                holding: None,
                pulse: Arc::new(Pulse::new(now())),
                still: Alarm::new(),
            },
        }
    }

    #[cfg(test)]
    pub(crate) fn in_the_clear(stream: TcpStream) -> Self {
        Self::new(Stream::Clear(stream))
    }

    /// From now on it hands over, on the agent's slots.
    pub fn hands_over(&mut self, slots: &Arc<Places>, probes: &Arc<Places>) {
        self.movement.holding = Some(Holding::new(Arc::clone(slots), Arc::clone(probes)));
    }

    pub fn pulse(&self) -> &Arc<Pulse> {
        &self.movement.pulse
    }

    /// Nothing is in hand.
    pub fn rests(&mut self) {
        if let Some(holding) = &mut self.movement.holding {
            holding.rests();
        }
    }

    /// A message is done, and another may follow.
    pub fn yields(&mut self) {
        if let Some(holding) = &mut self.movement.holding {
            holding.yields();
        }
    }

    /// Returns when it may send.
    pub async fn may_send(&mut self) {
        if let Some(holding) = &mut self.movement.holding
            && holding.moves().await
        {
            self.movement.pulse.moves(now());
        }
    }

    /// Block by block.
    ///
    /// # Errors
    /// The connection is lost, or not all was taken within `limit`; what it waits for a slot is not counted.
    pub async fn write(&mut self, bytes: &[u8], limit: Duration) -> Result<(), Lost> {
        let mut left = limit;
        for block in bytes.chunks(BLOCK_BYTES) {
            self.may_send().await;
            let began = now();
            self.write_block(block, left).await?;
            let ended = now();
            self.movement.pulse.moves(ended);
            left = left.saturating_sub(ended.saturating_duration_since(began));
        }
        Ok(())
    }

    /// One block, as long as `over` does not come. What was not written then never will be: the connection is of no use.
    ///
    /// # Errors
    /// The connection is lost, or not all was taken within `limit`, or before `over`.
    pub async fn write_before(
        &mut self,
        block: &[u8],
        limit: Duration,
        over: impl Future<Output = ()>,
    ) -> Result<(), Lost> {
        let (mut writing, mut over) = (pin!(self.write(block, limit)), pin!(over));
        let mut waits = false;
        poll_fn(|context| {
            // Whoever waited may have been stopped meanwhile, so it is looked at before anything more is written.
            if waits && over.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(Lost::TimedOut));
            }
            let written = writing.as_mut().poll(context);
            if waits || written.is_ready() {
                return written;
            }
            waits = true;
            over.as_mut().poll(context).map(|()| Err(Lost::TimedOut))
        })
        .await
    }

    async fn write_block(&mut self, block: &[u8], limit: Duration) -> Result<(), Lost> {
        let stream = &mut self.stream;
        let writing = async move {
            stream.write_all(block).await?;
            stream.flush().await
        };
        let writing = tokio::time::timeout(limit, writing);
        match self.movement.meanwhile(writing).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Lost::Closed),
            Err(_) => Err(Lost::TimedOut),
        }
    }

    /// Waits for something else than the far end, which counts as its stillness too.
    pub async fn meanwhile<T>(&mut self, waiting: impl Future<Output = T>) -> T {
        self.movement.meanwhile(waiting).await
    }

    /// # Errors
    /// The connection is lost, or nothing came before `deadline`.
    pub async fn read(&mut self, deadline: Instant) -> Result<&[u8], Lost> {
        let reading = self.stream.read(&mut self.buffer);
        let reading = self.deadline.limits(deadline, reading);
        match self.movement.meanwhile(reading).await {
            Some(Ok(n)) if n > 0 => Ok(&self.buffer[..n]),
            Some(_) => Err(Lost::Closed),
            None => Err(Lost::TimedOut),
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

impl Movement {
    /// Waits; a handoff that is still meanwhile gives its slot up and goes on waiting.
    async fn meanwhile<T>(&mut self, waiting: impl Future<Output = T>) -> T {
        let Some(holding) = self.holding.as_mut().filter(|it| it.has_slot()) else {
            return waiting.await;
        };
        let from = self.pulse.moved() + STILL;
        let mut waiting = pin!(waiting);
        tokio::select! {
            biased;
            done = &mut waiting => return done,
            () = self.still.at(from) => holding.hangs(),
        }
        waiting.await
    }
}

/// How long an opening may take; counted from when the connection was there, and from its first byte.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    end: Instant,
    begun: Option<Instant>,
}

impl Bounds {
    fn new(connected: Instant) -> Self {
        Self {
            end: connected + GREETING_TIMEOUT,
            begun: None,
        }
    }

    /// A byte has come.
    fn received(&mut self, now: Instant) {
        if self.begun.is_none() {
            self.begun = Some(now);
            self.end = now + GREETING_BEGUN;
        }
    }

    /// The greeting was answered.
    fn greeted(&mut self) {
        if let Some(begun) = self.begun {
            self.end = begun + OPENING_BEGUN;
        }
    }

    fn left(&self, now: Instant, limit: Duration) -> Duration {
        limit.min(self.end.saturating_duration_since(now))
    }
}

/// Takes a connection through greeting, TLS and ruling; a host that asks for a certificate is `shown` one, if there is one.
///
/// # Errors
/// Why there is no proved session, and what was seen.
pub async fn open(
    stream: TcpStream,
    mut opening: Opening,
    tls: &Tls,
    terms: &Terms,
    shown: &Shown,
) -> Result<Live, Box<Unproved>> {
    let connected = now();
    let mut wire = Some(Wire::new(Stream::Clear(stream)));
    let mut bounds = Bounds::new(connected);
    let mut since = connected;
    while let Some(open) = &mut wire {
        let out = opening.take_output();
        if !out.is_empty() {
            since = now();
            bounds.greeted();
        }
        if let Err(lost) = open.write(&out, bounds.left(since, BLOCK_TIMEOUT)).await {
            opening.received(&open.last_words().await, wall());
            opening.lost(lost, wall());
        }
        match opening.want() {
            OpeningWant::Nothing => break,
            OpeningWant::Handshake => {
                let limit = bounds.left(now(), opening.handshake_timeout());
                wire = handshake(wire, &mut opening, (tls, terms, shown), limit).await;
                // Where the greeting comes behind it, its time begins here.
                since = now();
            }
            OpeningWant::Bytes(limit) => match open.read(since + bounds.left(since, limit)).await {
                Err(lost) => opening.lost(lost, wall()),
                Ok(bytes) => {
                    bounds.received(now());
                    opening.received(bytes, wall());
                }
            },
        }
    }
    let session = opening.finish()?;
    let wire = wire.expect("an established session has its connection");
    let observed = session.seen().to_observed(session.proof(), None);
    Ok(Live {
        wire,
        session,
        observed,
        connected,
        proved: now(),
        note: String::new(),
    })
}

async fn handshake(
    wire: Option<Wire>,
    opening: &mut Opening,
    (tls, terms, shown): (&Tls, &Terms, &Shown),
    limit: Duration,
) -> Option<Wire> {
    let Some(Wire {
        stream: Stream::Clear(stream),
        ..
    }) = wire
    else {
        return None;
    };
    let securing = tls.secure(stream, terms, &opening.seen().host.name, shown);
    let (seen, stream) = match tokio::time::timeout(limit, securing).await {
        Ok(ended) => ended,
        Err(_) => {
            let refusal = format!("it took longer than {} seconds", limit.as_secs());
            let refusal = Refusal::HandshakeFailed(refusal);
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
        // No handoff: no slot is waited for.
        if self.wire.write_block(&goodbye, limit).await.is_ok() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_not_proved_himself_has_a_minute_from_the_first_byte_and_three_in_all() {
        let connected = now();
        let at = |seconds| connected + Duration::from_secs(seconds);
        let mut bounds = Bounds::new(connected);
        assert_eq!(bounds.end, at(300));
        bounds.received(at(200));
        assert_eq!(bounds.end, at(260));
        // A byte now and then gives no more time.
        bounds.received(at(220));
        assert_eq!(bounds.end, at(260));
        bounds.greeted();
        assert_eq!(bounds.end, at(380));
        bounds.greeted();
        bounds.received(at(340));
        let minute = Duration::from_secs(60);
        assert_eq!(bounds.left(at(300), minute), minute);
        assert_eq!(bounds.left(at(340), minute), Duration::from_secs(40));
        assert_eq!(bounds.left(at(390), minute), Duration::ZERO);
    }
}

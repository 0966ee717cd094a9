//! Where a content stays while it comes in: in memory, or in a file.
//!
//! # Invariants
//! Room for a body is taken before the client is told to send it, and all of it at once: a session that waits for room
//! holds none, so sessions cannot wait for each other. A body that outgrows its room goes to a file.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::accept::{AcceptError, Acceptor, Content, Spool};

/// A larger content goes to a file as it arrives.
pub const INLINE_LIMIT: usize = 256 * 1024;

/// Room beyond what the client announced: our field, and its error.
const SLACK: usize = 4096;

/// RFC 5321 §4.5.3.2.4: the client waits two minutes for the answer to DATA.
const PATIENCE: Duration = Duration::from_secs(60);

/// Room in memory for all bodies together.
#[derive(Debug, Clone)]
pub struct Buffers {
    room: Arc<Semaphore>,
    /// What one body takes at most.
    largest: usize,
}

impl Buffers {
    pub fn new(buffer_bytes: usize) -> Self {
        let bytes = buffer_bytes.min(Semaphore::MAX_PERMITS);
        Self {
            room: Arc::new(Semaphore::new(bytes)),
            largest: INLINE_LIMIT.min(bytes),
        }
    }

    /// Room for a body, if there is some and nobody waits for it.
    pub fn reserve_now(&self, announced_bytes: Option<u64>) -> Option<Room> {
        let (bytes, permits) = self.wanted(announced_bytes);
        let taken = self.room.clone().try_acquire_many_owned(permits);
        taken.ok().map(|permit| Room {
            bytes,
            _permit: permit,
        })
    }

    fn wanted(&self, announced_bytes: Option<u64>) -> (usize, u32) {
        let announced = announced_bytes.map_or(INLINE_LIMIT, |n| {
            usize::try_from(n).map_or(INLINE_LIMIT, |n| n.saturating_add(SLACK))
        });
        let bytes = announced.min(self.largest);
        let permits = u32::try_from(bytes).expect("the inline limit fits in 32 bits");
        (bytes, permits)
    }

    /// Room for a body, once there is some.
    ///
    /// # Errors
    /// There was none for a minute.
    pub async fn reserve(&self, announced_bytes: Option<u64>) -> Result<Room, AcceptError> {
        let (bytes, permits) = self.wanted(announced_bytes);
        let wait = self.room.clone().acquire_many_owned(permits);
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(Ok(permit)) => Ok(Room {
                bytes,
                _permit: permit,
            }),
            Ok(Err(_)) | Err(_) => Err(AcceptError::Full),
        }
    }
}

/// Room for one body; given back when dropped.
#[derive(Debug)]
pub struct Room {
    bytes: usize,
    _permit: OwnedSemaphorePermit,
}

/// A content that is coming in.
#[derive(Debug)]
pub struct Body<S> {
    bytes: u64,
    place: Place<S>,
}

#[derive(Debug)]
enum Place<S> {
    Memory(BytesMut, Room),
    File(S),
    Failed(AcceptError),
}

impl<S: Spool> Body<S> {
    pub fn new(room: Room) -> Self {
        Self {
            bytes: 0,
            place: Place::Memory(BytesMut::new(), room),
        }
    }

    /// Adds to it. An error is kept for [`finish`](Self::finish): the client learns it at the end of the content.
    pub async fn add<A: Acceptor<Spool = S>>(&mut self, chunk: Bytes, acceptor: &A) {
        self.bytes += chunk.len() as u64;
        let result = match &mut self.place {
            Place::Memory(held, room) if held.len() + chunk.len() <= room.bytes => {
                held.extend_from_slice(&chunk);
                Ok(())
            }
            Place::Memory(held, _) => {
                let held = held.split().freeze();
                self.move_to_file(held, chunk, acceptor).await
            }
            Place::File(spool) => spool.write(chunk).await,
            Place::Failed(error) => Err(*error),
        };
        if let Err(error) = result {
            self.place = Place::Failed(error);
        }
    }

    async fn move_to_file<A: Acceptor<Spool = S>>(
        &mut self,
        held: Bytes,
        chunk: Bytes,
        acceptor: &A,
    ) -> Result<(), AcceptError> {
        let mut spool = acceptor.spool().await?;
        spool.write(held).await?;
        spool.write(chunk).await?;
        self.place = Place::File(spool);
        Ok(())
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The content, and the room it takes until the store has it.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn finish(self) -> Result<(Content<S>, Option<Room>), AcceptError> {
        match self.place {
            Place::Memory(held, room) => Ok((Content::Inline(held.freeze()), Some(room))),
            Place::File(spool) => Ok((Content::Spooled(spool), None)),
            Place::Failed(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_for_room_holds_none() {
        let buffers = Buffers::new(INLINE_LIMIT);
        let first = buffers.reserve(Some(1000)).await.unwrap();
        assert_eq!(first.bytes, 1000 + SLACK);
        let waiting = tokio::time::timeout(Duration::ZERO, buffers.reserve(None));
        assert!(waiting.await.is_err());
        assert!(buffers.reserve_now(None).is_none());
        drop(first);
        assert!(buffers.reserve_now(None).is_some());
        assert_eq!(buffers.reserve(None).await.unwrap().bytes, INLINE_LIMIT);
    }
}

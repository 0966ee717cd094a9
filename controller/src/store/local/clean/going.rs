//! A segment that is half emptied: what of it has still to be read, and what could not be.
//!
//! A disk may fail to read what it reads a minute later: a loose cable, a path to a storage that changes over. So what
//! cannot be read is passed over at first, asked for once more when the rest is carried and [`PATIENCE`] has gone by, and
//! only then taken for lost.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;

use crate::store::local::disk::SharedFile;
use crate::store::local::log::Place;
use crate::store::local::pieces::{Pieces, content_of, envelope_of};
use crate::store::local::record::Header;
use crate::store::local::replay::{Stands, stands};
use crate::store::local::segment::{self, Segment};

/// So long after it could not be read, a part of a segment is asked for again.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Going {
    pub(super) segment: Segment,
    pieces: Pieces,
    pub(super) pass: Pass,
    /// What this pass has still to read, in order.
    left: VecDeque<Range<u64>>,
    /// Bytes that it has read, or passed over.
    pub(super) passed: u64,
    /// What it could not read: whole records, and where records may have been.
    unread: Vec<Range<u64>>,
    /// So many of them are noted.
    noted: usize,
    pub(super) carried: u64,
}

/// How often the disk was asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// What cannot be read is left for the next pass.
    First,
    /// What cannot be read now is lost. Not before this moment.
    Again(Duration),
    /// What the index says to live here and was not found is looked for in the index.
    Lost(Search),
}

/// How far a search has come.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Search {
    /// It goes on behind this key.
    pub(super) from: Vec<u8>,
    pub(super) found: usize,
    /// How often it came to the end and had found nothing.
    pub(super) in_vain: u32,
}

/// What stands where a content was expected.
pub(super) enum Content {
    /// Zeros where it cannot be read.
    Read(Bytes),
    /// It is asked for again later.
    Later,
}

impl Going {
    pub(super) fn new(segment: Segment, file: SharedFile) -> io::Result<Self> {
        let pieces = Pieces::new(file)?;
        let all = segment::HEADER..pieces.len();
        Ok(Self {
            segment,
            pieces,
            pass: Pass::First,
            left: VecDeque::from([all]),
            passed: 0,
            unread: Vec::new(),
            noted: 0,
            carried: 0,
        })
    }

    pub(super) fn is_due(&self, now: Duration) -> bool {
        match self.pass {
            Pass::Again(from) => now >= from,
            Pass::First | Pass::Lost(_) => true,
        }
    }

    /// Whether this pass has read all that it was to read.
    pub(super) fn is_through(&self) -> bool {
        self.left.is_empty()
    }

    /// Whether there is a part that could not be read when it was asked for last.
    pub(super) fn has_holes(&self) -> bool {
        let asks_again = matches!(self.pass, Pass::Again(_)) && !self.is_through();
        asks_again || !self.unread.is_empty()
    }

    /// The next good record, with its envelope; None where there is none.
    pub(super) fn next(&mut self) -> io::Result<Option<(Place, Header, Vec<u8>)>> {
        while let Some(Range { start: at, end }) = self.left.front().cloned() {
            if at >= end {
                self.left.pop_front();
                continue;
            }
            match stands(&mut self.pieces, &self.segment, at)? {
                Stands::Record(header) => {
                    let envelope = self.pieces.slice(envelope_of(at, &header))?.to_vec();
                    self.goes_on(at, at + header.len());
                    let place = Place {
                        segment: self.segment.number,
                        offset: at,
                        len: header.len(),
                    };
                    return Ok(Some((place, header, envelope)));
                }
                // What can be read and is no record has been copied to `quarantine/` by the start that found it.
                Stands::Gap(to, looked) => {
                    if !looked.holes.is_empty() {
                        self.unread.push(at..to);
                    }
                    self.goes_on(at, to);
                }
                Stands::Nothing => self.goes_on(at, end),
            }
        }
        Ok(None)
    }

    fn goes_on(&mut self, from: u64, to: u64) {
        self.passed += to - from;
        if let Some(range) = self.left.front_mut() {
            range.start = to;
        }
    }

    pub(super) fn content(&mut self, place: Place, header: &Header) -> io::Result<Content> {
        let range = content_of(place.offset, header);
        if self.pieces.whole(range.clone())?.is_none() {
            self.unread.push(place.offset..place.offset + place.len);
            if self.pass == Pass::First {
                return Ok(Content::Later);
            }
        }
        let mut content = self.pieces.slice(range)?.to_vec();
        content.resize(header.content_len as usize, 0);
        Ok(Content::Read(Bytes::from(content)))
    }

    /// What could not be read is read once more, when its time has come.
    pub(super) fn begin_again(&mut self, now: Duration) {
        self.pass = Pass::Again(now + PATIENCE);
        self.left = std::mem::take(&mut self.unread).into();
        self.pieces.ask_again();
    }

    /// Parts that are lost and not noted; none before the disk was asked again.
    pub(super) fn lost_parts(&mut self) -> io::Result<Vec<Range<u64>>> {
        let mut lost = Vec::new();
        if self.pass != Pass::First {
            for range in &self.unread[self.noted..] {
                lost.extend(self.pieces.look(range.clone(), |_, _| Ok(()))?.holes);
            }
        }
        Ok(lost)
    }

    pub(super) fn are_noted(&mut self) {
        if self.pass != Pass::First {
            self.noted = self.unread.len();
        }
    }
}

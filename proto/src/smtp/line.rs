//! Lines out of a stream of bytes: ended by CRLF and nothing else, and never longer than a limit.
//!
//! # Invariants
//! At most the limit, and what was pushed since the last empty [`LineBuffer::next_line`], is held. An error consumes
//! the offending line to its end, so that the caller may answer and go on.

use bytes::{Buf as _, Bytes, BytesMut};

/// Longest command line, without its CRLF. RFC 5321 §4.5.3.1.4 asks for 512, and extensions add to it (RFC 1870,
/// RFC 3461 §7: 500 for ORCPT, RFC 6152, RFC 6531); this is more than all of them together.
pub const COMMAND_LIMIT: usize = 2048;

/// Longest reply line, without its CRLF. RFC 5321 §4.5.3.1.5 asks for 512; real servers send more.
pub const REPLY_LIMIT: usize = 2000;

/// Why there is no line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    #[error("the line is too long")]
    TooLong,
    #[error("the line holds a line feed that no carriage return precedes")]
    BareLf,
    #[error("the line holds a carriage return that no line feed follows")]
    BareCr,
}

/// Bytes in, lines out.
pub struct LineBuffer {
    buffer: BytesMut,
    limit: usize,
    /// Up to here there is neither CR nor LF.
    scanned: usize,
    /// The rest of a line that was given up, up to its LF, is dropped.
    skipping: bool,
    /// The last line that ended in a bare LF.
    bare: Option<Bytes>,
}

/// What clients write may be a password, and is their mail.
impl std::fmt::Debug for LineBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = format_args!("{} bytes", self.buffer.len());
        f.debug_struct("LineBuffer")
            .field("buffer", &bytes)
            .finish_non_exhaustive()
    }
}

impl LineBuffer {
    pub fn new(limit: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            limit,
            scanned: 0,
            skipping: false,
            bare: None,
        }
    }

    /// The line that [`LineError::BareLf`] was about, for a caller that can do no harm with it.
    pub fn take_bare_line(&mut self) -> Option<Bytes> {
        self.bare.take()
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether no byte waits: what a server asks behind STARTTLS, and a client behind the 220 to it.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty() && !self.skipping
    }

    /// Everything not yet taken as a line: the content behind a DATA command.
    pub fn take_rest(&mut self) -> Bytes {
        self.scanned = 0;
        self.buffer.split().freeze()
    }

    /// The next line without its CRLF; None until more is pushed.
    ///
    /// # Errors
    /// The line is unusable. It is dropped to its end; the next call goes on behind it.
    pub fn next_line(&mut self) -> Option<Result<Bytes, LineError>> {
        if self.skipping && !self.skip() {
            return None;
        }
        let found = memchr::memchr2(b'\r', b'\n', &self.buffer[self.scanned..]);
        let Some(end) = found.map(|n| self.scanned + n) else {
            self.scanned = self.buffer.len();
            return (self.scanned > self.limit).then(|| Err(self.give_up(LineError::TooLong)));
        };
        self.scanned = end;
        if end > self.limit {
            return Some(Err(self.give_up(LineError::TooLong)));
        }
        if self.buffer[end] == b'\n' {
            self.bare = Some(self.take_line(end, 1));
            return Some(Err(LineError::BareLf));
        }
        match self.buffer.get(end + 1)? {
            b'\n' => Some(Ok(self.take_line(end, 2))),
            _ => Some(Err(self.give_up(LineError::BareCr))),
        }
    }

    fn take_line(&mut self, end: usize, line_end: usize) -> Bytes {
        let line = self.buffer.split_to(end).freeze();
        self.buffer.advance(line_end);
        self.scanned = 0;
        line
    }

    fn give_up(&mut self, error: LineError) -> LineError {
        self.skipping = true;
        self.skip();
        error
    }

    /// Drops up to the next LF; says whether it was there.
    fn skip(&mut self) -> bool {
        self.scanned = 0;
        match memchr::memchr(b'\n', &self.buffer) {
            Some(lf) => {
                self.buffer.advance(lf + 1);
                self.skipping = false;
            }
            None => self.buffer.clear(),
        }
        !self.skipping
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(input: &[&[u8]]) -> Vec<Result<Vec<u8>, LineError>> {
        let mut buffer = LineBuffer::new(8);
        let mut found = Vec::new();
        for chunk in input {
            buffer.push(chunk);
            while let Some(line) = buffer.next_line() {
                found.push(line.map(|l| l.to_vec()));
            }
        }
        found
    }

    #[test]
    fn only_crlf_ends_a_line() {
        let ok = |t: &str| Ok(t.as_bytes().to_vec());
        for (input, expected) in [
            (&b"a\r\n\r\nb"[..], vec![ok("a"), ok("")]),
            (b"a\nb\r\n", vec![Err(LineError::BareLf), ok("b")]),
            (b"a\rb\r\nc\r\n", vec![Err(LineError::BareCr), ok("c")]),
            (b"a\r\r\nc\r\n", vec![Err(LineError::BareCr), ok("c")]),
            (b"12345678\r\n", vec![ok("12345678")]),
            (
                b"123456789\r\nc\r\n",
                vec![Err(LineError::TooLong), ok("c")],
            ),
        ] {
            assert_eq!(lines(&[input]), expected, "{input:?}");
        }
    }

    #[test]
    fn a_line_without_end_is_refused_and_not_kept() {
        let mut buffer = LineBuffer::new(8);
        buffer.push(&[b'x'; 9]);
        assert_eq!(buffer.next_line(), Some(Err(LineError::TooLong)));
        for _ in 0..100 {
            buffer.push(&[b'x'; 9]);
            assert_eq!(buffer.next_line(), None);
            assert!(buffer.buffer.is_empty() && !buffer.is_empty());
        }
        buffer.push(b"\r\nb\r\n");
        assert_eq!(buffer.next_line(), Some(Ok(Bytes::from_static(b"b"))));
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_line_with_a_bare_lf_can_be_had_once() {
        let mut buffer = LineBuffer::new(8);
        buffer.push(b"a\nb\r\n");
        assert_eq!(buffer.next_line(), Some(Err(LineError::BareLf)));
        assert_eq!(buffer.take_bare_line(), Some(Bytes::from_static(b"a")));
        assert_eq!(buffer.take_bare_line(), None);
        assert_eq!(buffer.next_line(), Some(Ok(Bytes::from_static(b"b"))));
        assert_eq!(buffer.take_bare_line(), None);
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_lines(
            input in prop::collection::vec(prop::sample::select(b"ab\r\n".to_vec()), 0..60),
            size in 1usize..9,
        ) {
            let chunks: Vec<&[u8]> = input.chunks(size).collect();
            prop_assert_eq!(lines(&[&input]), lines(&chunks));
        }
    }
}

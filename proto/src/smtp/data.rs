//! The DATA stream: dots stuffed and unstuffed, and its one and only end.
//!
//! # Invariants
//! A message ends at CRLF.CRLF, or at .CRLF where nothing precedes it, and nowhere else: `\n.\n`, `\r\n.\r\r\n` and
//! their kin are content with a [`Fault`]. So no two servers can disagree about where a message ends on our account.
//! A fault is told only at the true end, so that what follows the message is never taken for commands.

use bytes::BytesMut;

/// What is wrong with a content. RFC 5321 §2.3.8: CR and LF only as CRLF; §4.5.2 with RFC 5322 §3.5: no NUL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("a bare carriage return (CR without LF)")]
    BareCr,
    #[error("a bare line feed (LF without CR)")]
    BareLf,
    #[error("a NUL byte")]
    Nul,
}

/// What is done about a CR or LF that stands alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StrayCrLf {
    /// It is a fault.
    #[default]
    Refuse,
    /// It becomes a space.
    Space,
}

/// How far [`Unstuffer::feed`] came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// All input is consumed and the message goes on.
    More,
    /// The message ended behind that many bytes of the input; the rest is not part of it.
    End { consumed: usize },
}

/// Receives: takes the stream, gives the content.
///
/// ```text
/// LineStart ─'.'→ Dot ─CR→ DotCr ─LF→ the end
///     ↑            └─ else ─┴─ else → Text ─CR→ Cr ─LF→ LineStart
/// ```
#[derive(Debug)]
pub struct Unstuffer {
    state: State,
    stray: StrayCrLf,
    fault: Option<Fault>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    LineStart,
    Dot,
    DotCr,
    Text,
    Cr,
}

impl Unstuffer {
    pub fn new(stray: StrayCrLf) -> Self {
        Self {
            state: State::LineStart,
            stray,
            fault: None,
        }
    }

    /// The first fault seen so far.
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Appends the content in `input` to `content`; behind a fault nothing is appended any more.
    /// Must not be called again after [`Progress::End`].
    pub fn feed(&mut self, input: &[u8], content: &mut BytesMut) -> Progress {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            match (self.state, byte) {
                (State::LineStart, b'.') => {
                    self.state = State::Dot;
                    at += 1;
                }
                (State::LineStart | State::Text, _) => at = self.run(input, at, content),
                (State::Dot, b'\r') => {
                    self.state = State::DotCr;
                    at += 1;
                }
                // RFC 5321 §4.5.2: the first dot of a line that goes on is deleted.
                (State::Dot, _) => self.state = State::Text,
                (State::DotCr, b'\n') => return Progress::End { consumed: at + 1 },
                (State::Cr, b'\n') => {
                    self.emit(b"\r\n", content);
                    self.state = State::LineStart;
                    at += 1;
                }
                (State::DotCr | State::Cr, _) => self.stray(Fault::BareCr, content),
            }
        }
        Progress::More
    }

    /// Copies whole lines up to the first byte that needs a decision; returns where to go on.
    fn run(&mut self, input: &[u8], start: usize, content: &mut BytesMut) -> usize {
        let mut at = start;
        while let Some(found) = memchr::memchr3(b'\r', b'\n', 0, &input[at..]) {
            let special = at + found;
            if input[special..].starts_with(b"\r\n") {
                at = special + 2;
                if matches!(input.get(at), None | Some(b'.')) {
                    self.emit(&input[start..at], content);
                    self.state = State::LineStart;
                    return at;
                }
                continue;
            }
            self.emit(&input[start..special], content);
            match input[special] {
                b'\r' => self.state = State::Cr,
                b'\n' => self.stray(Fault::BareLf, content),
                _ => {
                    self.fault.get_or_insert(Fault::Nul);
                    self.state = State::Text;
                }
            }
            return special + 1;
        }
        self.emit(&input[start..], content);
        self.state = State::Text;
        input.len()
    }

    fn stray(&mut self, fault: Fault, content: &mut BytesMut) {
        match self.stray {
            StrayCrLf::Refuse => _ = self.fault.get_or_insert(fault),
            StrayCrLf::Space => self.emit(b" ", content),
        }
        self.state = State::Text;
    }

    fn emit(&self, bytes: &[u8], content: &mut BytesMut) {
        if self.fault.is_none() {
            content.extend_from_slice(bytes);
        }
    }
}

/// Sends: takes the content, gives the stream.
///
/// The content must be clean, as everything is that an [`Unstuffer`] let through.
#[derive(Debug)]
pub struct Stuffer {
    state: Sent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    LineStart,
    Cr,
    Text,
}

impl Default for Stuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl Stuffer {
    pub fn new() -> Self {
        Self {
            state: Sent::LineStart,
        }
    }

    /// Appends what the stream has for this part of the content.
    pub fn feed(&mut self, content: &[u8], stream: &mut BytesMut) {
        stream.reserve(content.len() + content.len() / 64 + 1);
        let mut rest = content;
        if self.state == Sent::Cr && rest.first() == Some(&b'\n') {
            stream.extend_from_slice(b"\n");
            rest = &rest[1..];
            self.state = Sent::LineStart;
        }
        let Some(&first) = rest.first() else { return };
        if self.state == Sent::LineStart && first == b'.' {
            stream.extend_from_slice(b".");
        }
        let mut from = 0;
        for found in memchr::memmem::find_iter(rest, b"\r\n.") {
            stream.extend_from_slice(&rest[from..found + 3]);
            stream.extend_from_slice(b".");
            from = found + 3;
        }
        stream.extend_from_slice(&rest[from..]);
        self.state = match rest {
            [.., b'\r', b'\n'] => Sent::LineStart,
            [.., b'\r'] => Sent::Cr,
            _ => Sent::Text,
        };
    }

    /// What ends the stream after the whole content: the final dot, with a CRLF first where the content lacks its own.
    pub fn end(&self) -> &'static [u8] {
        match self.state {
            Sent::LineStart => b".\r\n",
            Sent::Cr | Sent::Text => b"\r\n.\r\n",
        }
    }
}

#[cfg(test)]
#[path = "data_tests.rs"]
mod tests;

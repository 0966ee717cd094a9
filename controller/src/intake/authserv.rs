//! Takes out `Authentication-Results` fields that pretend to be the feeder's. RFC 8601 §5.
//!
//! What the feeder itself has found stands above the first `Received` field, which is the feeder's too; what stands below
//! it and has one of the feeder's names came from outside.
//!
//! # Invariants
//! Every other byte passes unchanged, whatever the chunks. What is held back is never more than [`MAX_FIELD`].

use std::sync::Arc;

use bytes::BytesMut;

/// A field whose name of its author comes later than that is no result of anybody's.
const MAX_FIELD: usize = 16 * 1024;
/// RFC 5322 §2.1.1: a line has 998 characters, so that no field's name is longer.
const MAX_NAME: usize = 998;

const NAME: &[u8] = b"authentication-results";

/// The filter of one content.
#[derive(Debug)]
pub struct Filter {
    /// In lower case.
    ids: Arc<[String]>,
    state: State,
    /// What has not been passed on yet of the field in hand.
    held: Vec<u8>,
    at_line_start: bool,
    seen_received: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The name of the field is not complete.
    Name,
    /// It is about results, below the first `Received`.
    Suspect,
    Keep,
    Drop,
    Body,
}

impl Filter {
    /// None where the feeder has no such name.
    pub fn new(ids: &Arc<[String]>) -> Option<Self> {
        (!ids.is_empty()).then(|| Self {
            ids: Arc::clone(ids),
            state: State::Name,
            held: Vec::new(),
            at_line_start: true,
            seen_received: false,
        })
    }

    /// What of it is kept.
    pub fn pass(&mut self, input: BytesMut) -> BytesMut {
        if self.state == State::Body {
            return input;
        }
        let mut out = BytesMut::with_capacity(input.len() + self.held.len());
        let mut rest = &input[..];
        while !rest.is_empty() && self.state != State::Body {
            if self.at_line_start {
                self.begin_line(rest[0], &mut out);
            }
            let end = rest.iter().position(|b| *b == b'\n').map(|at| at + 1);
            let (part, behind) = rest.split_at(end.unwrap_or(rest.len()));
            self.part(part, &mut out);
            self.at_line_start = end.is_some();
            rest = behind;
        }
        out.extend_from_slice(rest);
        out
    }

    /// The content is complete.
    pub fn end(&mut self) -> BytesMut {
        let mut out = BytesMut::new();
        self.end_field(&mut out);
        out
    }

    fn begin_line(&mut self, first: u8, out: &mut BytesMut) {
        match first {
            b' ' | b'\t' => {}
            b'\r' | b'\n' => {
                self.end_field(out);
                self.state = State::Body;
            }
            _ => {
                self.end_field(out);
                self.state = State::Name;
            }
        }
    }

    fn part(&mut self, part: &[u8], out: &mut BytesMut) {
        match self.state {
            State::Keep | State::Body => return out.extend_from_slice(part),
            State::Drop => return,
            State::Name | State::Suspect => self.held.extend_from_slice(part),
        }
        if self.state == State::Name {
            self.state = self.by_name();
        }
        match self.state {
            State::Suspect if self.held.len() > MAX_FIELD => self.state = self.by_start(),
            _ => {}
        }
        match self.state {
            State::Keep => out.extend_from_slice(&std::mem::take(&mut self.held)),
            State::Drop => self.held = Vec::new(),
            _ => {}
        }
    }

    fn by_name(&mut self) -> State {
        // No further than that, whatever the chunks.
        let start = &self.held[..self.held.len().min(MAX_NAME)];
        let colon = start.iter().position(|b| *b == b':');
        let Some(name) = colon.map(|at| start[..at].trim_ascii_end()) else {
            let complete = self.held.ends_with(b"\n") || self.held.len() >= MAX_NAME;
            return match complete {
                true => State::Keep,
                false => State::Name,
            };
        };
        if name.eq_ignore_ascii_case(NAME) && self.seen_received {
            return State::Suspect;
        }
        self.seen_received |= name.eq_ignore_ascii_case(b"received");
        State::Keep
    }

    fn end_field(&mut self, out: &mut BytesMut) {
        if self.state == State::Suspect && self.is_forged() {
            self.held.clear();
        }
        out.extend_from_slice(&self.held);
        self.held.clear();
    }

    /// Of a field that is too long to be held whole.
    fn by_start(&self) -> State {
        let mut value = value(&self.held[..MAX_FIELD]);
        let id = authserv_id(&value);
        // Whether the name ends in what is held: more of it would not be the same.
        value.push('x');
        let is_complete = id == authserv_id(&value);
        let is_another = id.is_some_and(|id| !self.is_own(&id));
        match is_complete && is_another {
            true => State::Keep,
            false => State::Drop,
        }
    }

    fn is_own(&self, id: &str) -> bool {
        let id = id.trim_end_matches('.');
        self.ids.iter().any(|it| it == id)
    }

    fn is_forged(&self) -> bool {
        let value = value(&self.held);
        match authserv_id(&value) {
            Some(id) => self.is_own(&id),
            // Others may read more in it than we can.
            None => self.ids.iter().any(|it| value.contains(it.as_str())),
        }
    }
}

/// Behind the colon, in lower case.
fn value(field: &[u8]) -> String {
    let start = field.iter().position(|b| *b == b':').map_or(0, |at| at + 1);
    String::from_utf8_lossy(&field[start..]).to_lowercase()
}

/// RFC 8601 §2.2: `[CFWS] authserv-id`, which is a token or a quoted string. None where there is none.
fn authserv_id(value: &str) -> Option<String> {
    let mut rest = value.chars();
    let mut depth = 0;
    let mut id = String::new();
    loop {
        match rest.next()? {
            '\\' if depth > 0 => {
                rest.next()?;
            }
            '(' => depth += 1,
            ')' if depth > 0 => depth -= 1,
            _ if depth > 0 => {}
            c if c.is_ascii_whitespace() => {}
            '"' => loop {
                match rest.next()? {
                    '"' => return Some(id),
                    '\\' => id.push(rest.next()?),
                    '\r' | '\n' => {}
                    c => id.push(c),
                }
            },
            c => {
                id.push(c);
                break;
            }
        }
    }
    let stop = |c: &char| !c.is_ascii_whitespace() && !matches!(c, ';' | '(' | '"' | '/');
    id.extend(rest.take_while(stop));
    (id != ";").then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(content: &str, size: usize) -> String {
        let ids = ["mx.example.net".to_owned()];
        let mut filter = Filter::new(&ids.into()).unwrap();
        let mut out = Vec::new();
        for chunk in content.as_bytes().chunks(size) {
            out.extend_from_slice(&filter.pass(chunk.into()));
        }
        out.extend_from_slice(&filter.end());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_forged_result_is_taken_out_however_it_is_written() {
        for forged in [
            "Authentication-Results: mx.example.net; spf=pass\r\n",
            "authentication-results:MX.Example.NET;\r\n\tspf=pass\r\n\tsmtp.mailfrom=a.example\r\n",
            "Authentication-Results:\r\n mx.example.net; spf=pass\r\n",
            "Authentication-Results:\r\n\t\r\n mx.example.net; none\r\n",
            "Authentication-Results: (a comment) mx.example.net; spf=pass\r\n",
            "Authentication-Results: (a (nested\\) one) of\r\n two lines)mx.example.net(x) 1; spf=pass\r\n",
            "Authentication-Results: \"mx.example.net\"; spf=pass\r\n",
            "Authentication-Results: \"m\\x.exam\\ple.net\" ; spf=pass\r\n",
            "Authentication-Results : mx.example.net; spf=pass\r\n",
            "AUTHENTICATION-RESULTS: mx.example.net. 1; spf=pass\r\n",
            "Authentication-Results: mx.example.net/1; spf=pass\r\n",
            "Authentication-Results: (never closed mx.example.net; spf=pass\r\n",
        ] {
            let content = format!(
                "Received: from a\r\n\tby mx.example.net\r\n{forged}Subject: x\r\n\r\nbody\r\n"
            );
            let expected = content.replace(forged, "");
            for size in [1, 7, 10_000] {
                assert_eq!(passed(&content, size), expected, "{forged}");
            }
        }
    }

    #[test]
    fn every_other_byte_stays() {
        let long = format!("X: {}\r\n", "x".repeat(3 * MAX_FIELD));
        let no_colon = "x".repeat(2000);
        let results = "Received: a\r\nAuthentication-Results: other.example; x=";
        let another = format!("{results}{}\r\n\r\n", "x".repeat(3 * MAX_FIELD));
        let late = format!(
            "Received: a\r\nAuthentication-Results{}: mx.example.net\r\n\r\n",
            " ".repeat(1000)
        );
        for content in [
            "Authentication-Results: mx.example.net; spf=fail\r\nReceived: a\r\n\r\n",
            "Received: a\r\nAuthentication-Results: mx.example.net.evil.example; spf=pass\r\n\r\n",
            "Received: a\r\nAuthentication-Results: other.example; x=mx.example.net\r\n\r\n",
            "Received: a\r\nARC-Authentication-Results: i=1; mx.example.net; spf=pass\r\n\r\n",
            "Received: a\r\nX-Authentication-Results: mx.example.net; spf=pass\r\n\r\n",
            "Received: a\r\nAuthentication-Results-Original: mx.example.net; spf=pass\r\n\r\n",
            "Received: a\r\nSubject: x\r\n Authentication-Results: mx.example.net\r\n\r\n",
            "Received: a\r\n\r\nAuthentication-Results: mx.example.net; spf=pass\r\n",
            "Received: a\r\nAuthentication-Results: ; mx.example.org\r\n\r\n",
            " folded at once\r\nno colon\r\n\r\nx",
            "Received: a\r\nAuthentication-Results: other.example",
            "\r\n",
            "",
            &no_colon,
            &long,
            &another,
            &late,
        ] {
            for size in [1, 7, 100_000] {
                assert_eq!(passed(content, size), content, "{content}");
            }
        }
    }

    #[test]
    fn a_field_without_end_is_not_held() {
        let name = "Authentication-Results:";
        // The comment ends beyond what is held, and so does the name in the other one.
        let comment = format!("({}) mx.example.net", "x".repeat(2 * MAX_FIELD));
        let blank = " ".repeat(MAX_FIELD - name.len() - 3);
        let cut = format!("{blank}mx.example.net; spf=pass");
        for value in [comment, cut] {
            let field = format!("Received: a\r\n{name}{value}\r\nSubject: x\r\n\r\n");
            for size in [1, 1000, 100_000] {
                assert_eq!(passed(&field, size), "Received: a\r\nSubject: x\r\n\r\n");
            }
        }
    }
}

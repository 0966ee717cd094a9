//! One connection to a home: an SMTP receiver that behaves as its habits say.

use std::time::Duration;

use super::fault::{Break, Does};
use super::habits::{BehindDot, Manner, Place, Reads};
use super::{Act, Home, Taken};

/// A connection and its session.
#[derive(Debug)]
pub struct Connection {
    buffer: Vec<u8>,
    from: Option<String>,
    to: Vec<String>,
    /// The content so far, while one comes.
    content: Option<Vec<u8>>,
    errors: u32,
    resets: u32,
    messages: u32,
    /// What the answers to one read have waited so far.
    waited: Duration,
    /// Only what comes with the dot is refused.
    refuses_rest: bool,
    state: State,
    /// It came before any session had ended in order.
    tested: bool,
    acts: Vec<Act>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Over,
}

impl Connection {
    /// A client has connected; the greeting is among what is to be done.
    pub fn begin(home: &mut Home, now: Duration) -> (Self, Vec<Act>) {
        home.connections += 1;
        let mut connection = Self {
            buffer: Vec::new(),
            from: None,
            to: Vec::new(),
            content: None,
            errors: 0,
            resets: 0,
            messages: 0,
            waited: Duration::ZERO,
            refuses_rest: false,
            state: State::Open,
            tested: home.habits.tests_a_session && home.goodbyes == 0,
            acts: Vec::new(),
        };
        connection.answers(home, Place::Greeting, "220 home.example ESMTP", now);
        let acts = std::mem::take(&mut connection.acts);
        (connection, acts)
    }

    /// Bytes have come in one read.
    pub fn read(&mut self, home: &mut Home, bytes: &[u8], now: Duration) -> Vec<Act> {
        self.buffer.extend_from_slice(bytes);
        self.refuses_rest = false;
        self.waited = Duration::ZERO;
        while self.state == State::Open {
            if self.content.is_some() {
                if !self.content_comes(home, now) {
                    break;
                }
                continue;
            }
            let Some(line) = self.next_line(home.habits.reads) else {
                break;
            };
            if self.refuses_rest {
                self.says(home, "503 5.5.1 bad sequence of commands", now);
            } else {
                self.command(home, &line, now);
            }
        }
        std::mem::take(&mut self.acts)
    }

    /// The next whole line that it looks at.
    fn next_line(&mut self, reads: Reads) -> Option<String> {
        let end = |buffer: &[u8]| buffer.windows(2).position(|it| it == b"\r\n");
        let mut at = end(&self.buffer)?;
        if reads == Reads::LastLine {
            while let Some(more) = end(&self.buffer[at + 2..]) {
                self.buffer.drain(..at + 2);
                at = more;
            }
        }
        let line = String::from_utf8_lossy(&self.buffer[..at]).into_owned();
        self.buffer.drain(..at + 2);
        if reads == Reads::FirstLine {
            self.buffer.clear();
        }
        Some(line)
    }

    /// Takes what belongs to the content. Returns whether it has ended.
    fn content_comes(&mut self, home: &mut Home, now: Duration) -> bool {
        let content = self.content.get_or_insert_default();
        content.append(&mut self.buffer);
        let end = match content.starts_with(b".\r\n") {
            true => Some(3),
            false => {
                let end = content.windows(5).position(|it| it == b"\r\n.\r\n");
                end.map(|at| at + 5)
            }
        };
        let Some(end) = end else {
            return false;
        };
        self.buffer = content.split_off(end);
        self.content = None;
        match home.habits.behind_dot {
            BehindDot::Handled => {}
            BehindDot::Lost => self.buffer.clear(),
            BehindDot::Refused => self.refuses_rest = true,
        }
        self.dot(home, now);
        true
    }

    fn command(&mut self, home: &mut Home, line: &str, now: Duration) {
        home.trace
            .push(format!("{now:?} #{} {line}", home.connections));
        let verb = line.split([' ', ':']).next().unwrap_or_default();
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" => self.ehlo(home, now),
            "HELO" => self.answers(home, Place::Ehlo, "250 home.example", now),
            "MAIL" => self.mail(home, &path(line), now),
            "RCPT" => self.rcpt(home, &path(line), now),
            "DATA" => self.data(home, now),
            "RSET" => self.reset(home, now),
            "NOOP" => self.says(home, "250 2.0.0 Ok", now),
            "QUIT" => {
                home.goodbyes += 1;
                self.says(home, "221 2.0.0 Bye", now);
                self.ends(Act::Close);
            }
            _ => self.says(home, "500 5.5.2 unknown command", now),
        }
    }

    fn ehlo(&mut self, home: &mut Home, now: Duration) {
        let mut reply = "250-home.example".to_owned();
        for keyword in home.habits.keywords {
            reply.push_str("\r\n250-");
            reply.push_str(keyword);
        }
        let last = reply.rfind("250-").unwrap_or_default();
        reply.replace_range(last..last + 4, "250 ");
        self.answers(home, Place::Ehlo, &reply, now);
    }

    fn mail(&mut self, home: &mut Home, from: &str, now: Duration) {
        if self.from.is_some() {
            return self.says(home, "503 5.5.1 nested MAIL command", now);
        }
        self.messages += 1;
        if let Some(most) = home.habits.messages.filter(|it| self.messages > it.most) {
            self.says(home, most.says, now);
            if most.ends {
                self.ends(Act::Close);
            }
            return;
        }
        let usual = match home.habits.refused_sender {
            Some(refused) if super::is_refused(from) => refused,
            _ => "250 2.1.0 Ok",
        };
        self.from = Some(from.to_owned());
        self.answers(home, Place::Mail, usual, now);
        if !self.last_was_positive() {
            self.from = None;
        }
    }

    fn rcpt(&mut self, home: &mut Home, to: &str, now: Duration) {
        let Some(from) = self.from.clone() else {
            return self.says(home, "503 5.5.1 need MAIL command", now);
        };
        let unknown = !home.habits.mailboxes.has(to);
        if unknown && home.mood.is_none() && !home.habits.unknown_after.is_zero() {
            self.waits(home, home.habits.unknown_after, now);
        }
        let usual = match () {
            () if self.tested => "450 4.3.2 Service currently unavailable",
            () if unknown => home.habits.unknown,
            () if home.mood.is_none() && !home.has_waited(&from, to, now) => {
                "450 4.2.0 Greylisted, try again later"
            }
            () => "250 2.1.5 Ok",
        };
        self.to.push(to.to_owned());
        self.answers(home, Place::Rcpt, usual, now);
        if !self.last_was_positive() {
            self.to.pop();
        }
    }

    fn data(&mut self, home: &mut Home, now: Duration) {
        if self.to.is_empty() {
            return self.says(home, "503 5.5.1 need RCPT command", now);
        }
        self.answers(home, Place::Data, "354 go ahead", now);
        if matches!(self.acts.last(), Some(Act::Say(reply)) if reply.starts_with("354")) {
            self.content = Some(Vec::new());
        }
    }

    fn dot(&mut self, home: &mut Home, now: Duration) {
        let before = self.acts.len();
        self.answers(home, Place::Dot, "250 2.0.0 Ok: queued", now);
        let said = self.acts[before..].iter().any(is_positive);
        if said {
            self.takes(home, now);
        }
        self.from = None;
        self.to.clear();
    }

    fn takes(&self, home: &mut Home, now: Duration) {
        let from = self.from.clone().unwrap_or_default();
        let taken = self.to.iter().map(|to| Taken {
            from: from.clone(),
            to: to.clone(),
            at: now,
        });
        home.mailbox.extend(taken);
    }

    fn reset(&mut self, home: &mut Home, now: Duration) {
        self.from = None;
        self.to.clear();
        self.resets += 1;
        match home.habits.resets {
            Some((end_at, says)) if self.resets >= end_at => {
                self.says(home, says, now);
                self.ends(Act::Close);
            }
            _ => self.says(home, "250 2.0.0 Ok", now),
        }
    }

    /// The usual answer, unless a fault or a mood puts another in its place.
    fn answers(&mut self, home: &mut Home, place: Place, usual: &str, now: Duration) {
        let from = self.from.clone().unwrap_or_default();
        let mood = home.mood.filter(|mood| mood.at == place);
        let fault = home.fault(place, &from);
        if let Some(does) = &fault {
            home.breaks.push(Break {
                at: now,
                place,
                does: does.clone(),
                from: from.clone(),
            });
        }
        let reply = match (fault, mood) {
            (Some(Does::Closes), _) => return self.breaks(home, place, Act::Close),
            (Some(Does::Resets), _) => return self.breaks(home, place, Act::Reset),
            (Some(Does::IsMute), _) => return self.breaks(home, place, Act::Mute),
            (Some(Does::TakesAndCloses), _) => {
                if place == Place::Dot {
                    self.takes(home, now);
                }
                return self.breaks(home, place, Act::Close);
            }
            (Some(Does::Says(reply)), _) => reply,
            (None, Some(mood)) => mood.says.to_owned(),
            (None, None) => usual.to_owned(),
        };
        if reply.starts_with(['4', '5']) {
            for to in self.concerned(place) {
                home.refuses(&from, &to, &reply);
            }
        }
        self.says(home, &reply, now);
        if reply.starts_with("421") {
            self.ends(Act::Close);
        }
    }

    /// The recipients that an answer is about. Before RCPT it is about all, whoever they are.
    fn concerned(&self, place: Place) -> Vec<String> {
        match place {
            Place::Greeting | Place::Ehlo => Vec::new(),
            Place::Mail => vec!["*".to_owned()],
            Place::Rcpt => self.to.last().cloned().into_iter().collect(),
            Place::Data | Place::Dot => self.to.clone(),
        }
    }

    fn breaks(&mut self, home: &mut Home, place: Place, act: Act) {
        home.trace.push(format!("{place:?} {act:?}"));
        self.ends(act);
    }

    /// Says a reply, and counts it among the errors where it is one.
    fn says(&mut self, home: &mut Home, reply: &str, now: Duration) {
        let errors = home.habits.errors;
        if reply.starts_with(['4', '5']) {
            self.errors += 1;
            if self.errors >= errors.slow_from {
                self.waits(home, errors.slow, now);
            }
        }
        let ends = reply.starts_with(['4', '5']) && self.errors >= errors.end_at;
        match (ends, errors.manner) {
            (true, Manner::Instead) => self.say(home, errors.says),
            (true, Manner::Behind) => {
                self.say(home, reply);
                self.say(home, errors.says);
            }
            (false, _) => self.say(home, reply),
        }
        if ends {
            self.ends(Act::Close);
        }
    }

    fn say(&mut self, home: &mut Home, reply: &str) {
        home.trace.push(reply.to_owned());
        self.acts.push(Act::Say(format!("{reply}\r\n")));
    }

    fn waits(&mut self, home: &mut Home, time: Duration, now: Duration) {
        home.waits.push((now + self.waited, time));
        self.waited += time;
        self.acts.push(Act::Wait(time));
    }

    fn ends(&mut self, act: Act) {
        if self.state == State::Open {
            self.state = State::Over;
            self.acts.push(act);
        }
    }

    fn last_was_positive(&self) -> bool {
        self.acts.last().is_some_and(is_positive)
    }
}

fn is_positive(act: &Act) -> bool {
    matches!(act, Act::Say(reply) if reply.starts_with('2'))
}

/// What stands in the angle brackets.
fn path(line: &str) -> String {
    let inside = line
        .split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'));
    inside.map(|(path, _)| path.to_owned()).unwrap_or_default()
}

//! Sessions as dialogues: each file in `dialogue/` is one, read top to bottom.
//!
//! ```text
//! proof certificate            certificate, port, static-ip (listed) or configured
//! message a@b.example -> c@d.example, e@d.example     one line for each message; `8bit`, `utf8`, `dsn` in front as needed
//! hand-over xforward           what the session is told of clients
//! tls-on-connect               the connection begins with the handshake
//! lmtp                         the host speaks LMTP
//! login tim tanstaaftanstaaf   a user and a password for it
//! ahead                        the next message waits already when the dot of one goes out
//! S: 220 home                  the server's lines; lines without others in between arrive at once
//! C: EHLO out1.example.net     what the session must have written
//! T: ok                        the handshake: ok, ok-unchecked, or the refusal's word
//! S~ 8                         what the server says next took it so many seconds
//! S! closed                    the connection is lost: closed or silent
//! = …                          what it comes to; one for the opening that fails, or for each message begun
//!                              (`together`: for its commands had travelled together)
//!                              (`without`: it went on without being told from whom the message came)
//! = because …                  and people are told so
//! = worn                       and the session should take no message more
//! ```

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dd_agent::session::{
    After, AskTls, Established, Lost, Next, Opening, OpeningWant, Transaction, TransactionWant,
};
use dd_proto::envelope::Envelope;
use dd_proto::report::{SaidBy, Told};
use dd_proto::site::{HandOver, Speaks, Way};
use dd_proto::smtp::auth::Login;

use super::support::{HELO, NOW, envelope, handshake, seen, terms};

const CONTENT: &[u8] = b"Subject: test\r\n\r\n.a dot\r\n";

struct Script {
    name: String,
    lines: VecDeque<String>,
    output: VecDeque<String>,
}

impl Script {
    fn wrote(&mut self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes).into_owned();
        self.output
            .extend(text.split_terminator("\r\n").map(str::to_owned));
    }

    /// Checks `C:` lines up to the next input or end.
    fn check_output(&mut self) {
        while let Some(expected) = self.lines.front().and_then(|line| line.strip_prefix("C:")) {
            let written = self.output.pop_front();
            assert_eq!(
                written.as_deref(),
                Some(expected.trim_start()),
                "{}",
                self.name
            );
            self.lines.pop_front();
        }
        assert!(
            self.output.is_empty(),
            "{}: also wrote {:?}",
            self.name,
            self.output
        );
    }

    /// All server lines that arrive together.
    fn server_bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(line) = self.lines.front().and_then(|line| line.strip_prefix("S:")) {
            bytes.extend_from_slice(line.trim_start().as_bytes());
            bytes.extend_from_slice(b"\r\n");
            self.lines.pop_front();
        }
        bytes
    }

    fn seconds(&mut self) -> Option<Duration> {
        let seconds = self.lines.front()?.strip_prefix("S~")?;
        let seconds = Duration::from_secs(seconds.trim().parse().unwrap());
        self.lines.pop_front();
        Some(seconds)
    }

    fn lost(&mut self) -> Option<Lost> {
        let lost = match self.lines.front()?.strip_prefix("S!")?.trim() {
            "closed" => Lost::Closed,
            "silent" => Lost::TimedOut,
            other => panic!("{}: {other}", self.name),
        };
        self.lines.pop_front();
        Some(lost)
    }

    fn ends_with(&mut self, came_to: &str) {
        self.check_output();
        let line = self.lines.pop_front().unwrap_or_default();
        assert_eq!(line, format!("= {came_to}"), "{}", self.name);
    }

    fn open(&mut self, mut opening: Opening) -> Option<Established> {
        while opening.want() != OpeningWant::Nothing {
            let out = opening.take_output();
            self.wrote(&out);
            self.check_output();
            if let Some(lost) = self.lost() {
                opening.lost(lost, NOW());
            } else if let Some(word) = self.lines.front().and_then(|l| l.strip_prefix("T:")) {
                assert_eq!(opening.want(), OpeningWant::Handshake, "{}", self.name);
                let seen = handshake(word.trim());
                self.lines.pop_front();
                opening.secured(seen, NOW());
            } else {
                let bytes = self.server_bytes();
                assert!(
                    !bytes.is_empty(),
                    "{}: stuck at {:?}",
                    self.name,
                    self.lines.front()
                );
                opening.received(&bytes, NOW());
            }
        }
        let out = opening.take_output();
        self.wrote(&out);
        match opening.finish() {
            Ok(established) => Some(established),
            Err(unproved) => {
                let failure = unproved.failure;
                let reason = failure.refusal.map_or("-", |refusal| refusal.reason());
                self.ends_with(&format!("{:?} {reason}", failure.verdict));
                None
            }
        }
    }

    fn transact(&mut self, mut transaction: Transaction<'_>, next: Option<Next<'_>>) -> After {
        loop {
            match transaction.want() {
                TransactionWant::Content => {
                    transaction.content(CONTENT);
                    transaction.content_ended();
                    if self
                        .lines
                        .front()
                        .is_some_and(|line| line.starts_with("S<"))
                    {
                        let early = self.lines.pop_front().unwrap();
                        transaction.received(format!("{}\r\n", early[2..].trim()).as_bytes());
                    }
                }
                TransactionWant::Dot => transaction.send_dot(next),
                TransactionWant::Bytes(_) => {
                    let out = transaction.take_output();
                    self.wrote(&out);
                    self.check_output();
                    if let Some(lost) = self.lost() {
                        transaction.lost(lost);
                        continue;
                    }
                    transaction.took(self.seconds().unwrap_or_default());
                    let bytes = self.server_bytes();
                    assert!(
                        !bytes.is_empty(),
                        "{}: stuck at {:?}",
                        self.name,
                        self.lines.front()
                    );
                    transaction.received(&bytes);
                }
                TransactionWant::Nothing => break,
            }
        }
        let ended = transaction.finish();
        let mut text = format!("{:?}", ended.outcome);
        for result in &ended.recipients {
            let asked = match result.by {
                SaidBy::TheSite => "",
                SaidBy::TheAgent => "-unasked",
            };
            text += &format!(" {}:{:?}{asked}", result.number.0, result.disposition);
            if result.told == Told::PassedOn {
                text += "/told";
            }
        }
        if ended.dot_sent {
            text += " dot";
        }
        text += &format!(" {:?}", ended.after);
        if ended.lost_together {
            text += " together";
        }
        if ended.hand_over_refused {
            text += " without";
        }
        self.ends_with(&text);
        let why = self.lines.front();
        if why.is_some_and(|line| line.starts_with("= because ")) {
            self.ends_with(&format!("because {}", ended.detail));
        }
        ended.after
    }
}

fn run(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap();
    let mut proof = "";
    let mut hand_over = HandOver::None;
    let mut messages: Vec<Arc<Envelope>> = Vec::new();
    let mut ahead = false;
    let mut asks = AskTls::WhereOffered;
    let mut speaks = Speaks::Smtp;
    let mut way = Way::default();
    let mut lines = VecDeque::new();
    for line in text.lines().map(str::trim_end) {
        match line.split_once(' ') {
            _ if line.is_empty() || line.starts_with('#') => {}
            Some(("proof", kind)) => proof = kind,
            Some(("hand-over", how)) => hand_over = how.parse().unwrap(),
            Some(("message", message)) => messages.push(Arc::new(envelope(message))),
            None if line == "ahead" => ahead = true,
            None if line == "tls-on-connect" => asks = AskTls::OnConnect,
            None if line == "lmtp" => speaks = Speaks::Lmtp,
            Some(("login", login)) => {
                let (user, password) = login.split_once(' ').unwrap();
                way.login = Some(Login::new(user.to_owned(), password.to_owned()).unwrap());
            }
            _ => lines.push_back(line.to_owned()),
        }
    }
    let mut script = Script {
        name: path.file_name().unwrap().to_string_lossy().into_owned(),
        lines,
        output: VecDeque::new(),
    };
    let opening = Opening::new(Arc::new(terms(proof)), HELO.to_owned(), asks, seen());
    if let Some(mut established) = script.open(opening.speaking(speaks).logging_in(&way)) {
        established.hands_over(hand_over);
        for (index, message) in messages.iter().enumerate() {
            if !established.is_for_client_of(message) {
                script.ends_with("another client");
                break;
            }
            let next = messages.get(index + 1).filter(|_| ahead);
            let next = next.map(|envelope| Next {
                envelope,
                content_bytes: CONTENT.len() as u64,
            });
            let transaction = established.begin(message, CONTENT.len() as u64);
            let after = script.transact(transaction, next);
            if established.is_worn() {
                script.ends_with("worn");
            }
            // What was sent ahead on a session that ends is not begun.
            if after != After::Usable && established.is_ahead() {
                break;
            }
        }
    }
    script.check_output();
    assert!(
        script.lines.is_empty(),
        "{}: not reached: {:?}",
        script.name,
        script.lines
    );
}

#[test]
fn every_dialogue_goes_as_written() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogue");
    let mut count = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        run(&entry.unwrap().path());
        count += 1;
    }
    assert!(count >= 20, "{count}");
}

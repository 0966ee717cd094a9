//! Messages one after the other on a session where dots and envelopes travel together, against a server that may say
//! anything and break anywhere: what is told of each message is true.

use std::collections::VecDeque;
use std::sync::Arc;

use dd_agent::session::{
    After, AskTls, Established, Lost, Next, Opening, Transaction, TransactionWant,
};
use dd_proto::envelope::Envelope;
use dd_proto::report::{Disposition, Outcome};
use proptest::prelude::*;

use super::support::{HELO, NOW, envelope, seen, terms};

const MESSAGES: usize = 4;

/// What the server does about one command, or about one dot.
#[derive(Debug, Clone, Copy)]
enum Act {
    Good,
    Says(u16),
    /// Hangs up instead of answering; a message whose dot came is kept.
    Breaks,
    /// Says something that is no reply.
    Babbles,
}

/// A server that does one thing after the other, as its script says; then everything right.
#[derive(Debug)]
struct Server {
    script: VecDeque<Act>,
    input: Vec<u8>,
    output: Vec<u8>,
    in_content: bool,
    mail: String,
    recipients: Vec<String>,
    /// What it was told to take: MAIL, RCPTs, content.
    got: Vec<(String, Vec<String>, Vec<u8>)>,
    /// Whose dot it answered with something else than 2yz.
    refused: Vec<String>,
    /// RCPTs that it refused, and where the answer ends in all that it ever said.
    refused_recipients: Vec<(String, usize)>,
    said: usize,
    /// How much of that the agent has read.
    heard: usize,
    broken: bool,
}

impl Server {
    fn new(script: &[Act]) -> Self {
        Self {
            script: script.iter().copied().collect(),
            input: Vec::new(),
            output: Vec::new(),
            in_content: false,
            mail: String::new(),
            recipients: Vec::new(),
            got: Vec::new(),
            refused: Vec::new(),
            refused_recipients: Vec::new(),
            said: 0,
            heard: 0,
            broken: false,
        }
    }

    /// Works on what came, in the order in which it came.
    fn work(&mut self) {
        while !self.broken {
            let end: &[u8] = match self.in_content {
                true => b"\r\n.\r\n",
                false => b"\r\n",
            };
            let lone_dot = self.in_content && self.input.starts_with(b".\r\n");
            let found = self.input.windows(end.len()).position(|w| w == end);
            let (taken, length) = match (lone_dot, found) {
                (true, _) => (0, 3),
                (false, Some(at)) => (at, at + end.len()),
                (false, None) => return,
            };
            let rest = self.input.split_off(length);
            let mut piece = std::mem::replace(&mut self.input, rest);
            piece.truncate(taken);
            match self.in_content {
                true => self.dot(piece),
                false => self.command(&String::from_utf8(piece).unwrap()),
            }
        }
    }

    fn command(&mut self, line: &str) {
        let (verb, argument) = line.split_once(':').unwrap_or((line, ""));
        let usual = match verb {
            "DATA" if self.recipients.is_empty() => 554,
            "DATA" => 354,
            "MAIL FROM" | "RCPT TO" | "RSET" => 250,
            other => panic!("`{other}` is no command"),
        };
        let code = self.answer(usual);
        match (verb, code) {
            ("MAIL FROM", Some(250)) => self.mail = argument.to_owned(),
            ("RCPT TO", Some(250)) => self.recipients.push(argument.to_owned()),
            // One too many: he is asked for again.
            ("RCPT TO", Some(552)) if !self.recipients.is_empty() => {}
            ("RCPT TO", Some(450 | 550 | 552 | 554)) => {
                let refused = (argument.to_owned(), self.said);
                self.refused_recipients.push(refused);
            }
            ("DATA", Some(354)) => self.in_content = true,
            ("RSET", _) => self.recipients.clear(),
            _ => {}
        }
    }

    fn dot(&mut self, content: Vec<u8>) {
        self.in_content = false;
        let recipients = std::mem::take(&mut self.recipients);
        let mail = std::mem::take(&mut self.mail);
        match self.answer(250) {
            // A lone dot: there is nobody to have it.
            _ if recipients.is_empty() => {}
            Some(200..=299) | None => self.got.push((mail, recipients, content)),
            Some(_) => self.refused.push(mail),
        }
    }

    /// The code that it answers; None for what is no answer.
    fn answer(&mut self, usual: u16) -> Option<u16> {
        let code = match self.script.pop_front() {
            None | Some(Act::Good) => usual,
            Some(Act::Says(code)) => code,
            Some(Act::Breaks) => {
                self.broken = true;
                return None;
            }
            Some(Act::Babbles) => {
                self.says("what?");
                return None;
            }
        };
        self.says(&format!("{code} x"));
        Some(code)
    }

    fn says(&mut self, line: &str) {
        self.output.extend_from_slice(line.as_bytes());
        self.output.extend_from_slice(b"\r\n");
        self.said += line.len() + 2;
    }
}

/// What the session says of each message that was begun.
type Told = Vec<(Outcome, Vec<(u16, Disposition)>)>;

/// Runs messages as the lane does. `chunk` bytes of the server's output arrive at once.
fn run(server: &mut Server, messages: &[Arc<Envelope>], chunk: usize) -> Told {
    let mut session = established();
    let mut told = Vec::new();
    for (index, message) in messages.iter().enumerate() {
        let content = content(index);
        let next = messages.get(index + 1).map(|envelope| Next {
            envelope,
            content_bytes: content.len() as u64,
        });
        let transaction = session.begin(message, content.len() as u64);
        let ended = drive(server, transaction, next, &content, chunk);
        assert!(ended.dot_sent || ended.outcome != Outcome::InDoubt);
        let dispositions = ended.recipients.iter();
        let dispositions = dispositions.map(|r| (r.number.0, r.disposition)).collect();
        told.push((ended.outcome, dispositions));
        if ended.after != After::Usable {
            break;
        }
    }
    told
}

fn drive(
    server: &mut Server,
    mut transaction: Transaction<'_>,
    next: Option<Next<'_>>,
    content: &[u8],
    chunk: usize,
) -> dd_agent::session::Ended {
    loop {
        match transaction.want() {
            TransactionWant::Content => {
                transaction.content(content);
                transaction.content_ended();
            }
            TransactionWant::Dot => transaction.send_dot(next),
            TransactionWant::Bytes(_) => {
                server.input.extend_from_slice(&transaction.take_output());
                server.work();
                if server.output.is_empty() {
                    transaction.lost(Lost::Closed);
                    continue;
                }
                let rest = server.output.split_off(chunk.min(server.output.len()));
                let bytes = std::mem::replace(&mut server.output, rest);
                server.heard += bytes.len();
                transaction.received(&bytes);
            }
            TransactionWant::Nothing => return transaction.finish(),
        }
    }
}

fn content(index: usize) -> Vec<u8> {
    format!("Subject: {index}\r\n\r\nMAIL FROM:<forged@x.example>\r\nlast").into_bytes()
}

fn messages() -> Vec<Arc<Envelope>> {
    let one = |index| format!("{index}@b.example -> {index}c@h.example, {index}d@h.example");
    let envelopes = (0..MESSAGES).map(|index| envelope(&one(index)));
    envelopes.map(Arc::new).collect()
}

fn established() -> Established {
    let terms = Arc::new(terms("port"));
    let mut opening = Opening::new(terms, HELO.to_owned(), AskTls::WhereOffered, seen());
    opening.received(b"220 home\r\n", NOW());
    opening.received(b"250-home\r\n250 PIPELINING\r\n", NOW());
    opening.finish().unwrap()
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    const CODES: &[u16] = &[250, 354, 421, 450, 550, 552, 554];
    let act = prop_oneof![
        20 => Just(Act::Good),
        4 => prop::sample::select(CODES).prop_map(Act::Says),
        1 => Just(Act::Breaks),
        1 => Just(Act::Babbles),
    ];
    prop::collection::vec(act, 0..20)
}

/// Where a server says of itself what is not so, its words count: 354 to MAIL, say, is its own lie.
fn check(acts: &[Act], chunk: usize) -> Result<(), TestCaseError> {
    let mut server = Server::new(acts);
    let told = run(&mut server, &messages(), chunk);
    for index in 0..MESSAGES {
        let mail = format!("<{index}@b.example>");
        let got: Vec<_> = server.got.iter().filter(|got| got.0 == mail).collect();
        prop_assert!(got.len() <= 1, "{mail} twice: {got:?}");
        for (_, recipients, it) in &got {
            prop_assert_eq!(it, &content(index), "the content of another message");
            let own = |path: &String| path.starts_with(&format!("<{index}"));
            prop_assert!(recipients.iter().all(own), "{recipients:?}");
        }
        let Some((outcome, dispositions)) = told.get(index) else {
            prop_assert!(got.is_empty(), "{mail} was not begun, and arrived");
            continue;
        };
        let dispositions: Vec<Disposition> = dispositions.iter().map(|it| it.1).collect();
        let relayed = dispositions.contains(&Disposition::Relayed);
        if relayed {
            prop_assert_eq!(got.len(), 1, "{} is told as relayed", &mail);
            let count = dispositions.iter().filter(|d| **d == Disposition::Relayed);
            prop_assert_eq!(count.count(), got[0].1.len());
        }
        let in_doubt = *outcome == Outcome::InDoubt;
        prop_assert!(
            got.is_empty() || relayed || in_doubt,
            "{mail} arrived: {outcome:?}"
        );
        prop_assert!(
            !in_doubt || !server.refused.contains(&mail) || acts_lie(acts),
            "{mail}"
        );
    }
    Ok(())
}

/// Read byte by byte, so that whatever was read was understood too.
fn check_answers(acts: &[Act]) -> Result<(), TestCaseError> {
    let mut server = Server::new(acts);
    let told = run(&mut server, &messages(), 1);
    let heard = |it: &&(String, usize)| it.1 <= server.heard;
    for (path, _) in server.refused_recipients.iter().filter(heard) {
        // `<1c@h.example>`: the first recipient of the second message.
        let index = usize::from(path.as_bytes()[1] - b'0');
        let number = u16::from(path.as_bytes()[2] - b'c');
        let Some((outcome, results)) = told.get(index) else {
            continue;
        };
        let named = results.iter().any(|it| it.0 == number);
        prop_assert!(named, "{} is not in {:?} {:?}", path, outcome, results);
    }
    Ok(())
}

/// A dot answered with 354 is answered with what is no answer to it.
fn acts_lie(acts: &[Act]) -> bool {
    acts.iter().any(|act| matches!(act, Act::Says(354)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn what_is_told_of_each_message_is_what_became_of_it(acts in acts(), chunk in 1_usize..200) {
        check(&acts, chunk)?;
    }

    #[test]
    fn what_a_recipient_was_answered_is_told_whatever_ends_the_session(acts in acts()) {
        check_answers(&acts)?;
    }
}

#[test]
fn a_server_that_does_everything_right_gets_everything_in_as_many_round_trips() {
    let mut server = Server::new(&[]);
    let told = run(&mut server, &messages(), usize::MAX);
    assert!(
        told.iter()
            .all(|(outcome, _)| *outcome == Outcome::Transacted)
    );
    assert_eq!(server.got.len(), MESSAGES);
}

#[test]
fn of_two_messages_under_way_only_that_whose_dot_is_unanswered_is_in_doubt() {
    // MAIL, RCPT, RCPT and DATA of the first are answered, its dot is not.
    let acts = [Act::Good, Act::Good, Act::Good, Act::Good, Act::Breaks];
    let mut server = Server::new(&acts);
    let told = run(&mut server, &messages(), usize::MAX);
    assert_eq!(told, [(Outcome::InDoubt, Vec::new())]);
    // What was sent ahead had reached the server.
    assert!(server.input.starts_with(b"MAIL FROM:<1@b.example>"));
}

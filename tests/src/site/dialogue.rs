//! One connection of a scripted site: a plain, strict SMTP server.
//!
//! RFC 2920 §3.2: commands are taken one after the other however they come, and the answers to a group leave together,
//! when there is nothing left to answer.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::script::{Act, At, Script, Verdict};
use super::{Handshake, Received, Shared};

/// Serves one connection to its end.
pub(super) fn serve(
    socket: TcpStream,
    script: &Script,
    shared: &Shared,
    number: usize,
) -> io::Result<()> {
    let mut dialogue = Dialogue {
        wire: Wire::Clear(socket),
        buffer: Vec::new(),
        unsent: Vec::new(),
        script,
        shared,
        number,
        transaction: Transaction::default(),
        is_known: false,
    };
    if let (true, Some(config)) = (script.on_connect, script.tls.clone()) {
        dialogue.handshake(config)?;
    }
    dialogue.answer(At::Greeting, "220 home.example ESMTP")?;
    while let Some(line) = dialogue.line()? {
        if dialogue.command(&line)? == Next::Close {
            break;
        }
    }
    dialogue.flush()
}

struct Dialogue<'a> {
    wire: Wire,
    /// Read and not yet understood.
    buffer: Vec<u8>,
    /// Answered and not yet written.
    unsent: Vec<u8>,
    script: &'a Script,
    shared: &'a Shared,
    number: usize,
    transaction: Transaction,
    /// AUTH has told who it is.
    is_known: bool,
}

fn decoded(text: &str) -> String {
    let bytes = STANDARD.decode(text).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

enum Wire {
    Clear(TcpStream),
    Secured(Box<StreamOwned<ServerConnection, TcpStream>>),
    Closed,
}

#[derive(Default)]
struct Transaction {
    mail: String,
    recipients: Vec<String>,
}

#[derive(PartialEq, Eq)]
enum Next {
    GoOn,
    Close,
}

impl Dialogue<'_> {
    fn command(&mut self, line: &str) -> io::Result<Next> {
        let verb = line.split([' ', ':']).next().unwrap_or_default();
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" | "HELO" if self.script.lmtp.is_some() => {
                self.write("500 5.5.1 this is LMTP")?;
            }
            "LHLO" if self.script.lmtp.is_none() => self.write("500 5.5.1 this is SMTP")?,
            "EHLO" | "HELO" | "LHLO" => {
                let reply = self.hello();
                self.answer(At::Ehlo, &reply)?;
            }
            "STARTTLS" => self.secure()?,
            "AUTH" => self.authenticate(line)?,
            "MAIL" if self.script.login.is_some() && !self.is_known => {
                self.write("530 5.7.0 authentication required")?;
            }
            "MAIL" => {
                if self.answer(At::Mail, "250 2.1.0 ok")? == Taken::Yes {
                    self.transaction.mail = argument(line);
                }
            }
            "RCPT" => self.recipient(argument(line))?,
            "DATA" => self.data()?,
            "RSET" => {
                self.transaction = Transaction::default();
                self.write("250 2.0.0 ok")?;
            }
            "NOOP" => self.write("250 2.0.0 ok")?,
            "QUIT" => {
                self.write("221 2.0.0 bye")?;
                return Ok(Next::Close);
            }
            _ => self.write("500 5.5.2 unknown")?,
        }
        Ok(Next::GoOn)
    }

    /// RFC 4954, PLAIN with an initial response, and LOGIN.
    fn authenticate(&mut self, line: &str) -> io::Result<()> {
        let Some(login) = self.script.login.clone() else {
            return self.write("503 5.5.1 no AUTH here");
        };
        let mut words = line.split(' ').skip(1);
        let mechanism = words.next().unwrap_or_default();
        if !login.mechanisms.split(' ').any(|it| it == mechanism) {
            return self.write("504 5.5.4 no such mechanism");
        }
        let said = match mechanism {
            "PLAIN" => words.next().map(decoded).unwrap_or_default(),
            _ => format!(
                "\0{}\0{}",
                self.asked("User Name")?,
                self.asked("Password")?
            ),
        };
        self.is_known = said == format!("\0{}\0{}", login.user, login.password);
        self.write(match self.is_known {
            true => "235 2.7.0 welcome",
            false => "535 5.7.8 not with these",
        })
    }

    fn asked(&mut self, what: &str) -> io::Result<String> {
        self.write(&format!("334 {}", STANDARD.encode(what)))?;
        let line = self.line()?;
        Ok(decoded(&line.unwrap_or_default()))
    }

    fn recipient(&mut self, path: String) -> io::Result<()> {
        let host = self.script.host.as_ref();
        if let Some(other) = host.and_then(|host| host.rcpt(&path)) {
            return self.write(&other);
        }
        if self.answer(At::Rcpt, "250 2.1.5 ok")? == Taken::Yes {
            self.transaction.recipients.push(path);
        }
        Ok(())
    }

    fn hello(&self) -> String {
        let offered = match (&self.wire, &self.script.tls) {
            (Wire::Clear(_), Some(_)) => "250-STARTTLS\r\n",
            _ => "",
        };
        let auth = match (&self.script.login, offered) {
            (Some(login), "") => format!("250-AUTH {}\r\n", login.mechanisms),
            _ => String::new(),
        };
        format!(
            "250-home.example\r\n{offered}{auth}250-PIPELINING\r\n250-SIZE 104857600\r\n250-8BITMIME\r\n\
             250-SMTPUTF8\r\n250 ENHANCEDSTATUSCODES"
        )
    }

    fn secure(&mut self) -> io::Result<()> {
        let Some(config) = self.script.tls.clone() else {
            return self.write("502 5.5.1 no STARTTLS here");
        };
        if self.answer(At::StartTls, "220 2.0.0 go")? == Taken::No {
            return Ok(());
        }
        self.flush()?;
        self.planned(At::Handshake)?;
        self.handshake(config)
    }

    fn handshake(&mut self, config: Arc<ServerConfig>) -> io::Result<()> {
        let Wire::Clear(mut socket) = std::mem::replace(&mut self.wire, Wire::Closed) else {
            return Err(io::Error::other("STARTTLS inside TLS"));
        };
        let mut tls = ServerConnection::new(config).map_err(io::Error::other)?;
        let done = tls.complete_io(&mut socket);
        self.shared.with(self.number, |seen| {
            seen.handshake = match &done {
                Ok(_) => Handshake::Done,
                Err(error) => Handshake::Failed(error.to_string()),
            };
            let shown = tls.peer_certificates().and_then(<[_]>::first);
            seen.shown = shown.map(|certificate| certificate.to_vec());
        });
        done?;
        self.wire = Wire::Secured(Box::new(StreamOwned::new(tls, socket)));
        Ok(())
    }

    fn data(&mut self) -> io::Result<()> {
        if self.transaction.recipients.is_empty() {
            return self.write("554 5.5.1 no valid recipients");
        }
        if self.answer(At::Data, "354 go on")? == Taken::No {
            return Ok(());
        }
        let content = self.content()?;
        let transaction = std::mem::take(&mut self.transaction);
        if self.planned(At::Dot)? == Taken::No {
            return Ok(());
        }
        // Recorded before it is answered: whoever has seen the 250 finds the message here.
        let received = Received {
            number: self.number,
            mail: transaction.mail,
            recipients: transaction.recipients,
            content,
        };
        match &self.script.host {
            None if self.script.lmtp.is_some() => return self.answers_for_each(&received),
            None => self.shared.accepted(received),
            Some(host) if host.message(received) == Verdict::TakesAndBreaks => {
                return self.cut();
            }
            Some(_) => {}
        }
        self.write("250 2.0.0 taken")
    }

    /// RFC 2033 §4.2. What was answered with 250 is recorded, each for itself.
    fn answers_for_each(&mut self, received: &Received) -> io::Result<()> {
        let answers = self.script.lmtp.clone().unwrap_or_default();
        let mut answers = answers.into_iter();
        for recipient in received.recipients.clone() {
            let Some(answer) = answers.next() else {
                return self.cut();
            };
            if answer.starts_with("250") {
                let recipients = vec![recipient];
                self.shared.accepted(Received {
                    recipients,
                    ..received.clone()
                });
            }
            self.write(&answer)?;
        }
        Ok(())
    }

    /// What was answered before is heard.
    fn cut(&mut self) -> io::Result<()> {
        self.flush()?;
        self.socket()?.shutdown(Shutdown::Both)?;
        Err(io::ErrorKind::ConnectionAborted.into())
    }

    /// Reads up to the final dot.
    fn content(&mut self) -> io::Result<Vec<u8>> {
        const END: &[u8] = b"\r\n.\r\n";
        let mut looked = 0;
        loop {
            if !self.buffer.is_empty() {
                self.planned(At::Body)?;
            }
            if self.buffer.starts_with(b".\r\n") {
                self.buffer.drain(..3);
                return Ok(Vec::new());
            }
            if let Some(end) = find(&self.buffer[looked..], END) {
                let end = looked + end;
                let rest = self.buffer.split_off(end + END.len());
                let mut stuffed = std::mem::replace(&mut self.buffer, rest);
                stuffed.truncate(end + 2);
                return Ok(unstuffed(stuffed));
            }
            looked = self.buffer.len().saturating_sub(END.len() - 1);
            if self.fill()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Answers `usual`, unless the script has something else for this point.
    fn answer(&mut self, at: At, usual: &str) -> io::Result<Taken> {
        let taken = self.planned(at)?;
        if taken == Taken::Yes {
            self.write(usual)?;
        }
        Ok(taken)
    }

    /// Does what the script has for this point. `No`: it has answered, and not the usual.
    fn planned(&mut self, at: At) -> io::Result<Taken> {
        match self.script.acts.get(&at) {
            None => Ok(Taken::Yes),
            Some(Act::Reply(line)) => self.write(line).map(|()| Taken::No),
            Some(Act::Break) => self.cut().map(|()| Taken::No),
            Some(Act::Hang) => self.hang(),
            Some(Act::Wait(gate)) => {
                self.flush()?;
                gate.wait();
                Ok(Taken::Yes)
            }
        }
    }

    /// Reads what still comes, so that the peer's end is noticed, and answers nothing.
    fn hang(&mut self) -> io::Result<Taken> {
        while self.fill()? > 0 {}
        Err(io::ErrorKind::ConnectionAborted.into())
    }

    fn line(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                self.buffer.drain(..end + 2);
                return Ok(Some(line));
            }
            if self.fill()? == 0 {
                return Ok(None);
            }
        }
    }

    /// Reads once, into the record and the buffer. 0 is the end.
    fn fill(&mut self) -> io::Result<usize> {
        self.flush()?;
        let mut chunk = [0; 16 * 1024];
        let (count, secured) = match &mut self.wire {
            Wire::Clear(socket) => (socket.read(&mut chunk)?, false),
            Wire::Secured(stream) => (stream.read(&mut chunk)?, true),
            Wire::Closed => (0, false),
        };
        let read = &chunk[..count];
        if self.script.host.is_none() {
            self.shared.with(self.number, |seen| {
                let bytes = if secured {
                    &mut seen.secured
                } else {
                    &mut seen.clear
                };
                bytes.extend_from_slice(read);
            });
        }
        self.buffer.extend_from_slice(read);
        Ok(count)
    }

    fn write(&mut self, reply: &str) -> io::Result<()> {
        self.unsent.extend_from_slice(reply.as_bytes());
        self.unsent.extend_from_slice(b"\r\n");
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let unsent = std::mem::take(&mut self.unsent);
        if unsent.is_empty() {
            return Ok(());
        }
        match &mut self.wire {
            Wire::Clear(socket) => socket.write_all(&unsent),
            Wire::Secured(stream) => {
                stream.write_all(&unsent)?;
                stream.flush()
            }
            Wire::Closed => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn socket(&self) -> io::Result<&TcpStream> {
        match &self.wire {
            Wire::Clear(socket) => Ok(socket),
            Wire::Secured(stream) => Ok(&stream.sock),
            Wire::Closed => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

/// Whether the usual thing is done.
#[derive(PartialEq, Eq)]
enum Taken {
    Yes,
    No,
}

/// What stands behind the colon of MAIL FROM: or RCPT TO:.
fn argument(line: &str) -> String {
    line.split_once(':')
        .map_or("", |(_, argument)| argument)
        .trim()
        .to_owned()
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

// RFC 5321 §4.5.2: a first dot of a line was added by the client.
fn unstuffed(stuffed: Vec<u8>) -> Vec<u8> {
    if !stuffed.starts_with(b".") && find(&stuffed, b"\r\n.").is_none() {
        return stuffed;
    }
    let mut content = Vec::with_capacity(stuffed.len());
    for line in stuffed.split_inclusive(|byte| *byte == b'\n') {
        content.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
    }
    content
}

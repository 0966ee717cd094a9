//! A client that hands mail in: SMTP and LMTP, well-behaved or not.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};

use crate::wait::PATIENCE;

/// An open session with an SMTP or LMTP listener.
#[derive(Debug)]
pub struct Client {
    socket: TcpStream,
    replies: BufReader<TcpStream>,
}

/// Which greeting a client gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Smtp,
    Lmtp,
}

/// A reply, lines joined by line feeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub code: u16,
    pub text: String,
}

/// What came of one transaction with a server that may end in the middle of it.
#[derive(Debug)]
pub struct Transaction {
    /// The answers to the final dot, each with the place of its recipient: with SMTP the same for all that were taken.
    pub answers: Vec<(usize, Reply)>,
    /// Whether the session goes on.
    pub open: bool,
}

impl Client {
    /// Connects and greets; `None` where nobody answers as a server should.
    pub fn try_connect(server: SocketAddr, protocol: Protocol) -> Option<Self> {
        let mut client = Self::open(server).ok()?;
        (client.answer()?.code == 220).then_some(())?;
        let hello = format!("{} feeder.example\r\n", protocol.hello());
        let reply = client.exchange(hello.as_bytes())?;
        (reply.code == 250).then_some(client)
    }

    /// Hands a message to several recipients. `from` is the argument of MAIL with its parameters.
    pub fn try_transaction(
        &mut self,
        protocol: Protocol,
        from: &str,
        to: &[&str],
        content: &[u8],
    ) -> Transaction {
        let mut answers = Vec::new();
        let open = self.transact(protocol, from, to, content, &mut answers);
        Transaction {
            answers,
            open: open.is_some(),
        }
    }

    fn transact(
        &mut self,
        protocol: Protocol,
        from: &str,
        to: &[&str],
        content: &[u8],
        answers: &mut Vec<(usize, Reply)>,
    ) -> Option<()> {
        if self
            .exchange(format!("MAIL FROM:{from}\r\n").as_bytes())?
            .code
            != 250
        {
            return self.exchange(b"RSET\r\n").map(drop);
        }
        let mut taken = Vec::new();
        for (place, path) in to.iter().enumerate() {
            let reply = self.exchange(format!("RCPT TO:<{path}>\r\n").as_bytes())?;
            if reply.code == 250 {
                taken.push(place);
            }
        }
        if taken.is_empty() || self.exchange(b"DATA\r\n")?.code != 354 {
            return self.exchange(b"RSET\r\n").map(drop);
        }
        self.socket.write_all(&stuffed(content)).ok()?;
        match protocol {
            Protocol::Smtp => {
                let reply = self.answer()?;
                answers.extend(taken.into_iter().map(|place| (place, reply.clone())));
            }
            // RFC 2033 §4.2: one reply for each recipient that was taken.
            Protocol::Lmtp => {
                for place in taken {
                    answers.push((place, self.answer()?));
                }
            }
        }
        Some(())
    }

    /// Connects and greets.
    ///
    /// # Panics
    /// Nobody answers as a server should.
    pub fn connect(server: SocketAddr, protocol: Protocol) -> Self {
        let mut client = Self::raw(server);
        assert_eq!(client.reply().code, 220);
        client.expect(&format!("{} feeder.example", protocol.hello()), 250);
        client
    }

    /// Connects, and not a byte more.
    ///
    /// # Panics
    /// Nobody listens.
    pub fn raw(server: SocketAddr) -> Self {
        Self::open(server).unwrap_or_else(|error| panic!("{server} cannot be reached: {error}"))
    }

    fn open(server: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(server)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_nodelay(true)?;
        let replies = BufReader::new(socket.try_clone()?);
        Ok(Self { socket, replies })
    }

    /// Hands a message to one recipient; returns the ID in `queued as ID`.
    ///
    /// # Panics
    /// It is refused.
    pub fn send(&mut self, from: &str, to: &str, content: &[u8]) -> String {
        self.expect(&format!("MAIL FROM:<{from}>"), 250);
        self.expect(&format!("RCPT TO:<{to}>"), 250);
        let reply = self.data(content);
        assert_eq!(reply.code, 250, "{}", reply.text);
        reply.id()
    }

    /// The same, where the server may end meanwhile: `None` if it did before it answered the final dot.
    pub fn try_send(&mut self, from: &str, to: &str, content: &[u8]) -> Option<String> {
        for line in [
            format!("MAIL FROM:<{from}>\r\n"),
            format!("RCPT TO:<{to}>\r\n"),
            "DATA\r\n".to_owned(),
        ] {
            self.exchange(line.as_bytes())?;
        }
        let reply = self.exchange(&stuffed(content))?;
        (reply.code == 250).then(|| reply.id())
    }

    /// DATA and the content, with dots stuffed; the reply to the final dot, or the first of them with LMTP.
    ///
    /// # Panics
    /// DATA is refused.
    pub fn data(&mut self, content: &[u8]) -> Reply {
        self.expect("DATA", 354);
        self.write(&stuffed(content));
        self.reply()
    }

    /// Says a line and returns the reply.
    pub fn say(&mut self, line: &str) -> Reply {
        self.write(format!("{line}\r\n").as_bytes());
        self.reply()
    }

    /// Says a line and wants this code.
    ///
    /// # Panics
    /// The code is another.
    pub fn expect(&mut self, line: &str, code: u16) -> Reply {
        let reply = self.say(line);
        assert_eq!(reply.code, code, "`{line}`: {}", reply.text);
        reply
    }

    /// Writes bytes as they are.
    ///
    /// # Panics
    /// The server has hung up.
    pub fn write(&mut self, bytes: &[u8]) {
        self.socket
            .write_all(bytes)
            .expect("the server reads what it is sent");
    }

    /// Reads one reply.
    ///
    /// # Panics
    /// The server hangs up or says what is no reply.
    pub fn reply(&mut self) -> Reply {
        self.answer().expect("the server answers")
    }

    fn exchange(&mut self, bytes: &[u8]) -> Option<Reply> {
        self.socket.write_all(bytes).ok()?;
        self.answer()
    }

    fn answer(&mut self) -> Option<Reply> {
        let mut lines = Vec::new();
        loop {
            let line = self.line()?;
            let (code, rest) = line
                .split_at_checked(3)
                .unwrap_or_else(|| panic!("no reply: `{line}`"));
            lines.push(rest.get(1..).unwrap_or_default().to_owned());
            if !rest.starts_with('-') {
                return Some(Reply {
                    code: code
                        .parse()
                        .unwrap_or_else(|_| panic!("no reply: `{line}`")),
                    text: lines.join("\n"),
                });
            }
        }
    }

    /// One line of a reply; `None` once the server has hung up.
    pub fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.replies.read_line(&mut line) {
            Ok(count) if count > 0 => Some(line.trim_end().to_owned()),
            _ => None,
        }
    }
}

impl Protocol {
    fn hello(self) -> &'static str {
        match self {
            Self::Smtp => "EHLO",
            Self::Lmtp => "LHLO",
        }
    }
}

impl Reply {
    /// The ID in `… queued as ID`.
    ///
    /// # Panics
    /// There is none.
    pub fn id(&self) -> String {
        self.text
            .split_once("queued as ")
            .and_then(|(_, rest)| rest.split_whitespace().next())
            .unwrap_or_else(|| panic!("no `queued as ID` in `{}`", self.text))
            .to_owned()
    }
}

/// `content` with its dots stuffed and the final dot.
fn stuffed(content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(content.len() + 5);
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            bytes.push(b'.');
        }
        bytes.extend_from_slice(line);
    }
    if !bytes.ends_with(b"\r\n") {
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b".\r\n");
    bytes
}

/// A small message whose subject is `subject`.
pub fn message(subject: &str) -> Vec<u8> {
    format!(
        "From: <friend@elsewhere.example>\r\nSubject: {subject}\r\nMessage-ID: <{subject}@elsewhere.example>\r\n\
         \r\nHello.\r\n"
    )
    .into_bytes()
}

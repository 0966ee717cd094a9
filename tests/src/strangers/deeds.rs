//! What a stranger does with one connection, for each trick and door.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::{ClientConfig, ClientConnection};
use rustls_pki_types::ServerName;

use super::{BALANCER, OPEN, Trick, h2, stranger};
use crate::secure::{anonymous, try_connect_from};
use crate::world::{MAIL_NAME, World};

/// How long a stranger waits for a door that does not answer, or does not read.
const PATIENCE: Duration = Duration::from_millis(200);

/// What one thread of strangers does at one door.
pub(super) struct Deeds {
    trick: Trick,
    door: Door,
    address: SocketAddr,
    /// For handshakes behind STARTTLS.
    mail: Arc<ClientConfig>,
    /// For handshakes at the control port.
    control: Arc<ClientConfig>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Smtp,
    Lmtp,
    Web,
    Control,
    Metrics,
}

/// A connection that is kept.
pub(super) enum Held {
    Plain(TcpStream),
    Secured(Box<h2::Secured>),
}

/// For each door that the trick is played at.
pub(super) fn of(trick: Trick, world: &World) -> Vec<Deeds> {
    let listeners = world.listeners();
    let doors = [
        (Door::Smtp, listeners.smtp),
        (Door::Lmtp, listeners.lmtp),
        (Door::Web, listeners.web),
        (Door::Control, listeners.control),
        (Door::Metrics, listeners.metrics),
    ];
    let plays = |door: Door| match trick {
        Trick::Idle | Trick::Slow | Trick::Garbage => true,
        Trick::Handshakes => matches!(door, Door::Smtp | Door::Control),
        Trick::Calls => door == Door::Control,
        Trick::Unread => true,
        Trick::Lines => door != Door::Metrics,
        Trick::Guesses => door == Door::Web,
        Trick::Etrn => matches!(door, Door::Smtp | Door::Lmtp),
    };
    let mail = Arc::new(anonymous(world.provider.root_pem(), &[]));
    let control = Arc::new(h2::config(world));
    let doors = doors.into_iter().filter(|(door, _)| plays(*door));
    let deeds = doors.map(|(door, address)| Deeds {
        trick,
        door,
        address,
        mail: mail.clone(),
        control: control.clone(),
    });
    deeds.collect()
}

impl Deeds {
    /// How many of its connections are kept, where it is fewer than usual.
    pub(super) fn holds(&self) -> usize {
        match (self.trick, self.door) {
            // Each takes megabytes of this program.
            (Trick::Calls | Trick::Unread, Door::Control) => 60,
            _ => OPEN,
        }
    }

    /// The connection, where it is worth to be kept.
    pub(super) fn once(&self, number: u32) -> Option<Held> {
        let stream = self.connect(number).ok()?;
        // Who is turned away or ended cannot be written to: nothing is lost by that.
        self.play(stream, number).ok()
    }

    /// With one of the connections that are kept.
    pub(super) fn now_and_then(&self, held: &mut Held) {
        if self.trick == Trick::Slow
            && let Held::Plain(stream) = held
        {
            let _ = stream.write_all(b"E");
        }
    }

    fn connect(&self, number: u32) -> io::Result<TcpStream> {
        let from = match (self.trick, number % 2) {
            // Through the load balancer, for a loopback interface has no /48.
            (Trick::Guesses, 0) => IpAddr::V4(BALANCER),
            _ => stranger(number),
        };
        let stream = try_connect_from(from, self.address)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    fn play(&self, mut stream: TcpStream, number: u32) -> io::Result<Held> {
        match (self.trick, self.door) {
            (Trick::Idle | Trick::Slow, _) => {}
            (Trick::Garbage, _) => stream.write_all(&[0xff; 4096])?,
            (Trick::Handshakes, Door::Smtp) => {
                self.starts_tls(&mut stream)?;
                return handshake(stream, &self.mail, MAIL_NAME);
            }
            (Trick::Handshakes, _) => return self.secured(stream),
            (Trick::Calls, _) => {
                let mut held = self.secured(stream)?;
                let announced = [16_000, 1_000_000][number as usize % 2];
                let parts = h2::unfinished(announced, announced as usize / 2);
                held.say(parts.into_iter());
                return Ok(held);
            }
            (Trick::Unread, Door::Control) => {
                let mut held = self.secured(stream)?;
                held.say(h2::refused(20_000));
                return Ok(held);
            }
            (Trick::Unread, Door::Web | Door::Metrics) => {
                let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
                stream.write_all(&request.repeat(5_000))?;
            }
            (Trick::Unread, _) => stream.write_all(&b"HELP\r\n".repeat(20_000))?,
            (Trick::Lines, Door::Control) => {
                let mut held = self.secured(stream)?;
                held.say(h2::named(&"x".repeat(4_000)));
                return Ok(held);
            }
            (Trick::Lines, Door::Web) => {
                let request = format!(
                    "GET /etrn HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {}\r\n\r\n",
                    STANDARD.encode(format!("{}:wrong password", "x".repeat(4_000)))
                );
                converse(&mut stream, &request, 1)?;
            }
            (Trick::Lines, _) => {
                let sender = "x".repeat(400);
                let hello = [("EHLO", Door::Smtp), ("LHLO", Door::Lmtp)];
                let hello = hello.iter().find(|(_, door)| *door == self.door);
                let hello = hello.map_or("EHLO", |(verb, _)| verb);
                let text = format!("{hello} {}\r\n", "x".repeat(200))
                    + &format!("MAIL FROM:<{sender}@b.example>\r\n").repeat(15);
                converse(&mut stream, &text, 16)?;
            }
            (Trick::Guesses, _) => {
                if number.is_multiple_of(2) {
                    let client = format!("2001:db8:1:{:x}::1", number / 2 % 0xffff);
                    let header = format!("PROXY TCP6 {client} 2001:db8:2::1 40000 443\r\n");
                    stream.write_all(header.as_bytes())?;
                }
                let site = match number % 4 {
                    0 | 1 => "home-0".to_owned(),
                    _ => format!("site{number}"),
                };
                let login = STANDARD.encode(format!("{site}:wrong password"));
                let request = format!(
                    "GET /etrn HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {login}\r\n\r\n"
                );
                stream.write_all(request.as_bytes())?;
            }
            (Trick::Etrn, _) => stream.write_all(
                b"EHLO x\r\nETRN home-0.example\r\nETRN @example\r\nETRN #home-0\r\nETRN @\r\nQUIT\r\n",
            )?,
        }
        Ok(Held::Plain(stream))
    }

    /// Behind a handshake at the control port, without a certificate.
    fn secured(&self, stream: TcpStream) -> io::Result<Held> {
        handshake(stream, &self.control, h2::NAME)
    }

    fn starts_tls(&self, stream: &mut TcpStream) -> io::Result<()> {
        // The greeting, the answer to EHLO, and that to STARTTLS.
        converse(stream, "EHLO x\r\n", 2)?;
        converse(stream, "STARTTLS\r\n", 1)
    }
}

impl Held {
    fn say(&mut self, parts: impl Iterator<Item = Vec<u8>>) {
        if let Self::Secured(stream) = self {
            h2::say(stream, parts);
        }
    }
}

fn handshake(mut stream: TcpStream, config: &Arc<ClientConfig>, name: &str) -> io::Result<Held> {
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    let mut connection = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    let secured = h2::Secured::new(connection, stream);
    Ok(Held::Secured(Box::new(secured)))
}

/// Says it, and reads until there are as many whole replies.
fn converse(stream: &mut TcpStream, text: &str, replies: usize) -> io::Result<()> {
    stream.write_all(text.as_bytes())?;
    let (mut seen, mut bytes) = (Vec::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut bytes)?;
        seen.extend_from_slice(&bytes[..count]);
        // RFC 5321 §4.2.1: behind the code of the last line there is a blank. Of HTTP the status line looks like that.
        let lines = seen.split_inclusive(|byte| *byte == b'\n');
        let last = lines.filter(|line| line.ends_with(b"\n") && line.get(3) == Some(&b' '));
        let http = seen.starts_with(b"HTTP");
        if count == 0 || http || last.count() >= replies {
            return Ok(());
        }
    }
}

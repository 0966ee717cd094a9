//! The client from whom a feeder had a message, and how one server tells another of it: XFORWARD and XCLIENT, as Postfix
//! documents them (XFORWARD_README, XCLIENT_README).
//!
//! # Invariants
//! A name is printable ASCII of at most [`MAX_VALUE`] characters, and each command is one line of at most 512 bytes
//! (RFC 5321 §4.5.3.1.4), whatever the client called itself.

use std::net::IpAddr;

use crate::smtp::command::CommandError;

/// Characters of a value as it is meant.
const MAX_VALUE: usize = 255;
/// Characters of one that is passed on, written in xtext: two of them and the rest fit into a line.
const MAX_WRITTEN: usize = 200;

const UNAVAILABLE: &str = "[UNAVAILABLE]";
/// The name could not be looked up at the time; it may have one.
const TEMPORARILY: &str = "[TEMPUNAVAIL]";

/// What is known of a client; None: nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Client {
    /// As DNS has it, confirmed by whoever looked; `[TEMPUNAVAIL]` where that could not be done at the time.
    pub name: Option<String>,
    pub address: Option<IpAddr>,
    pub port: Option<u16>,
    pub helo: Option<String>,
    pub protocol: Option<Spoken>,
}

/// Whether the client said EHLO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoken {
    Smtp,
    Esmtp,
}

impl Spoken {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Smtp => "SMTP",
            Self::Esmtp => "ESMTP",
        }
    }

    /// From what stands behind PROTO, or behind `with` in a `Received` field (RFC 3848, RFC 6531 §4.3).
    pub fn of(word: &str) -> Option<Self> {
        let word = word.to_ascii_uppercase();
        match word.as_str() {
            "SMTP" => Some(Self::Smtp),
            _ if word.starts_with("ESMTP") || word.starts_with("UTF8SMTP") => Some(Self::Esmtp),
            _ => None,
        }
    }
}

/// One attribute of a command; None: the sender of the command does not know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribute {
    Name(Option<String>),
    Address(Option<IpAddr>),
    Port(Option<u16>),
    Helo(Option<String>),
    Protocol(Option<Spoken>),
    /// What is of no use to the next server: IDENT, SOURCE, LOGIN, DESTADDR, DESTPORT.
    Other,
}

/// The attributes of a command, in their order.
///
/// # Errors
/// There is none, or one of them is unknown, not xtext, too long, or holds a control character.
pub fn attributes(argument: &str) -> Result<Vec<Attribute>, CommandError> {
    let words = argument.split(' ').filter(|word| !word.is_empty());
    let found: Vec<_> = words.map(attribute).collect::<Result<_, _>>()?;
    match found.is_empty() {
        true => Err(CommandError::Syntax("at least one NAME=value")),
        false => Ok(found),
    }
}

fn attribute(word: &str) -> Result<Attribute, CommandError> {
    let (name, written) = word
        .split_once('=')
        .ok_or(CommandError::Syntax("NAME=value"))?;
    let name = name.to_ascii_uppercase();
    let bad = || CommandError::Parameter(name.chars().take(20).collect());
    let value = decoded(written).map_err(|NoValue| bad())?;
    let known = value.filter(|it| it != UNAVAILABLE);
    let looked_up = known.as_deref().filter(|it| *it != TEMPORARILY);
    Ok(match name.as_str() {
        "NAME" => Attribute::Name(known.filter(|it| it == TEMPORARILY || is_host_name(it))),
        "ADDR" => Attribute::Address(each(looked_up, address).ok_or_else(bad)?),
        "PORT" => Attribute::Port(each(looked_up, |it| it.parse().ok()).ok_or_else(bad)?),
        "HELO" => Attribute::Helo(looked_up.map(str::to_owned)),
        "PROTO" => Attribute::Protocol(looked_up.and_then(Spoken::of)),
        "IDENT" | "SOURCE" | "LOGIN" | "DESTADDR" | "DESTPORT" => Attribute::Other,
        _ => return Err(bad()),
    })
}

/// None: there is one, and it is bad.
fn each<T>(value: Option<&str>, parse: impl Fn(&str) -> Option<T>) -> Option<Option<T>> {
    match value {
        None => Some(None),
        Some(text) => parse(text).map(Some),
    }
}

/// An address as attributes and `Received` fields have it.
pub fn address(text: &str) -> Option<IpAddr> {
    let bare = match text.split_at_checked(5) {
        Some((start, rest)) if start.eq_ignore_ascii_case("IPv6:") => rest,
        _ => text,
    };
    bare.parse().ok().map(|ip: IpAddr| ip.to_canonical())
}

struct NoValue;

/// RFC 3461 §4. None: beyond ASCII, which has no form for the next server.
fn decoded(written: &str) -> Result<Option<String>, NoValue> {
    let mut bytes = Vec::with_capacity(written.len().min(MAX_VALUE));
    let mut rest = written.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'+' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let (high, low) = (digit().ok_or(NoValue)?, digit().ok_or(NoValue)?);
                u8::try_from(high * 16 + low).map_err(|_| NoValue)?
            }
            byte => byte,
        };
        if byte.is_ascii_control() || bytes.len() >= MAX_VALUE {
            return Err(NoValue);
        }
        bytes.push(byte);
    }
    if bytes.is_empty() {
        return Err(NoValue);
    }
    Ok(String::from_utf8(bytes).ok().filter(|it| it.is_ascii()))
}

/// A name that a client or DNS gave, where it is one that can be passed on.
pub fn name(text: &str) -> Option<String> {
    let printable = |b: u8| (b' '..=b'~').contains(&b);
    let known = !text.is_empty() && text != UNAVAILABLE && text != TEMPORARILY;
    (known && text.len() <= MAX_VALUE && text.bytes().all(printable)).then(|| text.to_owned())
}

/// Servers refuse the whole command for a name of another form.
pub fn is_host_name(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let is_label = |label: &str| {
        let ends = label.starts_with('-') || label.ends_with('-');
        (1..=63).contains(&label.len()) && label.bytes().all(inner) && !ends
    };
    let is_number = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    text.len() <= MAX_VALUE && !is_number && text.split('.').all(is_label)
}

impl Client {
    /// What a command says; what it does not name stays.
    pub fn learn(&mut self, attributes: Vec<Attribute>) {
        for attribute in attributes {
            match attribute {
                Attribute::Name(it) => self.name = it,
                Attribute::Address(it) => self.address = it,
                Attribute::Port(it) => self.port = it,
                Attribute::Helo(it) => self.helo = it,
                Attribute::Protocol(it) => self.protocol = it,
                Attribute::Other => {}
            }
        }
    }

    /// A whole line, with what the server has announced; None where that is nothing of this.
    pub fn xforward(&self, offered: Attributes) -> Option<String> {
        // The word for a lookup that failed for now is one of XCLIENT only.
        let name = self.name.as_deref().filter(|it| *it != TEMPORARILY);
        self.line("XFORWARD", name, offered)
    }

    pub fn xclient(&self, offered: Attributes) -> Option<String> {
        self.line("XCLIENT", self.name.as_deref(), offered)
    }

    fn line(&self, verb: &str, name: Option<&str>, offered: Attributes) -> Option<String> {
        let mut line = verb.to_owned();
        let mut say = |bit: Attributes, name: &str, value: Option<String>| {
            if offered.has(bit) {
                let value = value.map(|it| xtext(&it));
                let value = value.filter(|it| it.len() <= MAX_WRITTEN);
                let value = value.as_deref().unwrap_or(UNAVAILABLE);
                line.push_str(&format!(" {name}={value}"));
            }
        };
        let address = self.address.map(|ip| match ip {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("IPV6:{ip}"),
        });
        say(Attributes::NAME, "NAME", name.map(str::to_owned));
        say(Attributes::ADDR, "ADDR", address);
        say(Attributes::PORT, "PORT", self.port.map(|it| it.to_string()));
        let spoken = self.protocol.map(|it| it.as_str().to_owned());
        say(Attributes::PROTO, "PROTO", spoken);
        say(Attributes::HELO, "HELO", self.helo.clone());
        (line.len() > verb.len()).then(|| line + "\r\n")
    }
}

/// RFC 3461 §4.
fn xtext(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'+' | b'=' => out.push_str(&format!("+{byte:02X}")),
            b'!'..=b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("+{byte:02X}")),
        }
    }
    out
}

/// Which of the attributes a server has announced behind XFORWARD or XCLIENT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes(u8);

impl Attributes {
    pub const NONE: Self = Self(0);
    const NAME: Self = Self(1);
    const ADDR: Self = Self(2);
    const PORT: Self = Self(4);
    const PROTO: Self = Self(8);
    const HELO: Self = Self(16);

    /// The words behind the keyword.
    pub fn announced<'a>(words: impl Iterator<Item = &'a str>) -> Self {
        words.fold(Self::default(), |all, word| {
            let bit = match word.to_ascii_uppercase().as_str() {
                "NAME" => Self::NAME,
                "ADDR" => Self::ADDR,
                "PORT" => Self::PORT,
                "PROTO" => Self::PROTO,
                "HELO" => Self::HELO,
                _ => Self::default(),
            };
            Self(all.0 | bit.0)
        })
    }

    fn has(self, bit: Self) -> bool {
        self.0 & bit.0 != 0
    }

    /// A hand-over without the address tells nothing that a home could judge by.
    pub fn is_useful(self) -> bool {
        self.has(Self::ADDR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Attributes {
        Attributes::announced("NAME ADDR PORT PROTO HELO IDENT SOURCE".split(' '))
    }

    fn told(argument: &str) -> Result<Client, u16> {
        let mut client = Client::default();
        client.learn(attributes(argument).map_err(|error| error.reply().code)?);
        Ok(client)
    }

    #[test]
    fn attributes_are_read_and_written_as_postfix_documents_them() {
        for (argument, line) in [
            (
                "NAME=spike.porcupine.example ADDR=168.100.189.2 PORT=1234 PROTO=ESMTP HELO=spike",
                "NAME=spike.porcupine.example ADDR=168.100.189.2 PORT=1234 PROTO=ESMTP HELO=spike",
            ),
            (
                "name=[UNAVAILABLE] addr=ipv6:2001:DB8::1 proto=smtp helo=[192.0.2.1] ident=4F SOURCE=REMOTE",
                "NAME=[UNAVAILABLE] ADDR=IPV6:2001:db8::1 PORT=[UNAVAILABLE] PROTO=SMTP HELO=[192.0.2.1]",
            ),
            (
                "NAME=[TEMPUNAVAIL] ADDR=[UNAVAILABLE] PORT=[UNAVAILABLE] HELO=[UNAVAILABLE]",
                "NAME=[UNAVAILABLE] ADDR=[UNAVAILABLE] PORT=[UNAVAILABLE] PROTO=[UNAVAILABLE] HELO=[UNAVAILABLE]",
            ),
            (
                "ADDR=::ffff:192.0.2.1 HELO=a+2Bb+3Dc+20d PROTO=LMTP",
                "NAME=[UNAVAILABLE] ADDR=192.0.2.1 PORT=[UNAVAILABLE] PROTO=[UNAVAILABLE] HELO=a+2Bb+3Dc+20d",
            ),
            // A name that is none would make a server refuse everything.
            (
                "NAME=a..b ADDR=192.0.2.1",
                "NAME=[UNAVAILABLE] ADDR=192.0.2.1 PORT=[UNAVAILABLE] PROTO=[UNAVAILABLE] HELO=[UNAVAILABLE]",
            ),
            // The last one counts, and what has no form in ASCII is not known.
            (
                "HELO=a HELO=b NAME=+C3+BC",
                "NAME=[UNAVAILABLE] ADDR=[UNAVAILABLE] PORT=[UNAVAILABLE] PROTO=[UNAVAILABLE] HELO=b",
            ),
        ] {
            let client = told(argument).unwrap();
            let written = client.xforward(all()).unwrap();
            assert_eq!(written, format!("XFORWARD {line}\r\n"), "{argument}");
        }
    }

    #[test]
    fn a_name_that_could_not_be_looked_up_is_one_of_xclient_s_words() {
        let client = told("NAME=[TEMPUNAVAIL]").unwrap();
        let name = Attributes::announced(["NAME"].into_iter());
        let line = client.xclient(name).unwrap();
        assert_eq!(line, "XCLIENT NAME=[TEMPUNAVAIL]\r\n");
    }

    #[test]
    fn what_is_no_attribute_is_refused() {
        let long = format!("HELO={}", "x".repeat(2000));
        for argument in [
            "",
            "NAME",
            "NAME=",
            "COLOUR=red",
            "HELO=a+0D+0Ab",
            "HELO=a+0",
            "HELO=a+",
            "HELO=a+zz",
            "NAME=a+00",
            "NAME=a+7F",
            "ADDR=home.example",
            "ADDR=192.0.2.256",
            "PORT=65536",
            "PORT=x",
            &long,
        ] {
            assert_eq!(told(argument), Err(501), "{argument}");
        }
    }

    #[test]
    fn a_line_has_what_was_announced_and_is_never_too_long() {
        let client = Client {
            name: Some("n".repeat(255)),
            address: Some("2001:db8:1111:2222:3333:4444:5555:6666".parse().unwrap()),
            port: Some(65535),
            helo: Some("h".repeat(200)),
            protocol: Some(Spoken::Esmtp),
        };
        assert!(client.xclient(all()).unwrap().len() <= 512);
        let two = Client {
            name: Some("n".repeat(200)),
            ..client.clone()
        };
        assert!(two.xforward(all()).unwrap().len() <= 512);
        let addr = Attributes::announced(["addr", "login"].into_iter());
        assert!(addr.is_useful());
        let line = "XCLIENT ADDR=IPV6:2001:db8:1111:2222:3333:4444:5555:6666\r\n";
        assert_eq!(client.xclient(addr).as_deref(), Some(line));
        let nothing = Attributes::announced(["LOGIN"].into_iter());
        assert_eq!(client.xclient(nothing), None);
        assert!(!nothing.is_useful());
    }

    #[test]
    fn a_client_cannot_pass_for_one_that_is_not_known() {
        assert_eq!(name("[UNAVAILABLE]"), None);
        assert_eq!(name("a\r\nb"), None);
        assert_eq!(name("j\u{f6}rg"), None);
        assert_eq!(name(&"x".repeat(256)), None);
        assert_eq!(name("[192.0.2.1]").as_deref(), Some("[192.0.2.1]"));
    }
}

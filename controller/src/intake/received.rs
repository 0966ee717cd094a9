//! Who sent a message, read from the `Received` field that the feeder wrote. Pure.
//!
//! RFC 5321 §4.4 has `from HELO (NAME [ADDRESS])`; that is what Postfix, sendmail and OpenSMTPD write. Exim has
//! `from NAME ([ADDRESS] helo=HELO)`, qmail `from NAME (HELO HELO) (ADDRESS)`.
//!
//! # Invariants
//! Without an address nothing is known: a home could judge by nothing.

use std::net::IpAddr;

use dd_proto::client::{self, Client, Spoken};

/// From the value of the field, unfolded or not.
pub fn client(value: &[u8]) -> Option<Client> {
    let text = String::from_utf8_lossy(value);
    let parts = parts(&text);
    let mut words = parts.iter();
    match words.next()? {
        Part::Word(word) if word.eq_ignore_ascii_case("from") => {}
        _ => return None,
    }
    let Part::Word(said) = words.next()? else {
        return None;
    };
    let comments: Vec<&str> = words
        .map_while(|part| match part {
            Part::Comment(text) => Some(*text),
            Part::Word(_) => None,
        })
        .collect();
    // What the client says is written in front of where it is; it may look like an address.
    let address = comments
        .iter()
        .copied()
        .chain(std::iter::once(*said))
        .find_map(address)?;
    let helo = comments
        .iter()
        .find_map(|text| exim(text).or_else(|| qmail(text)));
    let (name, helo) = match helo {
        Some(helo) => (*said, helo),
        None => (comments.first().map_or("", |it| looked_up(it)), *said),
    };
    Some(Client {
        name: client::name(name).filter(|it| is_name(it)),
        address: Some(address),
        port: None,
        helo: client::name(helo),
        protocol: protocol(&parts),
    })
}

/// An address in brackets, or one that is all there is; not what the client said.
fn address(text: &str) -> Option<IpAddr> {
    if qmail(text).is_some() {
        return None;
    }
    let text = text.split("helo=").next().unwrap_or_default();
    let bracketed = text
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'));
    match bracketed {
        Some((inner, _)) => client::address(inner),
        None => client::address(text.trim()),
    }
}

/// The name in front of the address.
fn looked_up(comment: &str) -> &str {
    let (before, _) = comment.split_once('[').unwrap_or(("", ""));
    before.trim().trim_end_matches('.')
}

fn is_name(text: &str) -> bool {
    client::is_host_name(text) && text != "unknown"
}

fn exim(comment: &str) -> Option<&str> {
    let mut words = comment.split_ascii_whitespace();
    words.find_map(|word| word.strip_prefix("helo="))
}

fn qmail(comment: &str) -> Option<&str> {
    let rest = comment.trim().strip_prefix("HELO ")?;
    rest.split_ascii_whitespace().next()
}

fn protocol(parts: &[Part<'_>]) -> Option<Spoken> {
    let mut rest = parts.iter();
    rest.find(|part| matches!(part, Part::Word(word) if word.eq_ignore_ascii_case("with")))?;
    match rest.next()? {
        Part::Word(word) => Spoken::of(word),
        Part::Comment(_) => None,
    }
}

#[derive(Debug, Clone, Copy)]
enum Part<'a> {
    Word(&'a str),
    /// Without its outer parentheses.
    Comment(&'a str),
}

/// Words and comments, up to the date.
fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = match first {
            ';' => break,
            '(' => {
                let end = comment_end(rest);
                parts.push(Part::Comment(rest[1..end].trim()));
                (end + 1).min(rest.len())
            }
            _ => {
                let stop = |c: char| c.is_ascii_whitespace() || matches!(c, '(' | ';');
                let end = rest.find(stop).unwrap_or(rest.len());
                parts.push(Part::Word(&rest[..end]));
                end
            }
        };
        rest = rest[end..].trim_start();
    }
    parts
}

/// Where the comment that begins here is closed; the end of the text where it is not.
fn comment_end(text: &str) -> usize {
    let mut depth = 0;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_real_servers_write_is_read() {
        for (field, expected) in [
            (
                "from mail.a.example (mail.a.example [198.51.100.7])\r\n\t(using TLSv1.3 (256/256 bits))\r\n\t(No client \
                 certificate requested)\r\n\tby mx.example.net (Postfix) with ESMTPS id 4F\r\n\tfor <a@b.example>; Mon",
                "mail.a.example 198.51.100.7 mail.a.example ESMTP",
            ),
            (
                "from laptop (unknown [IPv6:2001:db8::7])\r\n\tby mx.example.net (Postfix) with SMTP id 4F; Mon",
                "- 2001:db8::7 laptop SMTP",
            ),
            (
                "from mail.a.example ([198.51.100.7] helo=laptop)\r\n\tby mx.example.net with esmtps (TLS1.3) (Exim 4.96)",
                "mail.a.example 198.51.100.7 laptop ESMTP",
            ),
            (
                "from [198.51.100.7] (port=1234 helo=[198.51.100.7])\r\n\tby mx.example.net with smtp (Exim 4.96)",
                "- 198.51.100.7 [198.51.100.7] SMTP",
            ),
            (
                "from mail.a.example ([198.51.100.7])\r\n\tby mx.example.net with esmtp (Exim 4.96)",
                "- 198.51.100.7 mail.a.example ESMTP",
            ),
            (
                "from unknown (HELO laptop) (198.51.100.7)\r\n by mx.example.net with SMTP; 1 Jan",
                "- 198.51.100.7 laptop SMTP",
            ),
            (
                "from a.example (IDENT:root@rev.a.example [198.51.100.7] (may be forged)) by mx (8.17) with ESMTP id x;",
                "- 198.51.100.7 a.example ESMTP",
            ),
            (
                "from a.example (rev.a.example. [198.51.100.7]) by mx.example.net (OpenSMTPD) with ESMTPSA id 1 (TLSv1.3)",
                "rev.a.example 198.51.100.7 a.example ESMTP",
            ),
            // A client that writes a comment of its own behind EHLO is not heard.
            (
                "from [UNAVAILABLE] (rev.a.example [198.51.100.7]) by mx with LMTP id 1",
                "rev.a.example 198.51.100.7 - -",
            ),
            (
                "by mx.example.net (Postfix, from userid 1000)\r\n\tid 4F; Mon",
                "none",
            ),
            ("from a.example by mx.example.net with ESMTP", "none"),
            ("from a.example ([x]) by mx", "none"),
            ("from (a", "none"),
            ("from", "none"),
            ("", "none"),
            ("; from a ([192.0.2.1])", "none"),
        ] {
            let found = client(field.as_bytes()).map_or("none".to_owned(), |it| {
                let or = |text: Option<String>| text.unwrap_or("-".to_owned());
                let spoken = it.protocol.map(|it| it.as_str().to_owned());
                let address = it.address.map(|it| it.to_string());
                [or(it.name), or(address), or(it.helo), or(spoken)].join(" ")
            });
            assert_eq!(found, expected, "{field}");
        }
    }
}

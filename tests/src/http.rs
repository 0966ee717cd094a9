//! curl, as a member's script calls it.

use std::process::Command;

/// What curl got.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// As they came, names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    /// The value of a header; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(it, _)| it == name);
        found.map_or("", |(_, value)| value)
    }
}

/// Runs curl with these arguments, and its own `--silent --include`.
///
/// # Panics
/// There is no curl, or no answer.
#[track_caller]
pub fn curl(args: &[&str]) -> Answer {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--include", "--max-time", "60"])
        .args(args)
        .output()
        .expect("curl can be run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    parse(&text).unwrap_or_else(|| {
        let says = String::from_utf8_lossy(&output.stderr);
        panic!("no answer to {args:?}: {text}{says}")
    })
}

fn parse(text: &str) -> Option<Answer> {
    let (mut head, mut body) = text.split_once("\r\n\r\n")?;
    while head.starts_with("HTTP/1.1 100") {
        (head, body) = body.split_once("\r\n\r\n")?;
    }
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    Some(Answer {
        status,
        headers: lines.filter_map(header).collect(),
        body: body.to_owned(),
    })
}

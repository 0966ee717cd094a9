//! A line of the history, written straight from the log's event: as JSON, with the names that [`super::Entry`] has.
//!
//! Each message has two, so nothing is copied on the way but into the line itself.

use std::fmt::Write as _;

use jiff::Timestamp;
use tracing::Event;
use tracing::field::{Field, Visit};

use super::AND_MORE;

/// Bytes of nearly every line.
const USUAL: usize = 640;
/// Bytes of one value; the log has the rest.
pub(super) const MOST: usize = 2000;
/// Bytes of a list: all recipients of nearly every message.
pub(super) const MOST_OF_LIST: usize = 32 << 10;

/// With its end.
pub(super) fn line(event: &Event<'_>, at: Timestamp) -> String {
    let mut line = Line {
        text: String::with_capacity(USUAL),
        shown: String::new(),
    };
    // Writing into a String cannot fail.
    let _ = write!(line.text, "{{\"at\":\"{at}\"");
    event.record(&mut line);
    line.text.push_str("}\n");
    line.text
}

struct Line {
    text: String,
    /// A value while it is formatted.
    shown: String,
}

/// What the history calls a field of the log, and whether it is a list; None: it is not kept.
fn kept(field: &str) -> Option<(&'static str, bool)> {
    Some(match field {
        "message" => ("what", false),
        "id" => ("id", false),
        "message_id" => ("message_id", false),
        "reverse_path" => ("reverse_path", false),
        "recipients" => ("recipients", true),
        "site" | "sites" => ("site", true),
        "bytes" => ("bytes", false),
        "client" => ("client", false),
        "agent" => ("agent", false),
        "address" => ("address", false),
        "reply" => ("reply", false),
        _ => return None,
    })
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        let Some((name, is_list)) = kept(field.name()) else {
            return;
        };
        self.text.push_str(",\"");
        self.text.push_str(name);
        self.text.push_str("\":\"");
        match is_list {
            false => escape(&value[..value.floor_char_boundary(MOST)], &mut self.text),
            true => {
                let (all, more) = whole_items(value);
                escape(all, &mut self.text);
                self.text.push_str(more);
            }
        }
        self.text.push('"');
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if kept(field.name()).is_some() {
            let mut shown = std::mem::take(&mut self.shown);
            shown.clear();
            // Writing into a String cannot fail.
            let _ = write!(shown, "{value:?}");
            self.record_str(field, &shown);
            self.shown = shown;
        }
    }
}

/// What does not fit is left out as whole items, and said to be missing: a search must not take it for not there.
fn whole_items(list: &str) -> (&str, &'static str) {
    if list.len() <= MOST_OF_LIST {
        return (list, "");
    }
    let room = list.floor_char_boundary(MOST_OF_LIST - AND_MORE.len());
    match list[..room].rfind(',') {
        Some(comma) => (&list[..=comma], AND_MORE),
        None => ("", AND_MORE),
    }
}

/// RFC 8259 §7. Nearly no value has anything to escape, which is seen in one pass.
fn escape(value: &str, text: &mut String) {
    let is_special = |byte: u8| byte < b' ' || matches!(byte, b'"' | b'\\');
    if !value.bytes().fold(false, |any, it| any | is_special(it)) {
        return text.push_str(value);
    }
    for char in value.chars() {
        match char {
            '"' | '\\' => text.extend(['\\', char]),
            // Writing into a String cannot fail.
            '\0'..' ' => _ = write!(text, "\\u{:04x}", u32::from(char)),
            _ => text.push(char),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_escaped_is_read_as_it_was() {
        let plain = ["", "me@home.example", "Grüße", "a\u{7f}b", "\u{2028}"];
        let special = ["\"a b\"@c.example", "\\", "a\tb\r\nc", "\0\u{1f} \"ß\\"];
        for value in plain.into_iter().chain(special) {
            let mut text = "\"".to_owned();
            escape(value, &mut text);
            text.push('"');
            assert_eq!(serde_json::from_str::<String>(&text).unwrap(), value);
        }
    }
}

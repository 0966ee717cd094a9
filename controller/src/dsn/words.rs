//! The part of a report for people: what happened, to what, and what the reader can do.

use super::fields::{said, shown};
use super::text::{Report, Returned, date};
use super::whether::{Action, Entry, What};

/// More recipients are only counted here; the part for programs has them all.
const MAX_LISTED: usize = 50;
const WIDTH: usize = 72;

pub(super) fn subject(action: Action) -> &'static str {
    match action {
        Action::Failed => "Your message could not be delivered",
        Action::Delayed => "Your message has not been delivered yet",
        Action::Relayed => "Your message was handed over",
    }
}

pub(super) fn of(report: &Report<'_>) -> String {
    let host = &report.from.hostname;
    let mut out = format!("This is the mail system at {host}.\r\n");
    for action in [Action::Failed, Action::Delayed, Action::Relayed] {
        let entries = report.entries.iter().filter(|it| it.action == action);
        let entries: Vec<&Entry<'_>> = entries.collect();
        if !entries.is_empty() {
            section(&mut out, action, &entries, report);
        }
    }
    paragraph(&mut out, attached(report.returned()));
    let asking = format!(
        "If you have a question, write to {} and name this ID:",
        report.from.postmaster
    );
    paragraph(&mut out, &asking);
    out.push_str(&format!("    {}\r\n", report.original.id));
    out
}

fn section(out: &mut String, action: Action, entries: &[&Entry<'_>], report: &Report<'_>) {
    let arrived = date(report.original.arrived);
    let what = match action {
        Action::Failed => {
            format!("The message that you sent on {arrived} could not be delivered to:")
        }
        Action::Delayed => {
            format!("The message that you sent on {arrived} has not been delivered yet to:")
        }
        Action::Relayed => {
            format!("The message that you sent on {arrived} was handed to the mail server of:")
        }
    };
    paragraph(out, &what);
    for entry in entries.iter().take(MAX_LISTED) {
        listed(out, entry, report);
    }
    if let Some(more @ 1..) = entries.len().checked_sub(MAX_LISTED) {
        out.push_str(&format!(
            "\r\n  and to {more} more, who are listed in what is attached.\r\n"
        ));
    }
    paragraph(out, &advice(action, entries));
}

fn listed(out: &mut String, entry: &Entry<'_>, report: &Report<'_>) {
    out.push_str("\r\n");
    let path = entry.recipient.path.as_str();
    out.push_str(&format!("  <{path}>\r\n"));
    let reply = entry.fate.reply.as_ref();
    let reply = reply.filter(|reply| !reply.to_string().is_empty());
    let answered = reply.is_some_and(|reply| reply.code != 0);
    let why = match (entry.fate.what, answered) {
        (What::Relayed(_), _) => return,
        (What::Failed, true) => "The mail server of the recipient refused it:",
        (What::Failed, false) => "The mail server of the recipient cannot take it as it is:",
        (What::GivenUp | What::Removed, _) => {
            "Whoever looks after this mail system took it out of the queue."
        }
        (What::Expired, true) => "It was tried until its time was over. The last answer was:",
        (What::Expired, false) => {
            "It was tried until its time was over: the mail server of the recipient was not reached, or could not be recognised."
        }
        (What::Delayed { .. }, true) => "The mail server of the recipient answered:",
        (What::Delayed { .. }, false) => {
            "The mail server of the recipient is not reached, or cannot be recognised."
        }
    };
    indented(out, "    ", why);
    let is_told = answered || entry.fate.what == What::Failed;
    if let Some(reply) = reply.filter(|_| is_told) {
        let form = report.form();
        let text = shown(&said(reply), report.reply_limit(), form);
        indented(out, "      ", &text);
    }
}

fn advice(action: Action, entries: &[&Entry<'_>]) -> String {
    let refused = entries.iter().any(|it| it.fate.what == What::Failed);
    match action {
        Action::Failed if refused => "It is not tried again. Check the address for a slip; if it is right, reach the recipient in another way and show them the answer above: whoever looks after their mail server can tell what it means.".to_owned(),
        Action::Failed => "It is not tried again. Reach the recipient in another way, or send the message again later.".to_owned(),
        Action::Delayed => {
            let until = entries.iter().filter_map(|it| match it.fate.what {
                What::Delayed { until } => Some(until),
                _ => None,
            });
            let until = until.max().map(date).unwrap_or_default();
            format!("You need not do anything, and should not send it again: it is tried until {until}. You are told if that fails.")
        }
        Action::Relayed => "That server takes care of it now. It does not confirm what it delivers, so this is all that can be said; if something goes wrong there, it is up to that server to tell you.".to_owned(),
    }
}

fn attached(returned: Returned<'_>) -> &'static str {
    match returned {
        Returned::Whole(_) => "Attached are the same facts for programs, and your message.",
        Returned::Header(_) => {
            "Attached are the same facts for programs, and the header of your message. What was in it is not returned."
        }
        Returned::Nothing => {
            "Attached are the same facts for programs. Your message is not returned."
        }
    }
}

pub(super) fn paragraph(out: &mut String, text: &str) {
    out.push_str("\r\n");
    indented(out, "", text);
}

/// Wrapped between words. A word that is longer than a line has one of its own.
fn indented(out: &mut String, indent: &str, text: &str) {
    let mut column = 0;
    for word in text.split_whitespace() {
        if column > 0 && column + 1 + word.chars().count() > WIDTH {
            out.push_str("\r\n");
            column = 0;
        }
        match column {
            0 => out.push_str(indent),
            _ => out.push(' '),
        }
        column += word.chars().count() + if column == 0 { indent.len() } else { 1 };
        out.push_str(word);
    }
    out.push_str("\r\n");
}

//! Which messages a change is about.

use std::io::Read;

use dd_proto::id::MessageId;

use crate::args::IdArg;
use crate::args::queue::Selection;
use crate::client::Controller;
use crate::cmd::queue::{filter, waiting};
use crate::failure::Failure;

/// Those that are named, on the command line and on standard input; or else all that wait for the site, or match. Each
/// once: a change is about all open deliveries of a message, or about the one to the site.
pub(super) async fn selected(
    selection: &Selection,
    controller: &Controller,
    stdin: &mut dyn Read,
) -> Result<Vec<MessageId>, Failure> {
    let mut ids = Vec::new();
    for id in &selection.ids {
        match id {
            IdArg::Id(id) => ids.push(*id),
            IdArg::Stdin => read_ids(stdin, &mut ids)?,
        }
    }
    if selection.ids.is_empty() {
        for row in waiting(selection.site.as_ref(), controller).await? {
            let matching = selection.matching.as_ref();
            if matching.is_none_or(|it| filter::concerns(it, &row)) {
                ids.extend(row.id.parse::<MessageId>().ok());
            }
        }
    }
    let mut seen = std::collections::HashSet::new();
    ids.retain(|id| seen.insert(*id));
    Ok(ids)
}

fn read_ids(stdin: &mut dyn Read, ids: &mut Vec<MessageId>) -> Result<(), Failure> {
    let mut text = String::new();
    let read = stdin.read_to_string(&mut text);
    read.map_err(|error| Failure::Refused(format!("standard input cannot be read: {error}")))?;
    for (number, line) in text.lines().enumerate() {
        let word = line.trim();
        if word.is_empty() {
            continue;
        }
        let id = word.parse().map_err(|_| {
            Failure::Usage(format!(
                "line {} of standard input is no ID: expected 32 hexadecimal digits, as `ddadm queue list` shows them",
                number + 1
            ))
        })?;
        ids.push(id);
    }
    Ok(())
}

//! Which messages a change is about.

use std::io::Read;

use dd_proto::id::MessageId;
use dd_proto::pattern::Pattern;
use dd_proto::pb;

use crate::args::IdArg;
use crate::args::queue::Selection;
use crate::client::Controller;
use crate::cmd::queue::{filter, waiting};
use crate::failure::Failure;

/// The open deliveries of a message: the one to the site, or all of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Picked {
    pub(super) id: MessageId,
    pub(super) site: Option<String>,
}

impl std::fmt::Display for Picked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.site {
            None => self.id.fmt(f),
            Some(site) => write!(f, "{} to {site}", self.id),
        }
    }
}

/// Those that are named, on the command line and on standard input; or else exactly the rows that `queue list` shows for
/// the site, or the pattern: a message may have a delivery that matches and one that does not. Each once.
pub(super) async fn selected(
    selection: &Selection,
    controller: &Controller,
    stdin: &mut dyn Read,
) -> Result<Vec<Picked>, Failure> {
    let mut picked = match selection.ids.is_empty() {
        true => {
            let rows = waiting(selection.site.as_ref(), controller).await?;
            matching(rows, selection.matching.as_ref())
        }
        false => named(selection, stdin)?,
    };
    let mut seen = std::collections::HashSet::new();
    picked.retain(|it| seen.insert(it.clone()));
    Ok(picked)
}

fn named(selection: &Selection, stdin: &mut dyn Read) -> Result<Vec<Picked>, Failure> {
    let mut ids = Vec::new();
    for id in &selection.ids {
        match id {
            IdArg::Id(id) => ids.push(*id),
            IdArg::Stdin => read_ids(stdin, &mut ids)?,
        }
    }
    let site = selection.site.as_ref().map(ToString::to_string);
    let picked = ids.into_iter().map(|id| {
        let site = site.clone();
        Picked { id, site }
    });
    Ok(picked.collect())
}

fn matching(rows: Vec<pb::QueuedDelivery>, pattern: Option<&Pattern>) -> Vec<Picked> {
    let rows = rows.into_iter();
    let rows = rows.filter(|row| pattern.is_none_or(|it| filter::concerns(it, row)));
    let picked = rows.filter_map(|row| {
        let id = row.id.parse().ok()?;
        let site = Some(row.site);
        Some(Picked { id, site })
    });
    picked.collect()
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

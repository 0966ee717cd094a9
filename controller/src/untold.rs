//! Which agents the next start has to wait for: written at a clean stop.
//!
//! # Invariants
//! A start believes it only where the stop was that of the start just before, which it tells by the number of that start. So
//! after a crash everybody is waited for.
//!
//! docs/decisions/0105-who-is-waited-for-after-a-clean-stop.md

use std::collections::BTreeSet;

use bytes::Bytes;
use dd_proto::name::AgentName;

use crate::dispatch;
use crate::store::{Remembered, Store, StoreError};

/// The family of the record. Its value is the number of the start that stopped, and the names of agents, a line each.
const FAMILY: &str = "untold";
const KEY: &str = "agents";

/// At a clean stop, when dispatch assigns nothing any more.
pub(crate) async fn remember(store: &Store, dispatch: &dispatch::Handle) {
    let Some(agents) = dispatch.untold_agents().await else {
        return;
    };
    let record = Some(written(store.start_number(), &agents));
    match store.remember(FAMILY, vec![(KEY.to_owned(), record)]).await {
        Ok(Remembered::Written) => {}
        Ok(Remembered::NoRoom) => {
            tracing::warn!(
                "which agents have told all cannot be written: the disk has no room, so the next start waits for every agent"
            );
        }
        Err(error) => {
            tracing::warn!(%error, "which agents have told all cannot be written: the next start waits for every agent");
        }
    }
}

/// Those of which the stop before this start could not say that they had told all; None: nobody knows.
///
/// # Errors
/// The store cannot be read.
pub(crate) fn found(store: &Store) -> Result<Option<BTreeSet<AgentName>>, StoreError> {
    let records = store.records(FAMILY)?;
    let record = records.into_iter().find(|record| record.key == KEY);
    Ok(record.and_then(|record| read(&record.value, store.start_number())))
}

fn written(start: u64, agents: &[AgentName]) -> Bytes {
    let names = agents.iter().map(|name| format!("{name}\n"));
    let text = format!("{start}\n") + &names.collect::<String>();
    text.into()
}

/// None where it is not of the start before `start`, or cannot be read.
fn read(value: &[u8], start: u64) -> Option<BTreeSet<AgentName>> {
    let mut lines = std::str::from_utf8(value).ok()?.lines();
    let stopped: u64 = lines.next()?.parse().ok()?;
    let names = lines.map(|name| name.parse().ok());
    let names: Option<BTreeSet<AgentName>> = names.collect();
    names.filter(|_| stopped.checked_add(1) == Some(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_start_behind_the_stop_believes_it() {
        let agents: Vec<AgentName> = vec!["out1".parse().unwrap(), "out2".parse().unwrap()];
        let value = written(7, &agents);
        assert_eq!(read(&value, 8), Some(agents.into_iter().collect()));
        assert_eq!(
            read(&value, 9),
            None,
            "a start between them may have crashed"
        );
        assert_eq!(read(&written(7, &[]), 8), Some(BTreeSet::new()));
        for torn in [&b""[..], b"x\n", b"7\n\xff\n", b"7\nno name\n"] {
            assert_eq!(read(torn, 8), None);
        }
    }
}

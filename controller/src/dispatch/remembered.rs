//! What one start leaves the next about the wall clock, in the registry's log.
//!
//! # Invariants
//! What looks wrong at a start is durable before a record has the time of its clock. Where it cannot be made durable,
//! none has, and the next start sees the same.
//!
//! # Not here
//! What looks wrong: [`super::alarm`]. What time a record has: the store.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dd_proto::site::Site;
use jiff::Timestamp;

use super::alarm::{ClockAlarm, ClockMemory, ClockNews};
use super::backing::StoreFailed;
use crate::store::{LogFailed, Store, StoreError};

const CLOCK: &str = "clock";
const ALARM: &str = "alarm";
const CONFIRMED: &str = "confirmed";

/// What a start knows, before anything is accepted: what earlier ones left, of which the newest record is that old, and
/// what its own clock says, which is `wall`.
///
/// # Errors
/// The registry cannot be read.
pub async fn clock_at_start(
    store: &Store,
    newest: Option<Timestamp>,
    sites: &[Arc<Site>],
    wall: Timestamp,
) -> Result<ClockMemory, StoreError> {
    let mut memory = remembered(store, newest)?;
    let news = memory.news(wall, shortest_lifetime(sites));
    if let Some(alarm) = news.or(memory.alarm) {
        tracing::error!(%alarm, "nothing expires until the clock is confirmed");
    }
    if let Some(alarm) = news {
        if let Err(error) = remember(store, ClockNews::Alarm(alarm)).await {
            tracing::error!(%error, "an alarm is not remembered");
            return Ok(memory);
        }
        memory.alarm = Some(alarm);
    }
    store.clock_is_believed();
    Ok(memory)
}

fn remembered(store: &Store, newest: Option<Timestamp>) -> Result<ClockMemory, StoreError> {
    let records = store.records(CLOCK)?;
    let words = |key| {
        let record = records.iter().find(|record| record.key == key);
        record.map(|record| String::from_utf8_lossy(&record.value).into_owned())
    };
    Ok(ClockMemory {
        newest,
        alarm: words(ALARM).map(|words| ClockAlarm::from_words(&words)),
        confirmed: words(CONFIRMED).and_then(|at| at.parse().ok()),
    })
}

/// Durable when Ok. In this order: without the alarm nothing else keeps mail from expiring, and what is written by a
/// clock that somebody has confirmed vouches for it.
pub(super) async fn remember(store: &Store, news: ClockNews) -> Result<(), StoreFailed> {
    let put = async |key, words: Option<String>| {
        let put = store.put(CLOCK, key, words.map(Bytes::from)).await;
        put.map(|_| ())
            .map_err(|error: LogFailed| StoreFailed(error.to_string()))
    };
    match news {
        ClockNews::Alarm(alarm) => put(ALARM, Some(alarm.to_words())).await,
        ClockNews::Confirmed(at) => {
            put(CONFIRMED, Some(at.to_string())).await?;
            store.clock_is_right();
            put(ALARM, None).await
        }
    }
}

/// The lifetime of the mail that lives shortest.
pub(super) fn shortest_lifetime(sites: &[Arc<Site>]) -> Duration {
    let lifetimes = sites.iter().map(|site| site.schedule.lifetime);
    lifetimes.min().unwrap_or(Duration::MAX)
}

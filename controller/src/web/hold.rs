//! Pausing and resuming by the member.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use dd_proto::site::{Hold, Site};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

use super::portal::{BY_MEMBER, Visitor, to_start};
use super::sent::Sent;
use super::session::Notice;
use super::{Web, now};

const MOST_DAYS: i64 = 366;

pub(super) async fn hold(
    State(web): State<Arc<Web>>,
    Sent {
        visitor, fields, ..
    }: Sent,
) -> Response {
    let now = now();
    let notice = match start_of(fields.get("until").unwrap_or_default(), now) {
        None => Notice::BadDate,
        Some(until) => {
            let hold = Hold {
                by: BY_MEMBER.to_owned(),
                until: Some(until),
                since: now,
            };
            change(&web, &visitor, Some(hold), Notice::Held).await
        }
    };
    web.sessions().say(&visitor.id, notice);
    to_start()
}

pub(super) async fn resume(State(web): State<Arc<Web>>, Sent { visitor, .. }: Sent) -> Response {
    let notice = change(&web, &visitor, None, Notice::Resumed).await;
    web.sessions().say(&visitor.id, notice);
    to_start()
}

async fn change(web: &Web, visitor: &Visitor, hold: Option<Hold>, done: Notice) -> Notice {
    let now = now();
    if is_the_providers(&visitor.site, now) {
        return Notice::NotNow;
    }
    let (name, who) = (visitor.site.name.clone(), visitor.who());
    let changing = web.editor.change(move |change| async move {
        change.hold_site(name.as_str(), hold, &who, now).await
    });
    visitor.told(changing.await, done)
}

/// What an operator has paused, only an operator resumes.
fn is_the_providers(site: &Site, now: Timestamp) -> bool {
    let hold = site.hold.as_ref();
    hold.is_some_and(|it| it.by != BY_MEMBER && it.until.is_none_or(|until| until > now))
}

/// The first moment of a day to come, where this machine is.
fn start_of(day: &str, now: Timestamp) -> Option<Timestamp> {
    let date: Date = day.parse().ok()?;
    let at = date.to_zoned_datetime(TimeZone::system()).ok()?.timestamp();
    let days = at.duration_since(now).as_hours() / 24;
    (at > now && days < MOST_DAYS).then_some(at)
}

/// As a date field takes it.
pub(super) fn tomorrow(now: Timestamp) -> String {
    let today = now.to_zoned_datetime(TimeZone::system()).date();
    let next = today.checked_add(1.day()).unwrap_or(today);
    next.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_ends_on_a_day_to_come_within_a_year() {
        let now: Timestamp = "2026-11-24T20:00:00Z".parse().unwrap();
        for (day, fine) in [
            ("2026-11-26", true),
            ("2027-11-20", true),
            ("2026-11-23", false),
            ("2028-01-01", false),
            ("", false),
            ("26.11.2026", false),
            ("<b>", false),
        ] {
            assert_eq!(start_of(day, now).is_some(), fine, "{day}");
        }
    }
}

//! What happens, live: the same events as in the log, to whoever watches (`ddadm watch`).
//!
//! [`layer`] is a part of the process's log, so log and watch cannot tell different stories, and a new event needs no
//! second line of code.
//!
//! # Invariants
//! Nobody who watches holds anybody up: what a watcher does not take in time is lost to it, and it is told how much.
//! Without watchers an event costs one look at a counter.

use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use tokio::sync::broadcast;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// Events a watcher may be behind.
const BEHIND: usize = 4096;
/// Characters of one value; the log has the rest.
const MOST: usize = 2000;

/// The process's log is one for all, and so is this.
static LIVE: LazyLock<broadcast::Sender<Arc<Happened>>> =
    LazyLock::new(|| broadcast::channel(BEHIND).0);

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happened {
    pub at: Timestamp,
    /// mail, site, agent, audit, or alarm for what went wrong
    pub kind: &'static str,
    /// What happened, in a word or a sentence.
    pub what: String,
    /// In the order of the log line.
    pub fields: Vec<(&'static str, String)>,
}

/// From now on.
pub fn subscribe() -> broadcast::Receiver<Arc<Happened>> {
    LIVE.subscribe()
}

impl Happened {
    /// Whether it concerns a site.
    pub fn is_about(&self, site: &str) -> bool {
        self.fields.iter().any(|(key, value)| match *key {
            // `site NAME …`: what was done to it.
            "what" if self.kind == "audit" => value.split(' ').nth(1) == Some(site),
            "site" => value == site,
            "sites" => value.split(',').any(|it| it == site),
            _ => false,
        })
    }
}

/// What of the log is worth watching; None: nothing.
fn kind(metadata: &Metadata<'_>) -> Option<&'static str> {
    match metadata.target() {
        "mail" => Some("mail"),
        "site" => Some("site"),
        "agent" => Some("agent"),
        "audit" => Some("audit"),
        target if !target.starts_with("dd_controller") => None,
        _ if *metadata.level() <= Level::WARN => Some("alarm"),
        _ => None,
    }
}

/// The part of the process's log that hands events on. What it wants, the written log need not want too.
pub fn layer<S>() -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    Live.with_filter(filter_fn(|metadata| kind(metadata).is_some()))
}

#[derive(Debug, Clone, Copy)]
struct Live;

impl<S: Subscriber> Layer<S> for Live {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if LIVE.receiver_count() == 0 {
            return;
        }
        let Some(kind) = kind(event.metadata()) else {
            return;
        };
        let mut happened = Happened {
            at: now(),
            kind,
            what: String::new(),
            fields: Vec::new(),
        };
        event.record(&mut happened);
        // Whoever watched has just gone.
        let _ = LIVE.send(Arc::new(happened));
    }
}

impl Visit for Happened {
    fn record_str(&mut self, field: &Field, value: &str) {
        let value = value.chars().take(MOST).collect();
        match field.name() {
            "message" => self.what = value,
            name => self.fields.push((name, value)),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let mut text = String::new();
        let _ = write!(text, "{value:?}");
        self.record_str(field, &text);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "an event happens now; the log's own time stamp is made the same way"
)]
fn now() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt as _;

    #[test]
    fn what_is_logged_is_seen_with_its_fields() {
        let mut live = subscribe();
        let log = tracing_subscriber::registry().with(layer());
        tracing::subscriber::with_default(log, || {
            tracing::info!(target: "mail", id = %"1-only-here", site = %"home", bytes = 7, "settled");
            tracing::info!("not worth watching: 1-only-here");
            tracing::warn!(site = "other", "1-only-here is wrong");
        });
        let mut seen = Vec::new();
        while let Ok(event) = live.try_recv() {
            // Other tests log too.
            if format!("{event:?}").contains("1-only-here") {
                seen.push((event.kind, event.what.clone(), event.fields.clone()));
            }
        }
        let field = |key: &'static str, value: &str| (key, value.to_owned());
        assert_eq!(
            seen,
            [
                (
                    "mail",
                    "settled".to_owned(),
                    vec![
                        field("id", "1-only-here"),
                        field("site", "home"),
                        field("bytes", "7")
                    ]
                ),
                (
                    "alarm",
                    "1-only-here is wrong".to_owned(),
                    vec![field("site", "other")]
                ),
            ]
        );
    }

    #[test]
    fn an_event_is_about_the_sites_it_names() {
        let about = |key, value: &str| Happened {
            at: Timestamp::UNIX_EPOCH,
            kind: "mail",
            what: String::new(),
            fields: vec![(key, value.to_owned())],
        };
        for (key, value, expected) in [
            ("site", "home", true),
            ("sites", "office,home", true),
            ("sites", "office,homely", false),
            ("site", "homely", false),
            ("reply", "home", false),
            ("what", "site home held", false),
        ] {
            assert_eq!(
                about(key, value).is_about("home"),
                expected,
                "{key}={value}"
            );
        }
        let mut done = about("what", "site home held until tomorrow");
        done.kind = "audit";
        assert!(done.is_about("home"));
        assert!(!done.is_about("held"));
    }
}

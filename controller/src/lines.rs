//! Which lines of the log wait for company on their way out ([`dd_log`]), and which are urgent.
//!
//! A message has two lines. A system call for each was 4 % of the controller's processor time
//! (docs/decisions/0062-fewer-system-calls.md).
//!
//! # Invariants
//! Only what is said of a message with its Message-ID waits: that it was accepted, and what became of it. The store has that
//! on disk by then. All else, and whatever was said before it, is out when the call returns, as long as standard error takes
//! it at once: that a message is sent again in doubt is there before it is sent.
//!
//! # Not here
//! What the lines say (where it happens); those who watch it live ([`crate::events`]).

use dd_log::{Line, Lines, Sink, When};
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Where the log goes.
#[derive(Debug)]
pub struct Log<W>(pub Lines<W>);

fn when(line: &Metadata<'_>) -> When {
    let tells_of_a_message = line.target() == "mail" && line.fields().field("message_id").is_some();
    match tells_of_a_message && *line.level() == Level::INFO {
        true => When::Soon,
        false => When::Now,
    }
}

impl<'a, W: Sink + 'a> MakeWriter<'a> for Log<W> {
    type Writer = Line<W>;

    fn make_writer(&'a self) -> Self::Writer {
        self.0.line(When::Now)
    }

    fn make_writer_for(&'a self, line: &Metadata<'_>) -> Self::Writer {
        self.0.line(when(line))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::Subscriber;
    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::{Context, SubscriberExt as _};

    use super::*;

    /// Notes which lines are urgent.
    struct Urgent(Arc<Mutex<Vec<When>>>);

    impl<S: Subscriber> Layer<S> for Urgent {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
            self.0.lock().unwrap().push(when(event.metadata()));
        }
    }

    #[test]
    fn what_is_said_of_a_message_waits_for_company_and_all_else_does_not() {
        let seen = Arc::default();
        let log = tracing_subscriber::registry().with(Urgent(Arc::clone(&seen)));
        tracing::subscriber::with_default(log, || {
            tracing::info!(target: "mail", id = 1, message_id = "<a@b>", "accepted");
            tracing::info!(target: "mail", id = 2, "sent again in doubt");
            tracing::info!("another");
            tracing::warn!(target: "mail", message_id = "<c@b>", "of note");
        });
        let expected = [When::Soon, When::Now, When::Now, When::Now];
        assert_eq!(*seen.lock().unwrap(), expected);
    }
}

//! What the service manager hears while the controller runs: one line about how things are, and that dispatch answers.
//!
//! The watchdog is fed by answers of the dispatch loop: where that hangs, no mail moves, and a start is what helps.

use std::time::Duration;

use dd_service::notify;

use crate::metrics::Sources;

/// How often the line is looked at, at least.
const LOOK: Duration = Duration::from_secs(10);

/// Reports until dropped.
pub(crate) async fn report(sources: Sources) {
    let mut look = tokio::time::interval(notify::interval(notify::watchdog(), LOOK));
    let mut told = String::new();
    loop {
        look.tick().await;
        let agents = sources.dispatch.agent_views().await;
        notify::alive();
        let connected = agents.iter().filter(|agent| agent.state == "connected");
        let line = line(
            &sources.not_ready(),
            sources.store.total().messages,
            connected.count(),
            agents.len(),
        );
        if line != told {
            notify::status(&line);
            told = line;
        }
    }
}

/// What `/readyz` says, and what waits for whom.
fn line(not_ready: &[&str], waiting: u64, connected: usize, agents: usize) -> String {
    let ready = match not_ready {
        [] => "ready".to_owned(),
        reasons => format!("not ready: {}", reasons.join("; ")),
    };
    format!("{ready}; deliveries waiting: {waiting}; agents connected: {connected} of {agents}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_what_readyz_says() {
        assert_eq!(
            line(&[], 3, 1, 2),
            "ready; deliveries waiting: 3; agents connected: 1 of 2"
        );
        let short = line(&["stopping", "space is short"], 0, 0, 0);
        assert!(
            short.starts_with("not ready: stopping; space is short; "),
            "{short}"
        );
    }
}

//! All sites and how each stands, as a list that may be long.
//!
//! # Invariants
//! - Dispatch is asked for one site at a time, and has other work in between: ten thousand sites hold it up no longer than one.
//! - No more is asked for than whoever reads the list takes.

use std::sync::Arc;

use dd_proto::site::Site;

use super::produced::Items;
use crate::dispatch::{Handle, SiteView};

/// Puts these sites where the items go, each as `shown` has it, until nobody takes them any more.
pub(super) async fn one_by_one<T>(
    sites: Vec<Arc<Site>>,
    dispatch: &Handle,
    items: &Items<T>,
    shown: impl Fn(&Site, Option<SiteView>) -> T,
) {
    for site in sites {
        let view = dispatch.site_view(site.name.clone()).await;
        if items.send(Ok(shown(&site, view))).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use dd_proto::site::Hold;
    use jiff::Timestamp;
    use tokio::sync::mpsc;
    use tokio::time::Instant;

    use super::*;
    use crate::dispatch::simulation::site;
    use crate::dispatch::{self, ClockMemory};
    use crate::zoo::queue::Queue;

    const SITES: u64 = 10_000;

    fn all_sites() -> Vec<Arc<Site>> {
        (0..SITES).map(|n| Arc::new(site(n))).collect()
    }

    fn dispatching() -> Handle {
        let settings = dispatch::Settings {
            start_number: 1,
            clock: ClockMemory::default(),
            notifier: crate::dsn::samples::notifier(),
        };
        let store = Queue::new(Instant::now());
        let (handle, run) = dispatch::start(settings, store, all_sites(), Vec::new());
        tokio::spawn(run);
        handle
    }

    #[tokio::test]
    async fn what_happens_while_sites_are_listed_is_taken_between_two_of_them() {
        let dispatch = dispatching();
        let (items, mut listed) = mpsc::channel(4);
        let asking = dispatch.clone();
        tokio::spawn(async move {
            let state = |_: &Site, view: Option<SiteView>| view.unwrap().state;
            one_by_one(all_sites(), &asking, &items, state).await;
        });
        let first = listed.recv().await.unwrap().unwrap();
        let hold = Hold {
            by: "anna".to_owned(),
            until: None,
            since: Timestamp::UNIX_EPOCH,
        };
        let last = Site {
            hold: Some(hold),
            ..site(SITES - 1)
        };
        dispatch.site_changed(Arc::new(last)).await;
        let mut states = vec![first];
        while let Some(state) = listed.recv().await {
            states.push(state.unwrap());
        }
        assert_eq!(states.len() as u64, SITES);
        assert_eq!((states[0], *states.last().unwrap()), ("idle", "held"));
    }
}

//! Room in the queues of sites with a quota, kept for a message from its end until it is in the queue: so many messages
//! may end at once that each alone would fit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dd_proto::name::SiteName;
use dd_proto::site::Site;

use super::policy::{self, Usage};

/// What is kept, for each site of which anything is.
#[derive(Debug, Default)]
pub struct Quotas(Mutex<HashMap<SiteName, Usage>>);

/// Room for one message; given back when dropped.
#[derive(Debug)]
pub struct Kept {
    quotas: Arc<Quotas>,
    bytes: u64,
    sites: Vec<SiteName>,
}

impl Quotas {
    /// Room for a message of that many bytes, in no queue yet.
    pub fn message(self: &Arc<Self>, bytes: u64) -> Kept {
        Kept {
            quotas: self.clone(),
            bytes,
            sites: Vec::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SiteName, Usage>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Keeps room in the queue of a site, and says whether there was some. `usage`, what waits there, is asked for while
    /// nobody else keeps room or gives it back: read before, it would lack what another session has brought meanwhile.
    pub fn in_queue_of(&mut self, site: &Site, usage: impl FnOnce() -> Usage) -> bool {
        let limits = &site.limits;
        if limits.quota_messages.is_none() && limits.quota_bytes.is_none() {
            return true;
        }
        let mut kept = self.quotas.lock();
        let usage = usage();
        let of_site = kept.get(&site.name).copied().unwrap_or_default();
        let taken = Usage {
            messages: usage.messages.saturating_add(of_site.messages),
            bytes: usage.bytes.saturating_add(of_site.bytes),
        };
        if policy::is_full(site, taken, self.bytes) {
            return false;
        }
        let of_site = kept.entry(site.name.clone()).or_default();
        of_site.messages += 1;
        of_site.bytes = of_site.bytes.saturating_add(self.bytes);
        self.sites.push(site.name.clone());
        true
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let mut kept = self.quotas.lock();
        for site in &self.sites {
            let Some(of_site) = kept.get_mut(site) else {
                continue;
            };
            of_site.messages -= 1;
            of_site.bytes = of_site.bytes.saturating_sub(self.bytes);
            if of_site.messages == 0 {
                kept.remove(site);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inflow;

    #[test]
    fn messages_that_end_at_once_share_what_is_left() {
        let mut site = inflow::closed(&"home.example".parse().unwrap());
        site.limits.quota_bytes = Some(1000);
        let usage = Usage {
            messages: 5,
            bytes: 500,
        };
        let quotas = Arc::new(Quotas::default());
        let (mut first, mut second) = (quotas.message(300), quotas.message(300));
        assert!(first.in_queue_of(&site, || usage));
        assert!(!second.in_queue_of(&site, || usage));
        drop(first);
        assert!(second.in_queue_of(&site, || usage));
        drop(second);
        assert!(quotas.lock().is_empty());
        site.limits.quota_messages = Some(6);
        let (mut first, mut second) = (quotas.message(1), quotas.message(1));
        assert!(first.in_queue_of(&site, || usage));
        assert!(!second.in_queue_of(&site, || usage));
    }

    #[test]
    fn what_waits_is_asked_for_while_nobody_gives_room_back() {
        let mut site = inflow::closed(&"home.example".parse().unwrap());
        site.limits.quota_messages = Some(1);
        let quotas = Arc::new(Quotas::default());
        let kept = quotas.message(1).in_queue_of(&site, || {
            assert!(quotas.0.try_lock().is_err());
            Usage::default()
        });
        assert!(kept);
    }
}

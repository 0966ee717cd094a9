//! Sites whose removal is under way. A removal goes on when whoever asked for it is gone, so a second one could end, or open
//! the site again under, what the first has begun.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dd_proto::name::SiteName;

/// At most one removal for each site.
#[derive(Debug, Default)]
pub struct Removals(Mutex<HashSet<SiteName>>);

/// One of them; over when it is dropped.
#[derive(Debug)]
pub(super) struct Removal<'a> {
    of: &'a Removals,
    site: SiteName,
}

impl Removals {
    /// None: the site is being removed already.
    pub(super) fn begin(&self, site: &SiteName) -> Option<Removal<'_>> {
        self.lock().insert(site.clone()).then(|| Removal {
            of: self,
            site: site.clone(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<SiteName>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Removal<'_> {
    fn drop(&mut self) {
        self.of.lock().remove(&self.site);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_removed_by_one_at_a_time() {
        let (removals, home) = (Removals::default(), "home".parse().unwrap());
        let first = removals.begin(&home);
        assert!(first.is_some());
        assert!(removals.begin(&home).is_none());
        assert!(removals.begin(&"other".parse().unwrap()).is_some());
        drop(first);
        assert!(removals.begin(&home).is_some());
    }
}

//! Who changes the registry: one change at a time, each a task of its own that runs to its end.
//!
//! Whoever asks for a change may go away while it is made: an administrator presses Ctrl-C, a connection ends, and the
//! future that waits is dropped where it stands. A change that ended there could be durable and shown to nobody, or have
//! reached some sites and not the rest. So nobody's future holds one: it only waits for the answer.
//!
//! # Invariants
//! - Only a [`Change`] writes, there is one at a time, and none is made outside of [`Changes::run`].
//! - A change that panics ends the process: how far it came is on the disk, and the next start reads it.
//!
//! # Not here
//! What is changed: beside the records, in [`super::sites`], [`super::agents`] and so on.

use std::ops::Deref;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::Registry;
use super::audit::{self, Audit};
use super::authorities::{Authority, Origin};
use super::greeted::Greeted;
use crate::authority::keys::Keys as SigningKeys;
use crate::config::SiteDefaults;
use crate::dispatch::Handle;
use crate::store::Store;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The way to a change. A clone is the same one.
#[derive(Debug, Clone)]
pub struct Editor {
    pub(super) registry: Registry,
    pub(super) store: Store,
    pub(super) dispatch: Handle,
    pub(super) defaults: SiteDefaults,
    pub(super) audit: Arc<Audit>,
    pub(super) keys: SigningKeys,
    /// Agents of which dispatch is about to hear.
    pub(super) greeted: Greeted,
    /// Held over a whole change, so that dispatch hears of changes in the order in which they were stored.
    changing: Arc<Mutex<()>>,
    begun: mpsc::UnboundedSender<Work>,
    /// How many have begun and not ended.
    running: Arc<watch::Sender<usize>>,
}

/// A change that is being made. As long as it is there, no other one is.
#[derive(Debug)]
pub struct Change {
    editor: Editor,
    _alone: OwnedMutexGuard<()>,
}

impl Deref for Change {
    type Target = Editor;

    fn deref(&self) -> &Editor {
        &self.editor
    }
}

/// Where changes run.
pub struct Changes(mpsc::UnboundedReceiver<Work>);

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Changes").finish_non_exhaustive()
    }
}

impl Changes {
    /// Returns when no editor is left, or when a change has panicked.
    pub async fn run(mut self) {
        let mut running = JoinSet::new();
        loop {
            tokio::select! {
                begun = self.0.recv() => match begun {
                    Some(work) => {
                        running.spawn(work);
                    }
                    None => break,
                },
                Some(ended) = running.join_next() => if ended.is_err() {
                    return;
                },
            }
        }
        while running.join_next().await.is_some_and(|ended| ended.is_ok()) {}
    }
}

/// Counts as running until it is dropped, whatever becomes of the work.
struct Running(Arc<watch::Sender<usize>>);

impl Running {
    fn new(running: &Arc<watch::Sender<usize>>) -> Self {
        running.send_modify(|number| *number += 1);
        Self(running.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|number| *number -= 1);
    }
}

impl Editor {
    /// Changes are made as long as [`Changes::run`] is polled.
    pub fn new(
        registry: Registry,
        store: Store,
        dispatch: Handle,
        defaults: SiteDefaults,
        audit: Audit,
        keys: SigningKeys,
    ) -> (Self, Changes) {
        let (begun, to_run) = mpsc::unbounded_channel();
        let editor = Self {
            registry,
            store,
            dispatch,
            defaults,
            audit: Arc::new(audit),
            keys,
            greeted: Greeted::default(),
            changing: Arc::default(),
            begun,
            running: Arc::default(),
        };
        (editor, Changes(to_run))
    }

    /// Makes a change, and returns what came of it. Once it was polled, the change is made whoever waits for it.
    pub async fn change<T, F>(&self, change: impl FnOnce(Change) -> F + Send + 'static) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let editor = self.clone();
        let changing = async move {
            let _alone = editor.changing.clone().lock_owned().await;
            change(Change { editor, _alone }).await
        };
        self.to_its_end(changing).await
    }

    /// Does something of several steps, changes among them, to its end whoever waits for it.
    pub async fn to_its_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let (tell, told) = oneshot::channel();
        let running = Running::new(&self.running);
        let work = async move {
            let _running = running;
            // Nobody may wait for it any more.
            let _ = tell.send(work.await);
        };
        let _ = self.begun.send(Box::pin(work));
        match told.await {
            Ok(came) => came,
            // It panicked, or the process stops: either way nobody is answered any more.
            Err(_) => std::future::pending().await,
        }
    }

    /// Returns when nothing is being changed.
    pub async fn idle(&self) {
        let mut running = self.running.subscribe();
        // The sender lives as long as `self`.
        let _ = running.wait_for(|number| *number == 0).await;
    }

    /// Where the key of an authority's certificate should be and is not; None for one that is not ours.
    pub fn missing_key(&self, authority: &Authority, certificate: &[u8]) -> Option<PathBuf> {
        match authority.origin {
            Origin::Imported => None,
            Origin::Own { .. } => self.keys.missing(&authority.name, certificate),
        }
    }

    /// What lacks something that only a backup or a roll-over brings back, one sentence each.
    pub fn alarms(&self) -> Vec<String> {
        let authorities = self.registry.authorities();
        let missing = authorities.iter().flat_map(|authority| {
            let certificates = authority.certificates.iter();
            certificates.filter_map(|der| {
                let path = self.missing_key(authority, der)?;
                Some(format!(
                    "the key {} of the authority `{name}` is missing: restore it from a backup, or roll the authority over with `ddadm ca rollover {name}`",
                    path.display(),
                    name = authority.name,
                ))
            })
        });
        missing.collect()
    }

    /// The newest lines of the audit.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn audited(&self, last: usize) -> std::io::Result<Vec<audit::Entry>> {
        let audit = self.audit.clone();
        let reading = tokio::task::spawn_blocking(move || audit.last(last));
        reading.await.map_err(std::io::Error::other)?
    }

    /// Returns when what was done so far is in the audit, on the disk.
    pub async fn audit_synced(&self) {
        self.audit.synced().await;
    }

    /// For what changes the queue and not the registry.
    pub fn audit(&self, at: Timestamp, who: &str, what: &str) {
        self.audit.record(at, who, what);
    }
}

#[cfg(test)]
mod tests;

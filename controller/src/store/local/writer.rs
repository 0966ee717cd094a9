//! The thread that owns the tail of a log: takes all that waits, one write and one sync, then answers all.
//!
//! # Invariants
//! - A request is answered after its records are synced, in the order of the log; only then the next commit begins.
//! - After the first error every request fails, and `failed` says so.

use std::thread::JoinHandle;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};

use super::log::{Log, NewRecord, Written};
use crate::store::LogFailed;

/// Requests that wait; more make their senders wait.
const WAITING: usize = 4096;
/// Records of a commit and bytes of it: behind that the next begins, so that nobody waits for ever.
const MAX_RECORDS: usize = 4096;
const MAX_BYTES: usize = 8 << 20;

/// Runs on the writer's thread, before any record of a later commit is written.
type Then = Box<dyn FnOnce(Result<&[Written], LogFailed>) + Send>;

struct Request {
    records: Vec<NewRecord>,
    then: Then,
}

/// Hands records to the writer. Dropped, it waits for the last commit.
#[derive(Debug)]
pub(crate) struct Writer {
    /// None only while it is dropped.
    requests: Option<mpsc::Sender<Request>>,
    failed: watch::Receiver<bool>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Request({} records)", self.records.len())
    }
}

impl Writer {
    /// # Errors
    /// The thread cannot be made.
    pub(crate) fn spawn(name: &str, log: Log) -> std::io::Result<Self> {
        let (requests, waiting) = mpsc::channel(WAITING);
        let (failure, failed) = watch::channel(false);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(log, waiting, &failure))?;
        Ok(Self {
            requests: Some(requests),
            failed,
            thread: Some(thread),
        })
    }

    /// Hands the records over as part of one commit; `then` runs when it is synced or has failed.
    ///
    /// # Errors
    /// The writer has ended.
    pub(crate) async fn send(
        &self,
        records: Vec<NewRecord>,
        then: impl FnOnce(Result<&[Written], LogFailed>) + Send + 'static,
    ) -> Result<(), LogFailed> {
        if *self.failed.borrow() {
            return Err(LogFailed);
        }
        let then = Box::new(then);
        let requests = self.requests.as_ref().ok_or(LogFailed)?;
        let sent = requests.send(Request { records, then }).await;
        sent.map_err(|_| LogFailed)
    }

    /// Resolves when the log has failed.
    pub(crate) async fn failed(&self) {
        let mut failed = self.failed.clone();
        if failed.wait_for(|failed| *failed).await.is_err() {
            // The writer has ended in order: nothing fails any more.
            std::future::pending::<()>().await;
        }
    }

    pub(crate) fn has_failed(&self) -> bool {
        *self.failed.borrow()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the writer was reported when it happened.
            let _ = thread.join();
        }
    }
}

fn run(mut log: Log, mut waiting: mpsc::Receiver<Request>, failure: &watch::Sender<bool>) {
    while let Some(first) = waiting.blocking_recv() {
        let (records, thens) = gather(first, &mut waiting);
        if records.is_empty() {
            for (_, then) in thens {
                then(Ok(&[]));
            }
            continue;
        }
        match log.commit(&records, wall_ms()) {
            Ok(written) => answer(thens, &written),
            Err(error) => {
                if !failure.send_replace(true) {
                    tracing::error!(%error, "the log cannot be written: nothing is accepted any more");
                }
                for (_, then) in thens {
                    then(Err(LogFailed));
                }
            }
        }
    }
}

/// The commit: everything that waits, up to its bounds.
fn gather(
    first: Request,
    waiting: &mut mpsc::Receiver<Request>,
) -> (Vec<NewRecord>, Vec<(usize, Then)>) {
    let mut records = Vec::new();
    let mut thens = Vec::new();
    let mut bytes = 0;
    let mut next = Some(first);
    while let Some(request) = next {
        bytes += request.records.iter().map(NewRecord::len).sum::<usize>();
        thens.push((request.records.len(), request.then));
        records.extend(request.records);
        if records.len() >= MAX_RECORDS || bytes >= MAX_BYTES {
            break;
        }
        next = waiting.try_recv().ok();
    }
    (records, thens)
}

fn answer(thens: Vec<(usize, Then)>, written: &[Written]) {
    let mut rest = written;
    for (count, then) in thens {
        let (own, others) = rest.split_at(count);
        rest = others;
        then(Ok(own));
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the writer's loop reads the wall clock once for each commit"
)]
fn wall_ms() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0)
}

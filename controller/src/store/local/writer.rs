//! The writer: one thread owns the tail of the queue log, and every request that waits shares one commit.
//!
//! # Invariants
//! - Nobody is answered before the commit is synced, and all are answered before the next one begins.
//! - The index learns of a record before its writer's caller is answered: what was accepted can be found.
//! - After a failed commit every request fails, and the failure is told once.
//! - Mail is answered before settlements and notes of the same commit, for those may wait for the index.
//! - Short of space, a note that only says how often and when is not written: the reserve is for what settles mail.
//! - Where even the reserve is used up, settlements and notes wait for room, and nothing comes in meanwhile: what a site has
//!   accepted is in its agent's journal until it is told. They are written in order, as many as there is room for. Only
//!   an error other than that ends the process.
//! - A commit waits for company only where the one before had some, and no longer than [`LONGEST`]
//!   (docs/decisions/0063-a-commit-waits-for-company.md).

mod request;

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, watch};

use super::body;
use super::clean::{CleanError, Cleaner, Press, Turn};
use super::index::Index;
use super::log::{AppendError, Log, NewRecord, Written};
use super::meter::Meter;
use super::reaper::Reaper;
use super::spares::RESERVE;
use super::wall::Times;
use crate::intake::accept::AcceptError;
use crate::store::Waiting;

pub(crate) use request::{Owing, Request};

/// A commit takes no more requests, or bytes, than these: the first one should not wait for the last.
const MAX_REQUESTS: usize = 512;
const MAX_BYTES: u64 = 8 << 20;
/// Messages that came in with one commit, from which on more are likely to be on their way.
const COMPANY: usize = 3;
/// Behind a commit, for so long.
const RECENT: Duration = Duration::from_millis(10);
/// For how long a commit waits for them at most; the system adds some 50 µs.
const LONGEST: Duration = Duration::from_micros(500);
/// How often what found no room at all is tried again.
const FULL_AGAIN: Duration = Duration::from_millis(200);

/// Everything the thread owns.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) log: Log,
    pub(crate) index: Arc<Index>,
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) failed: watch::Sender<bool>,
    pub(crate) reaper: Reaper,
    pub(crate) times: Arc<Times>,
    pub(crate) cleaner: Cleaner,
    pub(crate) meter: Arc<Meter>,
    pub(crate) start: u64,
    pub(crate) before: Option<Before>,
    /// Settlements and notes that found no room, in order.
    pub(crate) owed: Vec<Request>,
    pub(crate) room: Room,
}

/// Whether what is owed finds room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Room {
    /// Nothing waits for any.
    #[default]
    Enough,
    /// The last commit found some, and not all that is owed was written.
    Scarce,
    Missing,
}

/// What the writer does next.
enum Next {
    Take(Request),
    /// What is owed is tried again.
    Again,
    /// The last sender is gone.
    End,
}

/// The commit before the next one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Before {
    /// Messages that came in with it.
    mail: usize,
    took: Duration,
    ended: Instant,
}

impl Before {
    /// How long the next one waits for those that are on their way, `since` the last one ended: where there were
    /// several just now, as long as a commit of their own would take. A message that comes alone waits for nobody.
    fn wait(self, since: Duration) -> Duration {
        match self.mail >= COMPANY && since < RECENT {
            true => self.took.min(LONGEST),
            false => Duration::ZERO,
        }
    }
}

impl Writer {
    /// Until the last sender is gone, or Close.
    pub(crate) fn run(mut self) {
        loop {
            match self.next() {
                Next::Take(first) => {
                    self.wait_for_company();
                    if self.turn(first).is_break() {
                        return;
                    }
                }
                Next::Again => self.commit(&mut Vec::new()),
                Next::End => return,
            }
        }
    }

    fn wait_for_company(&self) {
        if let Some(before) = self.before {
            let wait = before.wait(before.ended.elapsed());
            if !wait.is_zero() {
                thread::sleep(wait);
            }
        }
    }

    /// One commit, if anything waits for it; or else a slice of cleaning.
    #[cfg(test)]
    pub(crate) fn step(&mut self) {
        match self.requests.try_recv() {
            Ok(first) => {
                let _ = self.turn(first);
            }
            Err(_) => {
                self.commit(&mut Vec::new());
                self.clean(Press::Idle);
            }
        }
    }

    fn turn(&mut self, first: Request) -> ControlFlow<()> {
        let mut group = Vec::new();
        self.gather(first, &mut group);
        let close = group.pop_if(|last| matches!(last, Request::Close { .. }));
        self.commit(&mut group);
        if let Some(Request::Close { answer }) = close {
            while !self.owed.is_empty() && self.room != Room::Missing {
                self.commit(&mut Vec::new());
            }
            // Nobody may listen any more; the commit stands all the same.
            let _ = answer.send(self.log.end());
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    /// While nobody waits there is time to clean.
    fn next(&mut self) -> Next {
        loop {
            match self.requests.try_recv() {
                Ok(request) => return Next::Take(request),
                Err(TryRecvError::Disconnected) => return Next::End,
                Err(TryRecvError::Empty) if self.clean(Press::Idle) == Turn::Worked => {}
                Err(TryRecvError::Empty) if !self.owed.is_empty() => {
                    if self.room == Room::Missing {
                        thread::sleep(FULL_AGAIN);
                    }
                    return Next::Again;
                }
                Err(TryRecvError::Empty) => {
                    let next = self.requests.blocking_recv();
                    return next.map_or(Next::End, Next::Take);
                }
            }
        }
    }

    /// A slice of cleaning, where it is time for one.
    fn clean(&mut self, press: Press) -> Turn {
        if *self.failed.borrow() {
            return Turn::NothingToDo;
        }
        let turn = self.cleaner.turn(&mut self.log, press, &self.times);
        self.meter.cleaned(&self.cleaner);
        self.meter.rolled(self.log.rolled);
        match turn {
            Ok(turn) => turn,
            Err(CleanError::Append(AppendError::Full)) => Turn::NothingToDo,
            Err(error) => {
                self.fail(&error);
                Turn::NothingToDo
            }
        }
    }

    /// The first request, and what waits behind it; Close ends a group.
    fn gather(&mut self, first: Request, group: &mut Vec<Request>) {
        let mut bytes = first.bytes();
        let mut closing = matches!(first, Request::Close { .. });
        group.push(first);
        let most = self.most();
        while !closing && group.len() < MAX_REQUESTS && bytes < most {
            let Ok(next) = self.requests.try_recv() else {
                return;
            };
            bytes += next.bytes();
            closing = matches!(next, Request::Close { .. });
            group.push(next);
        }
    }

    /// Bytes of a commit. Of small segments it fills a part: it needs no more than one new one.
    fn most(&self) -> u64 {
        MAX_BYTES.min(self.log.tail_bytes() / 4)
    }

    /// Writes what is owed and the group behind it, as much of both as one commit takes.
    fn commit(&mut self, group: &mut Vec<Request>) {
        if !self.owed.is_empty() {
            group.splice(..0, self.owed.drain(..));
            self.leave_unwritten(group);
            self.put_off(group);
        } else {
            self.leave_unwritten(group);
        }
        let mut leave = 0;
        if group.iter().any(Request::is_mail) {
            leave = RESERVE;
            if !self.log.takes_mail(bytes_of(group)) {
                refuse_mail(group);
                leave = 0;
            }
        }
        self.write(group, leave);
    }

    /// What is more than one commit takes is owed on, and mail does not overtake it.
    fn put_off(&mut self, group: &mut Vec<Request>) {
        let (most, mut bytes) = (self.most(), 0);
        let now = group.iter().take(MAX_REQUESTS).take_while(|request| {
            let fits = bytes < most;
            bytes += request.bytes();
            fits
        });
        let now = now.count();
        let mut later = group.split_off(now);
        refuse_mail(&mut later);
        self.owed.splice(..0, later);
    }

    fn write(&mut self, group: &mut Vec<Request>, leave: usize) {
        let records = records_of(group);
        if records.is_empty() {
            return group.clear();
        }
        let begun = stopwatch();
        match self.log.append(&records, leave, self.times.written_ms()) {
            Ok(written) => {
                let bytes = records.iter().map(NewRecord::len).sum();
                let took = begun.elapsed();
                let mail = group.iter().filter(|request| request.is_mail()).count();
                self.before = Some(Before {
                    mail,
                    took,
                    ended: begun + took,
                });
                self.room = match self.owed.is_empty() {
                    true => Room::Enough,
                    false => Room::Scarce,
                };
                self.meter.committed(records.len() as u64, bytes, took);
                let slices = self.cleaner.earn(bytes);
                let mut at = 0;
                let placed = group.drain(..).map(|request| {
                    let from = at;
                    at += request.number();
                    (from, request)
                });
                let (mail, rest): (Vec<_>, Vec<_>) =
                    placed.partition(|(_, request)| request.is_mail());
                for (from, request) in mail.into_iter().chain(rest) {
                    self.apply(request, &mut written[from..].iter().copied());
                }
                for _ in 0..slices {
                    if self.clean(Press::Busy) == Turn::NothingToDo {
                        break;
                    }
                }
            }
            Err(AppendError::Full) if leave > 0 => {
                // Another try without the mail finds room in the reserve.
                refuse_mail(group);
                self.write(group, 0);
            }
            Err(AppendError::Full) => {
                self.room_is_missing();
                // What room there is may do for fewer.
                let later = group.split_off(group.len() / 2);
                self.owed.splice(..0, later);
                if !group.is_empty() {
                    self.write(group, 0);
                }
            }
            Err(error) => {
                self.fail(&error);
                let refused = group.drain(..);
                refused.for_each(|request| request.refuse(AcceptError::LogFailed));
            }
        }
    }

    fn room_is_missing(&mut self) {
        if self.room == Room::Enough {
            tracing::warn!(
                "the disk is full to the last segment: what became of mail is written when there is room"
            );
        }
        self.room = Room::Missing;
    }

    /// Short of space, notes that say nothing a start must know are for the index only. What is lost if the process ends
    /// before they are written again is how often, and when next, a delivery was tried. None of a delivery about which
    /// something before it is still to be written: the index would go back to that one when it is.
    fn leave_unwritten(&self, group: &mut Vec<Request>) {
        let has_notes = group.iter().any(Request::is_note);
        if !has_notes || self.log.takes_mail(bytes_of(group)) || !self.log.spares().is_full() {
            return;
        }
        let mut owing = HashSet::new();
        for request in group.iter_mut() {
            let Request::Note { batch, .. } = request else {
                request.add_settled(&mut owing);
                continue;
            };
            batch.retain(|Owing { envelope, .. }| {
                if owing.contains(&envelope.delivery()) {
                    return true;
                }
                match self.index.knows_but_for_attempts(envelope) {
                    Ok(false) => {
                        owing.insert(envelope.delivery());
                        return true;
                    }
                    Ok(true) => {}
                    Err(error) => self.fail(&error),
                }
                if let Err(error) = self.index.noted(envelope) {
                    self.fail(&error);
                }
                false
            });
        }
        let is_done = |request: &mut Request| matches!(request, Request::Note { batch, .. } if batch.is_empty());
        for request in group.extract_if(.., is_done) {
            self.apply(request, &mut std::iter::empty());
        }
    }

    fn fail(&self, error: &dyn std::fmt::Display) {
        if !self.failed.send_replace(true) {
            tracing::error!(%error, "the queue log cannot be written; nothing more is accepted");
        }
    }

    /// Tells the index, then the caller. Callers that went away need no answer.
    fn apply(&self, request: Request, written: &mut impl Iterator<Item = Written>) {
        match request {
            Request::Accept {
                accepted,
                file,
                answer,
                ..
            } => {
                if let Some(file) = file {
                    file.keep();
                }
                if let Some(written) = written.next() {
                    let waiting = self.index.accepted(&accepted, written, self.start);
                    let _ = answer.send(Ok(waiting));
                }
            }
            Request::Settle { batch, answer } => {
                let mut accepted = Vec::new();
                for Owing { envelope, .. } in &batch {
                    accepted.extend(self.notify(envelope.dsn.as_ref(), written.next()));
                    match self.index.settled(envelope) {
                        Ok(Some(file)) => self.reaper.unlink(&file),
                        Ok(None) => {}
                        Err(error) => self.fail(&error),
                    }
                }
                let _ = answer.send(Ok(accepted));
            }
            Request::Note { batch, answer } => {
                let mut accepted = Vec::new();
                for Owing { envelope, .. } in &batch {
                    accepted.extend(self.notify(envelope.dsn.as_ref(), written.next()));
                    if let Err(error) = self.index.noted(envelope) {
                        self.fail(&error);
                    }
                }
                let _ = answer.send(Ok(accepted));
            }
            Request::Close { .. } => {}
        }
    }

    /// The notification becomes known before what it is about is gone.
    fn notify(&self, dsn: Option<&body::Accepted>, written: Option<Written>) -> Vec<Waiting> {
        match (dsn, written) {
            (Some(dsn), Some(written)) => self.index.accepted(dsn, written, self.start),
            _ => Vec::new(),
        }
    }
}

fn bytes_of(group: &[Request]) -> u64 {
    group.iter().map(Request::bytes).sum()
}

fn refuse_mail(group: &mut Vec<Request>) {
    let mail = group.extract_if(.., |request| request.is_mail());
    mail.for_each(|request| request.refuse(AcceptError::Full));
}

fn records_of(group: &[Request]) -> Vec<NewRecord> {
    group.iter().flat_map(Request::records).collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the writer is a loop; it measures how long a commit takes"
)]
fn stopwatch() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod room_tests;
#[cfg(test)]
mod tests;

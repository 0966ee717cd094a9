//! A disk in memory that knows what was synced and what was not: the power can be cut at any operation, and any
//! operation can fail. For tests.
//!
//! After a power cut a file holds what was synced, and of what was not any part: each sector of 512 bytes old, new, or
//! zero where the file grew. Names that were not synced are there or not, whatever order they came in.
//!
//! # Invariants
//! - A disk whose power was cut does nothing more: handles of before fail.
//! - What a failed sync left behind is never made durable by a later one.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::{Rng, RngExt as _};
use rustix::io::Errno;

use super::{Disk, DiskFile, Lock, Room, SharedFile};

const SECTOR: u64 = 512;

/// What happens to an operation that changes or syncs something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It fails with this error, and those behind it do not.
    Once(io::ErrorKind),
    /// It and every later one fail.
    FromThen(io::ErrorKind),
    /// The power is cut in front of it: it and everything later fail.
    Cut,
}

/// A sync that says it worked and did nothing: what a missing call would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    Files,
    Names,
}

#[derive(Debug, Clone, Default)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Len(u64),
}

#[derive(Debug, Clone)]
enum Naming {
    Add(PathBuf, u64),
    Remove(PathBuf),
    Move(PathBuf, PathBuf),
}

#[derive(Debug, Default)]
struct State {
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    unsynced_names: Vec<Naming>,
    locked: Arc<Mutex<BTreeSet<PathBuf>>>,
    /// Operations that changed or synced something.
    operations: u64,
    fault: Option<(u64, Fault)>,
    /// Of them, those that synced a file.
    syncs: u64,
    capacity: Option<u64>,
    /// The same, and the file system does not tell of it.
    quota: Option<u64>,
    lie: Option<Lie>,
    /// Parts of files that cannot be read.
    unreadable: Vec<(u64, Range<u64>)>,
    /// So many reads fail, whatever they are of.
    failing_reads: u64,
    /// Reads that have failed.
    refused_reads: u64,
    bytes_read: u64,
    dead: bool,
}

/// The disk. A clone is the same disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct MemoryFile {
    disk: MemoryDisk,
    inode: u64,
}

#[derive(Debug)]
struct MemoryLock(Arc<Mutex<BTreeSet<PathBuf>>>, PathBuf);

impl Lock for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        let mut locked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        locked.remove(&self.1);
    }
}

impl MemoryDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many operations changed or synced something so far.
    pub(crate) fn operations(&self) -> u64 {
        self.state().operations
    }

    /// The operation with this number, counted as by [`Self::operations`], meets a fault.
    pub(crate) fn at(&self, operation: u64, fault: Fault) {
        self.state().fault = Some((operation, fault));
    }

    pub(crate) fn heal(&self) {
        self.state().fault = None;
    }

    /// Files take no more than this together.
    pub(crate) fn set_capacity(&self, bytes: u64) {
        self.state().capacity = Some(bytes);
    }

    /// The same as a quota has it: what is said to be free is not for us.
    pub(crate) fn set_quota(&self, bytes: u64) {
        self.state().quota = Some(bytes);
    }

    /// How many times a file was synced so far.
    pub(crate) fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// From now on, and after a power cut too.
    pub(crate) fn lie(&self, lie: Lie) {
        self.state().lie = Some(lie);
    }

    /// A read that touches this part of a file fails from now on, after a power cut too.
    pub(crate) fn unreadable(&self, path: &Path, range: Range<u64>) {
        let mut state = self.state();
        let inode = state.names[path];
        state.unreadable.push((inode, range));
    }

    /// Whatever could not be read can be.
    pub(crate) fn can_be_read_again(&self) {
        self.state().unreadable.clear();
    }

    /// The next reads fail, and those behind them do not.
    pub(crate) fn fail_reads(&self, number: u64) {
        self.state().failing_reads = number;
    }

    /// How many reads have failed so far.
    pub(crate) fn refused_reads(&self) -> u64 {
        self.state().refused_reads
    }

    /// How many bytes were read so far.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.state().bytes_read
    }

    /// The files there are, in order.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }

    /// What a file holds, whether it can be read or not.
    pub(crate) fn bytes_of(&self, path: &Path) -> Vec<u8> {
        let state = self.state();
        state.inodes[&state.names[path]].now.clone()
    }

    /// How long a file is.
    pub(crate) fn len_of(&self, path: &Path) -> u64 {
        let state = self.state();
        state.inodes[&state.names[path]].now.len() as u64
    }

    /// Bytes in all files.
    pub(crate) fn used(&self) -> u64 {
        self.state().used()
    }

    /// Changes bytes of a file behind the store's back, durably.
    pub(crate) fn damage(&self, path: &Path, change: impl Fn(&mut Vec<u8>)) {
        let mut state = self.state();
        let inode = state.names[path];
        let file = state.inodes.get_mut(&inode).expect("names have inodes");
        change(&mut file.now);
        change(&mut file.durable);
    }

    /// The disk as it is after the power was cut now. This one does nothing more.
    pub(crate) fn power_cut(&self, rng: &mut impl Rng) -> Self {
        let mut state = self.state();
        state.dead = true;
        let mut after = State {
            names: state.durable_names.clone(),
            next_inode: state.next_inode,
            capacity: state.capacity,
            lie: state.lie,
            unreadable: state.unreadable.clone(),
            ..State::default()
        };
        // All of the rest, none of it, the first ones, or any of them.
        let fate = rng.random_range(0..4);
        let first = rng.random_range(0..=state.unsynced_names.len());
        for (n, naming) in state.unsynced_names.iter().enumerate() {
            let survives = match fate {
                0 => false,
                1 => true,
                2 => n < first,
                _ => rng.random(),
            };
            if survives {
                after.rename(naming);
            }
        }
        after.durable_names = after.names.clone();
        for inode in after.names.values() {
            let now = state.inodes[inode].after_power_cut(rng);
            let durable = now.clone();
            let unsynced = Vec::new();
            let file = Inode {
                now,
                durable,
                unsynced,
            };
            after.inodes.insert(*inode, file);
        }
        Self(Arc::new(Mutex::new(after)))
    }

    /// The disk as it is after the process was killed now. This one does nothing more.
    pub(crate) fn killed(&self) -> Self {
        let copy = self.copied();
        self.state().dead = true;
        copy
    }

    /// Another disk, as this one is now.
    pub(crate) fn copied(&self) -> Self {
        let state = self.state();
        Self(Arc::new(Mutex::new(State {
            inodes: state.inodes.clone(),
            next_inode: state.next_inode,
            names: state.names.clone(),
            durable_names: state.durable_names.clone(),
            unsynced_names: state.unsynced_names.clone(),
            capacity: state.capacity,
            unreadable: state.unreadable.clone(),
            ..State::default()
        })))
    }
}

impl Inode {
    fn after_power_cut(&self, rng: &mut impl Rng) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        let keep = rng.random_range(0..4);
        for change in &self.unsynced {
            match change {
                _ if keep == 0 => {}
                Change::Len(len) if keep == 1 || rng.random() => {
                    bytes.resize(index(*len), 0);
                }
                Change::Len(_) => {}
                Change::Write(offset, data) => torn(&mut bytes, *offset, data, keep, rng),
            }
        }
        bytes
    }

    fn apply(bytes: &mut Vec<u8>, change: &Change) {
        match change {
            Change::Len(len) => bytes.resize(index(*len), 0),
            Change::Write(offset, data) => {
                let end = index(*offset) + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[index(*offset)..end].copy_from_slice(data);
            }
        }
    }
}

/// Some sectors of a write, or all of them.
fn torn(bytes: &mut Vec<u8>, offset: u64, data: &[u8], keep: i32, rng: &mut impl Rng) {
    let end = offset + data.len() as u64;
    let mut at = offset;
    let stop = match keep {
        1 => end,
        _ => rng.random_range(offset..=end),
    };
    while at < end {
        let sector_end = (at / SECTOR + 1) * SECTOR;
        let to = sector_end.min(end);
        let survives = match keep {
            1 => true,
            2 => to <= stop,
            _ => rng.random(),
        };
        if survives {
            let part = &data[index(at - offset)..index(to - offset)];
            Inode::apply(bytes, &Change::Write(at, part.to_vec()));
        }
        at = to;
    }
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("files in memory are small")
}

impl State {
    fn used(&self) -> u64 {
        let files = self.names.values().map(|inode| &self.inodes[inode]);
        files.map(|file| file.now.len() as u64).sum()
    }

    /// In front of everything that changes or syncs something.
    fn operate(&mut self) -> io::Result<()> {
        self.alive()?;
        self.operations += 1;
        match self.fault {
            Some((at, Fault::Once(kind))) if at == self.operations => Err(kind.into()),
            Some((at, Fault::FromThen(kind))) if at <= self.operations => Err(kind.into()),
            Some((at, Fault::Cut)) if at == self.operations => {
                self.dead = true;
                self.alive()
            }
            _ => Ok(()),
        }
    }

    fn alive(&self) -> io::Result<()> {
        match self.dead {
            true => Err(io::Error::other("the power is off")),
            false => Ok(()),
        }
    }

    fn has_room(&self, more: u64) -> io::Result<()> {
        let most = self.capacity.into_iter().chain(self.quota).min();
        match most {
            Some(most) if self.used() + more > most => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    fn name(&mut self, naming: Naming) {
        self.rename(&naming);
        self.unsynced_names.push(naming);
    }

    fn rename(&mut self, naming: &Naming) {
        rename(&mut self.names, naming);
    }

    fn change(&mut self, inode: u64, change: Change) {
        let file = self.inodes.get_mut(&inode).expect("handles have inodes");
        Inode::apply(&mut file.now, &change);
        file.unsynced.push(change);
    }

    /// A disk puts what is written over a bad sector somewhere else.
    fn written_anew(&mut self, inode: u64, range: Range<u64>) {
        for (of, bad) in std::mem::take(&mut self.unreadable) {
            if of != inode || bad.end <= range.start || range.end <= bad.start {
                self.unreadable.push((of, bad));
                continue;
            }
            let left = [bad.start..range.start, range.end..bad.end];
            let left = left.into_iter().filter(|it| it.start < it.end);
            self.unreadable.extend(left.map(|it| (of, it)));
        }
    }

    fn sync(&mut self, inode: u64) -> io::Result<()> {
        let worked = self.operate();
        self.syncs += 1;
        if self.lie == Some(Lie::Files) {
            return worked;
        }
        let file = self.inodes.get_mut(&inode).expect("handles have inodes");
        let unsynced = match self.dead {
            true => return worked,
            false => std::mem::take(&mut file.unsynced),
        };
        worked?;
        for change in &unsynced {
            Inode::apply(&mut file.durable, change);
        }
        Ok(())
    }
}

fn rename(names: &mut BTreeMap<PathBuf, u64>, naming: &Naming) {
    match naming {
        Naming::Add(path, inode) => {
            names.insert(path.clone(), *inode);
        }
        Naming::Remove(path) => {
            names.remove(path);
        }
        Naming::Move(from, to) => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
    }
}

impl Disk for MemoryDisk {
    fn make_dir(&self, _: &Path) -> io::Result<()> {
        self.state().alive()
    }

    fn create(&self, path: &Path) -> io::Result<SharedFile> {
        let mut state = self.state();
        state.operate()?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.has_room(1)?;
        let inode = state.next_inode;
        state.next_inode += 1;
        state.inodes.insert(inode, Inode::default());
        state.name(Naming::Add(path.to_owned(), inode));
        let disk = self.clone();
        Ok(Arc::new(MemoryFile { disk, inode }))
    }

    fn open(&self, path: &Path) -> io::Result<SharedFile> {
        let state = self.state();
        state.alive()?;
        let inode = *state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        let disk = self.clone();
        Ok(Arc::new(MemoryFile { disk, inode }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        state.alive()?;
        let inside = state.names.keys().filter(|path| path.parent() == Some(dir));
        let names = inside.filter_map(|path| path.file_name()?.to_str().map(str::to_owned));
        Ok(names.collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.operate()?;
        if !state.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.name(Naming::Move(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.operate()?;
        if !state.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.name(Naming::Remove(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.operate()?;
        if state.lie == Some(Lie::Names) {
            return Ok(());
        }
        let all = std::mem::take(&mut state.unsynced_names);
        let (here, elsewhere): (Vec<_>, Vec<_>) = all.into_iter().partition(|naming| {
            let (Naming::Add(path, _) | Naming::Remove(path) | Naming::Move(_, path)) = naming;
            path.parent() == Some(dir)
        });
        state.unsynced_names = elsewhere;
        for naming in &here {
            rename(&mut state.durable_names, naming);
        }
        Ok(())
    }

    fn room(&self, _: &Path) -> io::Result<Room> {
        let state = self.state();
        state.alive()?;
        let total = state.capacity.unwrap_or(1 << 40);
        let free = total.saturating_sub(state.used());
        Ok(Room { free, total })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let state = self.state();
        state.alive()?;
        let mut locked = state.locked.lock().unwrap_or_else(PoisonError::into_inner);
        match locked.insert(path.to_owned()) {
            true => Ok(Box::new(MemoryLock(
                Arc::clone(&state.locked),
                path.to_owned(),
            ))),
            false => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl DiskFile for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        state.alive()?;
        if state.failing_reads > 0 {
            state.failing_reads -= 1;
            state.refused_reads += 1;
            return Err(Errno::IO.into());
        }
        let len = state.inodes[&self.inode].now.len();
        let from = index(offset).min(len);
        let read = buffer.len().min(len - from);
        let end = offset + read as u64;
        let meets = |(inode, range): &(u64, Range<u64>)| {
            *inode == self.inode && range.start < end && offset < range.end
        };
        if state.unreadable.iter().any(meets) {
            state.refused_reads += 1;
            return Err(Errno::IO.into());
        }
        state.bytes_read += read as u64;
        let bytes = &state.inodes[&self.inode].now;
        buffer[..read].copy_from_slice(&bytes[from..from + read]);
        Ok(read)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.operate()?;
        let len = state.inodes[&self.inode].now.len() as u64;
        state.has_room((offset + bytes.len() as u64).saturating_sub(len))?;
        state.written_anew(self.inode, offset..offset + bytes.len() as u64);
        state.change(self.inode, Change::Write(offset, bytes.to_vec()));
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let state = self.disk.state();
        state.alive()?;
        Ok(state.inodes[&self.inode].now.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.operate()?;
        state.change(self.inode, Change::Len(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.sync(self.inode)
    }

    fn sync_all(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.sync(self.inode)
    }
}

#[cfg(test)]
mod tests;

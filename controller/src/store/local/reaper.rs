//! Who removes the content files of what is settled: a thread of its own, for a file system takes its time for it.
//!
//! # Invariants
//! A stop waits for it: nobody looks for files that are left over but a start that reads the log.

use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use super::content::Contents;

/// Removes them in order.
#[derive(Debug)]
pub(crate) struct Reaper {
    contents: Contents,
    /// None: whoever asks does it.
    thread: Option<(Sender<String>, JoinHandle<()>)>,
}

impl Reaper {
    /// Removes a file before it returns.
    pub(crate) fn here(contents: Contents) -> Self {
        let thread = None;
        Self { contents, thread }
    }

    /// Leaves it to a thread from now on, where one can be started.
    pub(crate) fn begin(&mut self) {
        let (sender, names) = channel::<String>();
        let contents = self.contents.clone();
        let reaping = move || names.iter().for_each(|name| contents.unlink(&name));
        let builder = std::thread::Builder::new().name("content reaper".to_owned());
        self.thread = builder.spawn(reaping).ok().map(|thread| (sender, thread));
    }

    pub(crate) fn unlink(&self, name: &str) {
        match &self.thread {
            Some((sender, _)) if sender.send(name.to_owned()).is_ok() => {}
            _ => self.contents.unlink(name),
        }
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.thread.take() {
            drop(sender);
            // A panic there has been reported by its own hook.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::super::disk::Disk as _;
    use super::super::disk::memory::MemoryDisk;
    use super::*;

    #[test]
    fn whoever_drops_it_waits_until_all_is_removed() {
        let (disk, dir) = (MemoryDisk::default(), Path::new("/content"));
        let names: Vec<String> = (0..100).map(|n| format!("file-{n}")).collect();
        for name in &names {
            disk.create(&dir.join(name)).unwrap();
        }
        let mut reaper = Reaper::here(Contents::new(Arc::new(disk.clone()), dir));
        reaper.unlink(&names[0]);
        assert_eq!(disk.list(dir).unwrap().len(), 99);
        reaper.begin();
        names[1..].iter().for_each(|name| reaper.unlink(name));
        drop(reaper);
        assert!(disk.list(dir).unwrap().is_empty());
    }
}

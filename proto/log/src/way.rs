//! Where a program's log goes.

use std::io::{self, Stderr, Write};

use crate::journal::{self, Journal};
use crate::out::Sink;

/// Standard error as it is, or the journal that is behind it.
#[derive(Debug)]
pub enum Way {
    Stderr(Stderr),
    Journal(Journal),
}

impl Way {
    /// The journal where standard error leads there, and it can be reached directly.
    pub fn of_this_process() -> Self {
        let stderr = io::stderr();
        match journal::is_stderr(&stderr).then(|| Journal::beside(io::stderr())) {
            Some(Ok(journal)) => Self::Journal(journal),
            _ => Self::Stderr(stderr),
        }
    }
}

impl Write for Way {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stderr(stderr) => stderr.write(bytes),
            Self::Journal(journal) => journal.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stderr(stderr) => stderr.flush(),
            Self::Journal(journal) => journal.flush(),
        }
    }
}

impl Sink for Way {
    fn is_ready(&self) -> bool {
        match self {
            Self::Stderr(stderr) => stderr.is_ready(),
            Self::Journal(journal) => journal.is_ready(),
        }
    }

    fn is_by_line(&self) -> bool {
        match self {
            Self::Stderr(stderr) => stderr.is_by_line(),
            Self::Journal(journal) => journal.is_by_line(),
        }
    }
}

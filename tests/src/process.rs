//! A program that was started: its log as it comes, its memory, its end.

use std::io::{BufRead, BufReader, PipeReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::{PATIENCE, until};

/// A running program. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: Log,
    unread: Option<PipeReader>,
}

/// The lines a program wrote, shared with the thread that reads them.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

/// Is told every line that a program logs, as it comes. Only the newest lines of an observed program are kept here.
#[derive(Clone)]
pub struct Observer(Arc<dyn Fn(&str) + Send + Sync>);

impl Observer {
    pub fn new(tell: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observer")
    }
}

/// What a program meets at its standard error, instead of somebody who reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unheard {
    /// A pipe that nobody reads, until [`Process::is_heard`].
    Stopped,
    /// A pipe without another end.
    Gone,
    /// A disk without room.
    Full,
}

/// What `/proc` counts processor time in: USER_HZ is 100 on Linux.
const TICK_MS: u64 = 10;

/// How many lines of an observed program are kept, at least.
const KEPT: usize = 1_000;

impl Process {
    /// Starts `command`; what it writes to standard error is its log.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn start(name: &str, command: &mut Command) -> Self {
        Self::observed(name, command, None)
    }

    /// The same, and tells the observer what it logs.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn observed(name: &str, command: &mut Command, observer: Option<Observer>) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} cannot be started: {error} ({command:?})"));
        let stderr = child.stderr.take().expect("standard error is a pipe");
        let log = Log::default();
        let written = log.clone();
        thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                if let Some(Observer(tell)) = &observer {
                    tell(&line);
                    written.forget_all_but(KEPT);
                }
                written.push(line);
            }
        });
        Self {
            name: name.to_owned(),
            child,
            log,
            unread: None,
        }
    }

    /// Starts `command`, whose log nobody reads.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn unheard(name: &str, command: &mut Command, how: Unheard) -> Self {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let full = || std::fs::File::create("/dev/full").expect("a device");
        let stderr = match how {
            Unheard::Stopped | Unheard::Gone => Stdio::from(writer),
            Unheard::Full => Stdio::from(full()),
        };
        let unread = (how == Unheard::Stopped).then_some(reader);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} cannot be started: {error} ({command:?})"));
        // The command holds the pipe's other end.
        command.stderr(Stdio::null());
        Self {
            name: name.to_owned(),
            child,
            log: Log::default(),
            unread,
        }
    }

    /// From now on somebody reads what an unheard program says.
    ///
    /// # Panics
    /// Somebody does already.
    pub fn is_heard(&mut self) {
        let unread = self.unread.take().expect("nobody reads it");
        let written = self.log.clone();
        thread::spawn(move || {
            for line in BufReader::new(unread).split(b'\n').map_while(Result::ok) {
                written.push(String::from_utf8_lossy(&line).into_owned());
            }
        });
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the first log line that holds `text`.
    pub fn log_line(&mut self, text: &str) -> String {
        let what = format!("`{text}` in the log of {}", self.name);
        let mut gone = None;
        until(&what, PATIENCE, || {
            let line = self.log.find(text);
            // A program that has ended writes no more; one more look, for the reader may lag behind the end.
            if line.is_none() && gone.is_some() {
                panic!(
                    "{} ended ({gone:?}) before {what}\n{}",
                    self.name,
                    self.tail()
                );
            }
            gone = self.child.try_wait().ok().flatten();
            line
        })
    }

    /// Whether it has not ended.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The log lines that hold `text`.
    pub fn lines(&self, text: &str) -> Vec<String> {
        let lines = self.log.lines().into_iter();
        lines.filter(|line| line.contains(text)).collect()
    }

    /// What it has said before it ended.
    ///
    /// # Panics
    /// It has said nothing.
    pub fn last_words(mut self) -> Vec<String> {
        self.end();
        until("its last words", PATIENCE, || {
            Some(self.log.lines()).filter(|lines| !lines.is_empty())
        })
    }

    /// The end of the log, for a test that failed.
    pub fn tail(&self) -> String {
        let lines = self.log.lines();
        let from = lines.len().saturating_sub(60);
        format!("--- {} ---\n{}\n", self.name, lines[from..].join("\n"))
    }

    /// The most memory it ever had resident, in bytes.
    ///
    /// # Panics
    /// It has ended.
    pub fn peak_memory(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    /// The memory it has resident, in bytes.
    ///
    /// # Panics
    /// It has ended.
    pub fn memory(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    fn status_bytes(&self, field: &str) -> u64 {
        let path = PathBuf::from(format!("/proc/{}/status", self.pid()));
        let status = std::fs::read_to_string(&path).expect("the process runs");
        let kilobytes: u64 = status
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .and_then(|rest| rest.trim().strip_suffix(" kB"))
            .and_then(|number| number.trim().parse().ok())
            .unwrap_or_else(|| panic!("a process has a {field}"));
        kilobytes * 1024
    }

    /// The processor time it has used, in all its threads.
    ///
    /// # Panics
    /// It has ended.
    pub fn processor_time(&self) -> Duration {
        let path = PathBuf::from(format!("/proc/{}/stat", self.pid()));
        let stat = std::fs::read_to_string(&path).expect("the process runs");
        // proc_pid_stat(5): the name, in brackets, may hold anything; utime and stime are fields 14 and 15.
        let (_, fields) = stat.rsplit_once(')').expect("the name is in brackets");
        let fields = fields.split_whitespace().skip(11).take(2);
        let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * TICK_MS)
    }

    /// `kill -9`, and waits for the end.
    pub fn kill(mut self) {
        self.end();
    }

    /// Sends SIGKILL and waits for nothing: none of its threads runs another instruction of its own, but one that is
    /// inside the kernel, in a sync for instance, may stay there for a while.
    ///
    /// # Panics
    /// It has been waited for.
    pub fn strike(&self) {
        self.signal(Signal::KILL);
    }

    /// It stands still until [`thaw`](Self::thaw).
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// It goes on where it was.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        // It may have ended by itself a moment ago.
        let _ = kill_process(pid.expect("a child has a process id"), signal);
    }

    /// SIGTERM; returns how it ended.
    ///
    /// # Panics
    /// It does not end.
    pub fn terminate(mut self) -> ExitStatus {
        self.ask_to_end();
        let what = format!("the end of {} after SIGTERM", self.name);
        until(&what, PATIENCE, || self.child.try_wait().ok().flatten())
    }

    /// SIGTERM, and no more.
    ///
    /// # Panics
    /// It has ended.
    pub fn ask_to_end(&self) {
        let sent = Command::new("kill").arg(self.pid().to_string()).status();
        assert!(
            sent.is_ok_and(|status| status.success()),
            "{} cannot be signalled",
            self.name
        );
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// It does not end.
    pub fn ended(&mut self) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        until(&what, PATIENCE, || self.child.try_wait().ok().flatten())
    }

    fn end(&mut self) {
        // Errors here mean that it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

impl Log {
    fn push(&self, line: String) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line);
    }

    /// In one go now and then, for each line is a small piece of work.
    fn forget_all_but(&self, count: usize) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() > 2 * count {
            let end = lines.len() - count;
            lines.drain(..end);
        }
    }

    fn lines(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn find(&self, text: &str) -> Option<String> {
        self.lines().into_iter().find(|line| line.contains(text))
    }
}

/// The path of one of the three programs, built beside this one.
///
/// # Panics
/// It was not built: `cargo build --release --workspace --bins` does.
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a running program has a path");
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("no {name} beside {}: build it first", Path::display(&own)))
}

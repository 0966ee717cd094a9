//! `ddadm`, as a script calls it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use serde_json::Value;

use crate::process::program;
use crate::wait::{PATIENCE, until};

/// `ddadm` for one controller, over its socket.
#[derive(Debug, Clone)]
pub struct Ddadm {
    socket: PathBuf,
}

/// What one call came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// As CONTRACT lists them: 0 done, 1 failed or refused, 2 usage, 3 not reachable, 4 no such thing, 5 not reached.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    command: String,
}

impl Ddadm {
    pub fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }

    /// Runs it, with output for people.
    ///
    /// # Panics
    /// There is no such program.
    pub fn run(&self, args: &[&str]) -> Outcome {
        self.call(&[], args)
    }

    /// Runs it, and wants success and one JSON value.
    ///
    /// # Panics
    /// It fails, or prints something else.
    pub fn json(&self, args: &[&str]) -> Value {
        let outcome = self.call(&["--output", "json"], args).done();
        serde_json::from_str(&outcome.stdout)
            .unwrap_or_else(|error| panic!("no JSON from {outcome}: {error}"))
    }

    /// Runs it with a text on standard input, and wants success.
    ///
    /// # Panics
    /// It fails.
    #[track_caller]
    pub fn run_with(&self, args: &[&str], stdin: &str) -> Outcome {
        let mut command = Command::new(program("ddadm"));
        command.arg("--socket").arg(&self.socket).args(args);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ddadm can be run");
        let mut pipe = child.stdin.take().expect("standard input is a pipe");
        pipe.write_all(stdin.as_bytes()).expect("ddadm reads");
        drop(pipe);
        outcome(&child.wait_with_output().expect("ddadm ends"), args).done()
    }

    fn call(&self, options: &[&str], args: &[&str]) -> Outcome {
        let mut command = Command::new(program("ddadm"));
        command
            .arg("--socket")
            .arg(&self.socket)
            .args(options)
            .args(args);
        outcome(&command.output().expect("ddadm can be run"), args)
    }
}

fn outcome(output: &Output, args: &[&str]) -> Outcome {
    Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        command: args.join(" "),
    }
}

impl Outcome {
    /// This, if it succeeded.
    ///
    /// # Panics
    /// It did not.
    #[must_use]
    #[track_caller]
    pub fn done(self) -> Self {
        assert_eq!(self.code, 0, "{self}");
        self
    }

    /// Wants a refusal with this code, on standard error as one line that holds `says`.
    ///
    /// # Panics
    /// It is otherwise.
    #[track_caller]
    pub fn refused(&self, code: i32, says: &str) {
        assert_eq!(self.code, code, "{self}");
        assert!(
            self.stderr.to_lowercase().contains(&says.to_lowercase()),
            "`{says}` is not said by {self}"
        );
        assert_eq!(
            self.stderr.trim_end().lines().count(),
            1,
            "not one line: {self}"
        );
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "`ddadm {}` (exit {}): {}{}",
            self.command, self.code, self.stdout, self.stderr
        )
    }
}

/// A command that goes on, line after line. It ends when this is dropped.
#[derive(Debug)]
pub struct Watching {
    child: std::process::Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Ddadm {
    /// Starts a command that goes on until its reader has enough.
    ///
    /// # Panics
    /// There is no such program.
    pub fn start(&self, args: &[&str]) -> Watching {
        let mut command = Command::new(program("ddadm"));
        command.arg("--socket").arg(&self.socket).args(args);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = child.expect("ddadm can be run");
        let stdout = child.stdout.take().expect("standard output is a pipe");
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let told = Arc::clone(&lines);
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                told.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(line);
            }
        });
        Watching { child, lines }
    }
}

impl Watching {
    /// What it has said so far.
    pub fn lines(&self) -> Vec<String> {
        let lines = self.lines.lock();
        lines.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until it ends by itself; its exit code.
    ///
    /// # Panics
    /// It does not end, or is killed.
    pub fn ended(&mut self) -> i32 {
        let status = until("ddadm to end", PATIENCE, || {
            self.child.try_wait().ok().flatten()
        });
        status.code().expect("nobody killed it")
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // Errors here mean that it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

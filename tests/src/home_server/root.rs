//! A root directory for one server: the files of its packages, the libraries its programs need, some accounts.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{MEMBER, MEMBER_ID, Printed};
use crate::process::Process;

/// Accounts get numbers from here on.
const FIRST_ID: u32 = 2001;

/// What has to be in a root.
pub(super) struct Contents<'a> {
    /// Unpacked by `make deps`.
    pub(super) packages: &'a [&'a str],
    /// Of the packages, by their path in the root; their libraries come along.
    pub(super) programs: &'a [&'a str],
    /// The machine's own.
    pub(super) tools: &'a [&'a str],
    pub(super) accounts: &'a [&'a str],
}

/// The directory. It lies in one that somebody else removes.
#[derive(Debug)]
pub(super) struct Root(PathBuf);

impl Root {
    pub(super) fn new(path: PathBuf, contents: &Contents<'_>, printed: &Printed) -> Self {
        let root = Self(path);
        for directory in [
            "/bin",
            "/dev",
            "/etc",
            "/run",
            "/tmp",
            "/usr/lib",
            "/usr/lib64",
            "/var/empty",
            "/var/mail",
            "/var/run",
        ] {
            root.directory(directory);
        }
        for lib in ["lib", "lib64"] {
            symlink(format!("usr/{lib}"), root.at(&format!("/{lib}"))).expect("a new root");
        }
        for package in contents.packages {
            root.lay_out(package);
        }
        for tool in contents.tools {
            root.copy(Path::new(tool));
        }
        // Also what is a link on this machine has to be a program here.
        let shell = fs::canonicalize("/bin/sh").expect("every machine has a shell");
        fs::copy(shell, root.at("/bin/sh")).expect("a new root");
        let programs = contents.programs.iter().chain(contents.tools);
        root.libraries(programs.chain(&["/bin/sh"]));
        root.accounts(contents.accounts);
        for (name, minor) in [("null", "3"), ("urandom", "9")] {
            let device = root.at(&format!("/dev/{name}"));
            run(Command::new("mknod")
                .args(["-m", "666"])
                .arg(device)
                .args(["c", "1", minor]));
        }
        root.write("/etc/hosts", "127.0.0.1 localhost home.example\n");
        root.write("/etc/resolv.conf", "nameserver 127.0.0.1\n");
        root.write(
            "/etc/services",
            "smtp 25/tcp\nsmtps 465/tcp\nsubmission 587/tcp\n",
        );
        // OpenSMTPD does not start without.
        root.copy(Path::new("/etc/ssl/certs/ca-certificates.crt"));
        // The member's files, where they were said to lie.
        let issued = printed
            .directory()
            .to_str()
            .expect("temporary paths are UTF-8");
        root.directory_with(issued, 0o700);
        run(Command::new("cp")
            .arg("-a")
            .arg(printed.directory().join("."))
            .arg(root.at(issued)));
        root
    }

    /// Where a path of the root lies on this machine.
    pub(super) fn at(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    pub(super) fn directory(&self, path: &str) {
        let at = self.at(path);
        fs::create_dir_all(&at).unwrap_or_else(|error| panic!("{}: {error}", at.display()));
    }

    /// A directory of somebody's.
    pub(super) fn directory_of(&self, path: &str, account: &str) {
        self.directory(path);
        let id = self.id(account);
        chown(self.at(path), Some(id), Some(id)).expect("it needs root");
    }

    /// An empty file of somebody's, which nobody else reads.
    pub(super) fn file_of(&self, path: &str, account: &str) {
        self.write(path, "");
        let (at, id) = (self.at(path), self.id(account));
        fs::set_permissions(&at, fs::Permissions::from_mode(0o600)).expect("our own file");
        chown(at, Some(id), Some(id)).expect("it needs root");
    }

    /// A program that runs as somebody, whoever starts it.
    pub(super) fn setuid(&self, path: &str, account: &str) {
        let (at, id) = (self.at(path), self.id(account));
        chown(&at, Some(id), Some(id)).expect("it needs root");
        fs::set_permissions(&at, fs::Permissions::from_mode(0o4755)).expect("our own file");
    }

    pub(super) fn directory_with(&self, path: &str, mode: u32) {
        self.directory(path);
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(self.at(path), mode).expect("our own directory");
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        let at = self.at(path);
        fs::write(&at, text).unwrap_or_else(|error| panic!("{}: {error}", at.display()));
    }

    pub(super) fn read(&self, path: &str) -> String {
        let at = self.at(path);
        fs::read_to_string(&at).unwrap_or_else(|error| panic!("{}: {error}", at.display()))
    }

    /// Runs a line of shell inside, and returns what it wrote.
    pub(super) fn shell(&self, line: &str) -> String {
        run(Command::new("chroot")
            .arg(&self.0)
            .args(["/bin/sh", "-c", line]))
    }

    /// Starts a program inside.
    pub(super) fn process(&self, command: &[&str]) -> Process {
        let mut chroot = Command::new("chroot");
        chroot.arg(&self.0).args(command);
        Process::start(command[0], &mut chroot)
    }

    fn lay_out(&self, package: &str) {
        let unpacked = unpacked(package);
        for part in ["etc", "usr", "var"].map(|part| unpacked.join(part)) {
            if part.exists() {
                run(Command::new("cp").arg("-a").arg(part).arg(&self.0));
            }
        }
    }

    /// A file of the machine's, under the same path.
    fn copy(&self, file: &Path) {
        let to = self.0.join(file.strip_prefix("/").expect("a whole path"));
        fs::create_dir_all(to.parent().expect("a file lies somewhere")).expect("a new root");
        fs::copy(file, to).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }

    fn libraries<'a>(&self, programs: impl Iterator<Item = &'a &'a str>) {
        let programs = programs.map(|program| self.at(program));
        // Libraries of the packages themselves lie there already.
        let own = self.at("/usr/lib");
        let listed = run(Command::new("ldd")
            .env("LD_LIBRARY_PATH", own)
            .args(programs));
        assert!(
            !listed.contains("not found"),
            "`make deps` installs what is missing:\n{listed}"
        );
        let words = listed.split_whitespace();
        for library in words.filter(|word| word.starts_with("/lib") || word.starts_with("/usr/lib"))
        {
            self.copy(Path::new(library.trim_end_matches(':')));
        }
    }

    /// The machine's accounts, without whoever is made here.
    fn accounts(&self, named: &[&str]) {
        for (file, line) in [("/etc/passwd", "x:0:0:::/bin/sh"), ("/etc/group", "x:0:")] {
            let known = fs::read_to_string(file).expect("every machine has accounts");
            let name = |line: &str| line.split(':').next().map(str::to_owned);
            let is_made = |line: &&str| named.iter().any(|it| name(line).as_deref() == Some(it));
            let mut text = String::new();
            for line in known.lines().filter(|line| !is_made(line)) {
                let _ = writeln!(text, "{line}");
            }
            let made = named.iter().zip(FIRST_ID..).chain([(&MEMBER, MEMBER_ID)]);
            for (name, id) in made {
                let _ = match line.matches(':').count() {
                    2 => writeln!(text, "{name}:x:{id}:"),
                    _ => writeln!(text, "{name}:x:{id}:{id}::/home/{name}:/bin/sh"),
                };
            }
            self.write(file, &text);
        }
        self.directory_of(&format!("/home/{MEMBER}"), MEMBER);
    }

    fn id(&self, account: &str) -> u32 {
        let accounts = self.read("/etc/passwd");
        accounts
            .lines()
            .find_map(|line| line.strip_prefix(account)?.strip_prefix(":x:"))
            .and_then(|rest| rest.split(':').next()?.parse().ok())
            .unwrap_or_else(|| panic!("no account `{account}` in the root"))
    }
}

/// Where `make deps` has laid a package.
pub(super) fn unpacked(package: &str) -> PathBuf {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../target/unpacked")
        .join(package);
    assert!(
        unpacked.is_dir(),
        "{package} is missing: `make deps` unpacks it"
    );
    unpacked
}

/// Runs a command to its end, which must be a good one, and returns what it wrote.
pub(super) fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?} (it needs root): {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

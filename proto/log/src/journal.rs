//! Lines for journald in its own protocol, where standard error is the journal: each field of a line can then be asked
//! for (`journalctl DD_SITE=home`), and each line has its priority.
//!
//! A line is written by [`Entries`] as fields between separators, and [`Journal`] sends each as one datagram. Between
//! them it is a line like any other, so that all that is promised of lines holds here too. `tracing-journald` sends
//! where the line is said, and waits there while the journal is full.
//!
//! Plain lines, which say why the program ends, go to standard error as ever: journald knows of which unit that is,
//! while it looks up who sent a datagram, and finds nobody where the program has ended meanwhile.
//!
//! A datagram is no larger than the socket's buffer (about 208 KiB, or what the machine is set to), so that long values
//! are cut: an entry stays below 48 KiB, and says how much it leaves out.
//!
//! The protocol: <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>

use std::fmt::{self, Write as _};
use std::io::{self, Stderr, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::out::Sink;

const SOCKET: &str = "/run/systemd/journal/socket";
/// Between the fields of a line; ASCII's own separator of units, which no field contains.
const SEPARATOR: char = '\u{1f}';
/// Bytes of `MESSAGE`.
const MESSAGE: usize = 20 * 1024;
/// Bytes of the other values together.
const VALUES: usize = 16 * 1024;
/// Bytes that each of them has in any case, so that a long one leaves room for the short ones behind it. A line has 32
/// fields at most.
const VALUE: usize = 256;
/// syslog's `err`, as journald reads it at the beginning of a line.
const OF_A_PLAIN_LINE: &str = "<3>";

/// Whether standard error goes to the journal: `JOURNAL_STREAM` names device and inode of the stream, and whoever has
/// redirected standard error since has another one.
pub(crate) fn is_stderr(stderr: &Stderr) -> bool {
    let Some(named) = std::env::var_os("JOURNAL_STREAM") else {
        return false;
    };
    let Ok(stat) = rustix::fs::fstat(stderr) else {
        return false;
    };
    named.to_str() == Some(format!("{}:{}", stat.st_dev, stat.st_ino).as_str())
}

/// Takes lines, and sends each as one entry.
#[derive(Debug)]
pub struct Journal<W = Stderr> {
    socket: UnixDatagram,
    /// Where plain lines go.
    plain: W,
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
}

impl<W: Write> Journal<W> {
    /// # Errors
    /// Nobody listens there.
    pub(crate) fn beside(plain: W) -> io::Result<Self> {
        Self::at(Path::new(SOCKET), plain)
    }

    fn at(path: &Path, plain: W) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        Ok(Self {
            socket,
            plain,
            line: Vec::new(),
        })
    }

    fn send(&mut self) -> io::Result<()> {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        if !line.contains(SEPARATOR) {
            let line = format!("{OF_A_PLAIN_LINE}{line}\n");
            return self.plain.write_all(line.as_bytes());
        }
        let entry = line.replace(SEPARATOR, "\n") + "\n";
        loop {
            match self.socket.send(entry.as_bytes()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                sent => return sent.map(|_| ()),
            }
        }
    }
}

impl<W: Write> Write for Journal<W> {
    /// As far as the end of the first line.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            self.line.extend_from_slice(bytes);
            return Ok(bytes.len());
        };
        self.line.extend_from_slice(&bytes[..end]);
        self.send().map(|()| end + 1)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W: Sink> Sink for Journal<W> {
    fn is_ready(&self) -> bool {
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let asked = PollFd::new(&self.socket, PollFlags::OUT);
        let ready = poll(&mut [asked], Some(&at_once));
        ready.is_ok_and(|ready| ready > 0) && self.plain.is_ready()
    }

    fn is_by_line(&self) -> bool {
        true
    }
}

/// Writes a line for [`Journal`]: `MESSAGE` is what the line says elsewhere, without time and level, which the journal
/// has itself; besides, each field `name` is `DD_NAME`. Holds the program's name.
#[derive(Debug, Clone, Copy)]
pub struct Entries(pub &'static str);

impl<S, N> FormatEvent<S, N> for Entries
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let mut fields = Fields::default();
        fields.put("PRIORITY", priority(*metadata.level()));
        fields.put("SYSLOG_IDENTIFIER", self.0);
        fields.put("DD_TARGET", metadata.target());
        event.record(&mut fields);
        let mut message = String::new();
        context.format_fields(Writer::new(&mut message), event)?;
        let message = format!("{}: {message}", metadata.target());
        fields.put_within("MESSAGE", &message, MESSAGE);
        writer.write_str(fields.text.trim_end_matches(SEPARATOR))?;
        writer.write_char('\n')
    }
}

/// What syslog calls the level.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

/// `NAME=value` with a separator behind each.
#[derive(Default)]
struct Fields {
    text: String,
    /// Bytes of values; `MESSAGE` has its own.
    used: usize,
}

impl Fields {
    fn put(&mut self, name: &str, value: &str) {
        let most = VALUES.saturating_sub(self.used).max(VALUE);
        self.used += self.put_within(name, value, most);
    }

    /// Returns how many bytes of the value there is room for.
    fn put_within(&mut self, name: &str, value: &str, most: usize) -> usize {
        self.text.push_str(name);
        self.text.push('=');
        let harmless = |c: char| if c.is_control() { ' ' } else { c };
        let kept = beginning(value, most);
        self.text.extend(kept.chars().map(harmless));
        if kept.len() < value.len() {
            let cut = value.len() - kept.len();
            // A string takes all.
            let _ = write!(self.text, "… ({cut} bytes more)");
        }
        self.text.push(SEPARATOR);
        kept.len()
    }

    fn put_field(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            return;
        }
        let upper = |c: char| match c.is_ascii_alphanumeric() {
            true => c.to_ascii_uppercase(),
            false => '_',
        };
        let name: String = "DD_"
            .chars()
            .chain(field.name().chars().map(upper))
            .collect();
        self.put(&name, value);
    }
}

/// As many whole characters as fit.
fn beginning(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put_field(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // A string takes all.
        let _ = write!(text, "{value:?}");
        self.put_field(field, &text);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::{Lines, When};

    /// Standard error as a test wants it.
    struct Plain(Sender<Vec<u8>>);

    impl Write for Plain {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Sink for Plain {
        fn is_ready(&self) -> bool {
            true
        }
    }

    #[test]
    fn a_line_is_one_entry_with_its_fields() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let journald = UnixDatagram::bind(&path).unwrap();
        let (plain, said): (_, Receiver<Vec<u8>>) = channel();
        let lines = Lines::start(Journal::at(&path, Plain(plain)).unwrap()).unwrap();
        let written = lines.clone();
        let layer = tracing_subscriber::fmt::layer()
            .event_format(Entries("dd-agent"))
            .with_writer(move || written.line(When::Now));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let site = "home";
            tracing::warn!(target: "site", site, why = %"a\nMESSAGE=b", hosts = 2, "waits");
        });
        lines.say("dd-agent: cannot go on");
        let entry = |journald: &UnixDatagram| {
            let mut bytes = [0; 4096];
            let length = journald.recv(&mut bytes).unwrap();
            String::from_utf8(bytes[..length].to_vec()).unwrap()
        };
        let first = entry(&journald);
        for field in [
            "PRIORITY=4\n",
            "SYSLOG_IDENTIFIER=dd-agent\n",
            "DD_TARGET=site\n",
            "DD_SITE=home\n",
            "DD_HOSTS=2\n",
            "DD_WHY=a MESSAGE=b\n",
        ] {
            assert!(first.contains(field), "{first}");
        }
        let message = first.lines().last().unwrap();
        assert!(
            message.starts_with("MESSAGE=site: waits site=\"home\""),
            "{first}"
        );
        assert!(first.ends_with('\n'), "{first}");
        // journald knows whose standard error it is, also when the program has ended.
        assert_eq!(said.recv().unwrap(), b"<3>dd-agent: cannot go on\n");
    }

    /// What comes next there.
    fn received(journald: &UnixDatagram) -> String {
        let mut bytes = vec![0; 64 * 1024];
        let length = journald.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn an_entry_that_is_too_long_for_a_datagram_is_cut_and_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let journald = UnixDatagram::bind(&path).unwrap();
        let (plain, _said) = channel();
        let lines = Lines::start(Journal::at(&path, Plain(plain)).unwrap()).unwrap();
        let layer = tracing_subscriber::fmt::layer()
            .event_format(Entries("dd-controller"))
            .with_writer(move || lines.line(When::Now));
        let recipients = "ü@home.example ".repeat(20_000);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!(target: "mail", recipients, other = recipients, id = "abc", "taken");
        });
        let entry = received(&journald);
        assert!(entry.len() < 48 * 1024, "{}", entry.len());
        assert!(entry.contains("\nDD_RECIPIENTS=ü@home.example ü@home"));
        assert!(entry.contains("\nDD_ID=abc\n"));
        assert!(entry.contains("\nMESSAGE=mail: taken recipients="));
        assert_eq!(entry.matches(" bytes more)\n").count(), 3);
    }

    #[test]
    fn a_refused_entry_is_lost_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let journald = UnixDatagram::bind(&path).unwrap();
        let (plain, said) = channel();
        let lines = Lines::around(Journal::at(&path, Plain(plain)).unwrap());
        let entry = |message: &str| format!("PRIORITY=6{SEPARATOR}MESSAGE={message}\n");
        let huge = rustix::net::sockopt::socket_send_buffer_size(&journald).unwrap();
        lines.add(entry("one").as_bytes(), When::Soon);
        lines.add(entry(&"x".repeat(huge)).as_bytes(), When::Soon);
        lines.add(entry("three").as_bytes(), When::Now);
        assert!(received(&journald).ends_with("MESSAGE=one\n"));
        assert!(received(&journald).ends_with("MESSAGE=three\n"));
        lines.add(entry("four").as_bytes(), When::Now);
        assert!(received(&journald).ends_with("MESSAGE=four\n"));
        let told = String::from_utf8(said.recv().unwrap()).unwrap();
        assert!(
            told.starts_with("<3>") && told.contains(" 1 lines lost: "),
            "{told}"
        );
    }
}

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
        self.socket.send(entry.as_bytes()).map(|_| ())
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
        let mut fields = Fields(String::new());
        fields.put("PRIORITY", priority(*metadata.level()));
        fields.put("SYSLOG_IDENTIFIER", self.0);
        fields.put("DD_TARGET", metadata.target());
        event.record(&mut fields);
        let mut message = String::new();
        context.format_fields(Writer::new(&mut message), event)?;
        fields.put("MESSAGE", &format!("{}: {message}", metadata.target()));
        writer.write_str(fields.0.trim_end_matches(SEPARATOR))?;
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
struct Fields(String);

impl Fields {
    fn put(&mut self, name: &str, value: &str) {
        self.0.push_str(name);
        self.0.push('=');
        let harmless = |c: char| if c.is_control() { ' ' } else { c };
        self.0.extend(value.chars().map(harmless));
        self.0.push(SEPARATOR);
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
}

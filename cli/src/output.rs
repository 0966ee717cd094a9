//! The only file that prints.
//!
//! # Invariants
//! What came from the network is data: whatever is printed contains no control or invisible formatting character but
//! the line ends put there on purpose, neither as text nor as JSON. A failure is one line.

use std::fmt::Write as _;
use std::io::Write;

use clap::ValueEnum;
use serde::Serialize;

use crate::failure::{Exit, Failure};

/// For whom an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Table,
    Json,
}

/// What a command has to say, in both forms.
#[derive(Debug)]
pub(crate) struct Answer {
    json: String,
    text: String,
    exit: Exit,
    /// For standard error, beside JSON; the text itself where there is none.
    sentence: Option<String>,
    /// For standard error, whatever the form.
    warning: Option<String>,
}

impl Answer {
    /// `json` for programs, `text` (whole lines) for people.
    pub(crate) fn new(json: &impl Serialize, text: String) -> Self {
        let json = serde_json::to_string_pretty(json)
            .expect("the views have string keys and no serializer of their own");
        Self {
            json,
            text,
            exit: Exit::Done,
            sentence: None,
            warning: None,
        }
    }

    /// What somebody should know who wanted nothing but the answer.
    pub(crate) fn with_warning(self, warning: Option<String>) -> Self {
        Self { warning, ..self }
    }

    #[cfg(test)]
    pub(crate) fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// The JSON, to be put into another.
    pub(crate) fn value(&self) -> serde_json::Value {
        serde_json::from_str(&self.json).expect("an answer holds what serde_json has written")
    }

    /// The same answer, where what it says is not what was wanted.
    pub(crate) fn ending(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// The same, where the text is too long for the one line of an error.
    pub(crate) fn ending_with(self, exit: Exit, sentence: String) -> Self {
        Self {
            exit,
            sentence: Some(sentence),
            ..self
        }
    }

    #[cfg(test)]
    pub(crate) fn both(&self) -> String {
        format!("{}\n{}\n", self.text, self.json)
    }
}

/// Standard output and standard error.
pub(crate) struct Printer<'a> {
    stdout: &'a mut dyn Write,
    stdout_is: Stdout,
    stderr: &'a mut dyn Write,
}

/// Where standard output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdout {
    /// To somebody's eyes: what is shown there must not act on it.
    Terminal,
    Pipe,
}

impl<'a> Printer<'a> {
    pub(crate) fn new(
        stdout: &'a mut dyn Write,
        stdout_is: Stdout,
        stderr: &'a mut dyn Write,
    ) -> Self {
        Self {
            stdout,
            stdout_is,
            stderr,
        }
    }

    pub(crate) fn answer(&mut self, answer: &Answer, output: Output) -> Exit {
        let written = match output {
            Output::Json => writeln!(self.stdout, "{}", json_printable(&answer.json)),
            Output::Table => self
                .stdout
                .write_all(lines_printable(&answer.text).as_bytes()),
        };
        // A reader that went away (`ddadm queue list | head`) wanted no more.
        if let Err(failure) = taken(written.and_then(|()| self.stdout.flush())) {
            return self.failure(&failure);
        }
        // A program that reads the JSON still gets the sentence where errors go.
        if answer.exit != Exit::Done && output == Output::Json {
            self.error_line(answer.sentence.as_deref().unwrap_or(answer.text.trim_end()));
        }
        if let Some(warning) = &answer.warning {
            self.error_line(warning);
        }
        answer.exit
    }

    /// Bytes as they are, for a file or a pipe.
    ///
    /// # Errors
    /// They cannot be written.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> Result<Taken, Failure> {
        let written = self.stdout.write_all(bytes);
        taken(written.and_then(|()| self.stdout.flush()))
    }

    /// Bytes that came from the network: as they are, unless somebody looks at them on a terminal.
    ///
    /// # Errors
    /// They cannot be written.
    pub(crate) fn foreign(&mut self, bytes: &[u8]) -> Result<Taken, Failure> {
        match self.stdout_is {
            Stdout::Pipe => self.raw(bytes),
            Stdout::Terminal => {
                let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n");
                self.raw(lines_printable(&text).as_bytes())
            }
        }
    }

    /// One line of an answer that has no end.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn line(&mut self, line: &str, output: Output) -> Result<Taken, Failure> {
        let shown = match output {
            Output::Table => printable(line),
            Output::Json => json_printable(line),
        };
        self.raw(format!("{shown}\n").as_bytes())
    }

    /// Something beside the answer, on standard error.
    pub(crate) fn notice(&mut self, text: &str) {
        self.error_line(text);
    }

    pub(crate) fn failure(&mut self, failure: &Failure) -> Exit {
        self.error_line(&failure.to_string());
        failure.exit()
    }

    /// Help goes to standard output as it is; a mistake becomes one line, like every other failure.
    pub(crate) fn usage(&mut self, error: &clap::Error) -> Exit {
        use clap::error::ErrorKind;
        let text = error.render().to_string();
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                let _ = self.stdout.write_all(text.as_bytes());
                Exit::Done
            }
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                let _ = self.stderr.write_all(text.as_bytes());
                Exit::Usage
            }
            _ => {
                self.error_line(&usage_line(&text));
                Exit::Usage
            }
        }
    }

    /// Standard error is the last resort: where it cannot be written, nobody can be told.
    fn error_line(&mut self, text: &str) {
        let _ = writeln!(self.stderr, "ddadm: {}", printable(text));
    }
}

/// Whether somebody still reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    Yes,
    /// The reader went away, and wants no more.
    NoMore,
}

fn taken(written: std::io::Result<()>) -> Result<Taken, Failure> {
    match written {
        Ok(()) => Ok(Taken::Yes),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Taken::NoMore),
        Err(error) => Err(Failure::Refused(format!(
            "the answer cannot be written: {error}"
        ))),
    }
}

/// The mistake and the tip, without the synopsis that `--help` shows better: clap's lines as one sentence.
fn usage_line(rendered: &str) -> String {
    let lines = rendered
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .take_while(|line| !line.starts_with("Usage:"))
        .filter(|line| !line.starts_with("For more information"));
    let mut said = String::new();
    for line in lines {
        let joint = match (said.is_empty(), said.ends_with(':'), line) {
            (true, ..) => "",
            (_, true, _) => " ",
            (_, _, line) if line.starts_with('[') => " ",
            (_, _, line) if line.starts_with("tip:") => "; ",
            _ => ", ",
        };
        said.push_str(joint);
        said.push_str(line);
    }
    let said = said.strip_prefix("error: ").unwrap_or(&said);
    let said = said.replace("; tip: ", "; ");
    let said = EXPECTED.iter().fold(said, |said, &(parser, expected)| {
        said.replace(parser, expected)
    });
    format!("{said}; see --help")
}

/// What the standard library's parsers say, and what is expected.
const EXPECTED: [(&str, &str); 4] = [
    (
        "invalid IP address syntax",
        "expected an IP address such as 192.0.2.10",
    ),
    ("invalid digit found in string", "expected a whole number"),
    (
        "cannot parse integer from empty string",
        "expected a whole number",
    ),
    (
        "number too large to fit in target type",
        "expected a smaller number",
    ),
];

/// Whether a terminal would act on it, or a reader be misled by it.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The text on one line, with what cannot be seen shown as `\u{1b}`.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push(' '),
            c if is_hidden(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    shown
}

fn lines_printable(text: &str) -> String {
    text.split('\n')
        .map(printable)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Outside of strings pretty JSON has only line ends that are hidden; within strings serde leaves DEL, C1 and formatting
/// characters as they are.
pub(crate) fn json_printable(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        if c == '\n' || !is_hidden(c) {
            shown.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            write!(shown, "\\u{unit:04x}").expect("a String can always be written to");
        }
    }
    shown
}

/// Unix milliseconds as RFC 3339; 0 is "none".
pub(crate) fn time(ms: i64) -> Option<String> {
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(_) if ms == 0 => None,
        Ok(at) if !dd_proto::units::is_endless(at) => Some(at.to_string()),
        Ok(_) => Some(NO_END.to_owned()),
        Err(_) if ms > 0 => Some(NO_END.to_owned()),
        Err(_) => None,
    }
}

/// RFC 5280 §4.1.2.5.
const NO_END: &str = "9999-12-31T23:59:59Z";

/// The same for people: whole seconds, `-` for none.
pub(crate) fn time_shown(ms: i64) -> String {
    match time(ms - ms.rem_euclid(1000)) {
        Some(at) if at == NO_END => "no end".into(),
        Some(at) => at,
        None => "-".into(),
    }
}

/// A text that may be absent.
pub(crate) fn present(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// `1 message`, `2 messages`.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Bytes for people: three digits are enough to see what is large.
pub(crate) fn bytes_shown(bytes: u64) -> String {
    let (mut whole, mut tenths) = (bytes, 0);
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
        if whole < 1024 {
            break;
        }
        tenths = whole % 1024 * 10 / 1024;
        whole /= 1024;
        unit = larger;
    }
    match unit {
        "B" => format!("{whole} B"),
        unit => format!("{whole}.{tenths} {unit}"),
    }
}

/// Rows under headings, each column as wide as its widest cell.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self {
            rows: vec![headings.iter().map(ToString::to_string).collect()],
        }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.cells(cells.into_iter());
    }

    /// As many as there are headings.
    pub(crate) fn cells(&mut self, cells: impl Iterator<Item = String>) {
        self.rows.push(cells.map(|cell| printable(&cell)).collect());
    }

    /// The lines, or `empty` where there are no rows.
    pub(crate) fn text(&self, empty: &str) -> String {
        match self.rows.len() {
            1 => format!("{empty}\n"),
            _ => self.lines(),
        }
    }

    fn lines(&self) -> String {
        let widths: Vec<usize> = (0..self.rows[0].len())
            .map(|column| {
                self.rows
                    .iter()
                    .map(|row| row[column].chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let line: Vec<String> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| padded(cell, *width))
                .collect();
            text.push_str(line.join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

/// By hand: a format string takes no width beyond 65,535, and what is shown here may be anything.
fn padded(cell: &str, width: usize) -> String {
    let short = width.saturating_sub(cell.chars().count());
    let mut padded = cell.to_owned();
    padded.extend(std::iter::repeat_n(' ', short));
    padded
}

/// One thing on a page: labels on the left, what is to be said on the right.
#[derive(Debug)]
pub(crate) struct Page {
    text: String,
}

impl Page {
    pub(crate) fn new(title: &str) -> Self {
        Self {
            text: format!("{}\n\n", printable(title)),
        }
    }

    pub(crate) fn line(&mut self, label: &str, value: &str) {
        let line = format!("{label:<16}{}", printable(value));
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    /// The first value beside the label, the others below it.
    pub(crate) fn lines<'v>(&mut self, label: &str, values: impl IntoIterator<Item = &'v str>) {
        let mut label = label;
        for value in values {
            self.line(label, value);
            label = "";
        }
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests;

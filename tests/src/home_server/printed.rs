//! What `ddadm cert issue` printed, as a member reads it.

use std::path::{Path, PathBuf};

/// The text, and where the files lie that it names.
#[derive(Debug)]
pub struct Printed {
    text: String,
    directory: PathBuf,
}

impl Printed {
    pub fn new(text: &str, directory: &Path) -> Self {
        Self {
            text: text.to_owned(),
            directory: directory.to_owned(),
        }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The lines below the heading that begins so.
    ///
    /// # Panics
    /// There is no such heading, or nothing below it.
    pub fn below(&self, heading: &str) -> String {
        let mut lines = self.text.lines();
        lines
            .find(|line| line.starts_with(heading) && line.ends_with(':'))
            .unwrap_or_else(|| panic!("no heading `{heading}` in:\n{}", self.text));
        let mut below = String::new();
        for line in lines.map_while(|line| line.strip_prefix("  ")) {
            below.push_str(line);
            below.push('\n');
        }
        assert!(!below.is_empty(), "nothing below `{heading}`");
        below
    }
}

//! What `ddadm cert issue` printed, as a member reads it.

use std::path::{Path, PathBuf};

use crate::world::World;

/// The text, and where the files lie that it names.
#[derive(Debug)]
pub struct Printed {
    text: String,
    directory: PathBuf,
}

/// The provider's own authority.
const OWN: &str = "own-ca";

impl Printed {
    /// Registers the site `home`, for home.example, whose server is not there yet, and issues it a certificate.
    ///
    /// # Panics
    /// It is refused.
    pub fn issued(world: &World) -> Self {
        let ddadm = world.ddadm();
        let _ = ddadm.run(&["ca", "create", OWN]).done();
        let mut site = vec!["site", "add", "home", "--domain", "home.example"];
        site.extend(["--host", "home.dyn.example", "--proof", "certificate"]);
        site.extend(["--authority", OWN, "--cert-name", "home.example"]);
        let _ = ddadm.run(&site).done();
        let out = world.path().join("issued");
        let text = out.to_str().expect("temporary paths are UTF-8");
        let issue = ["cert", "issue", "home", "--out", text];
        Self::new(&ddadm.run(&issue).done().stdout, &out)
    }

    fn new(text: &str, directory: &Path) -> Self {
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

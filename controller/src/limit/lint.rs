//! Reads the sources of what strangers reach: a line of the log that they can cause has a tally.

use std::fs;
use std::path::{Path, PathBuf};

/// Files and folders in which somebody is served who has proved nothing, below `src`.
const REACHED: [&str; 9] = [
    "intake",
    "wakeup",
    "web",
    "limit",
    "metrics/door.rs",
    "api/listener.rs",
    "api/roles.rs",
    "api/enrollment.rs",
    "listen.rs",
];

/// What only those cause who are known, or what is our own trouble: file, and a part of the line.
const OTHERS: [(&str, &str); 17] = [
    // Once, at the start.
    ("listen.rs", "only IPv6 is listened on"),
    // A feeder's message is in the store.
    ("intake/connection.rs", "accepted"),
    // Signed in, or proved.
    ("wakeup/mod.rs", "released by an operator"),
    ("wakeup/mod.rs", "released by its member"),
    ("wakeup/mod.rs", "asked for by its member"),
    ("wakeup/smtp.rs", "signed in over SMTP"),
    ("web/portal.rs", "signed in to the portal"),
    ("web/portal.rs", "a member's change was not made"),
    ("web/portal.rs", "a page cannot be shown"),
    ("web/certificate.rs", ""),
    ("web/check.rs", ""),
    ("web/hold.rs", ""),
    ("web/access.rs", ""),
    ("web/page.rs", ""),
    ("api/enrollment.rs", "certificate renewed"),
    ("api/enrollment.rs", "certificate for sites issued"),
    ("metrics/door.rs", "the metrics cannot be written"),
];

/// How many lines above the event the tally is asked.
const NEAR: usize = 10;

#[test]
fn what_a_stranger_can_cause_in_the_log_is_sparing() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files: Vec<PathBuf> = REACHED
        .iter()
        .flat_map(|it| sources(&root.join(it)))
        .collect();
    assert!(files.len() > 40, "{files:?}");
    let mut free = Vec::new();
    for file in files {
        let name = file.strip_prefix(&root).unwrap().display().to_string();
        if name == "limit/lint.rs" {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let told = ["info!", "warn!", "error!"].map(|it| format!("tracing::{it}"));
            if !told.iter().any(|it| line.contains(it.as_str())) {
                continue;
            }
            let above = lines[number.saturating_sub(NEAR)..number].join("\n");
            let event = lines[number..].iter().take(12).copied();
            let event = event.take_while(|it| !it.trim().is_empty());
            let event = event.collect::<Vec<_>>().join("\n");
            let is_others =
                |(of, part): &(&str, &str)| *of == name.as_str() && event.contains(part);
            if !above.contains(".due(") && !OTHERS.iter().any(is_others) {
                free.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert!(
        free.is_empty(),
        "a stranger could fill the log with these; ask `limit::line::Sparing` before:\n{}",
        free.join("\n")
    );
}

fn sources(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).unwrap().map(|it| it.unwrap().path());
    let mut files: Vec<PathBuf> = entries
        .filter(|it| it.is_dir() || it.extension().is_some_and(|it| it == "rs"))
        .flat_map(|it| sources(&it))
        .collect();
    files.sort();
    files
}

//! Every field of the JSON that programs rely on is described: the golden answers hold them, and `docs/scripts.md` names
//! each.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const SCRIPTS: &str = include_str!("../../../docs/scripts.md");

/// What stands in golden answers as a key and is a value: states and names that were made up.
const VALUES: [&str; 3] = ["idle", "connected", "unhealthy"];

fn goldens(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => goldens(&path, found),
            false if path.extension().is_some_and(|it| it == "snap") => found.push(path),
            false => {}
        }
    }
}

/// The keys of pretty JSON: a line each, in quotes, with a colon behind.
fn keys(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let (key, _) = line.trim_start().strip_prefix('"')?.split_once("\":")?;
        let is_name = |c: char| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit();
        key.chars().all(is_name).then_some(key)
    })
}

#[test]
fn every_field_of_the_json_is_described() {
    let commands = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cmd");
    let mut files = Vec::new();
    goldens(&commands, &mut files);
    let texts: Vec<String> = files
        .iter()
        .map(|it| std::fs::read_to_string(it).unwrap())
        .collect();
    let all: BTreeSet<&str> = texts.iter().flat_map(|text| keys(text)).collect();
    assert!(all.len() > 100, "{all:?}");
    let is_missing = |key: &&&str| !SCRIPTS.contains(&format!("`{key}`")) && !VALUES.contains(*key);
    let missing: Vec<_> = all.iter().filter(is_missing).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

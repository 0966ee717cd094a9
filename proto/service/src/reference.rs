//! Whether a commented configuration file has every key of the program, and no other: for the programs' tests.
//!
//! serde names the keys it knows when it meets one that it does not, so nobody has to list them a second time.

use std::collections::{BTreeMap, BTreeSet};

/// The keys of each table, by its dotted name; the one without a name is the top. A table is a key of the one above it.
pub type Tables = BTreeMap<String, BTreeSet<String>>;

/// The file with every key in force.
pub fn uncommented(file: &str) -> String {
    let is_toml = |line: &str| {
        let begins = |c: char| c.is_ascii_lowercase() || c == '[';
        line.strip_prefix('#')
            .is_some_and(|rest| rest.starts_with(begins))
    };
    let line = |line: &'_ str| match is_toml(line) {
        true => line[1..].to_owned() + "\n",
        false => line.to_owned() + "\n",
    };
    file.lines().map(line).collect()
}

/// What stands in a file, commented or not.
pub fn tables(file: &str) -> Tables {
    let mut tables = Tables::new();
    let mut table = String::new();
    tables.entry(table.clone()).or_default();
    for line in uncommented(file).lines() {
        if let Some(name) = line.strip_prefix('[') {
            table = name.trim_end().trim_end_matches(']').to_owned();
            let (above, key) = table.rsplit_once('.').unwrap_or(("", &table));
            let above = tables.entry(above.to_owned()).or_default();
            above.insert(key.to_owned());
            tables.entry(table.clone()).or_default();
        } else if let Some((key, _)) = line.split_once('=')
            && !line.starts_with('#')
        {
            let keys = tables.entry(table.clone()).or_default();
            keys.insert(key.trim().to_owned());
        }
    }
    tables
}

/// The keys in serde's sentence about one that it does not know.
pub fn expected(sentence: &str) -> BTreeSet<String> {
    let (_, expected) = sentence.split_once("expected ").unwrap_or_default();
    let quoted = expected.split('`').skip(1).step_by(2);
    quoted.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commented_keys_count_and_words_do_not() {
        let file =
            "# Some words = here.\n#name = 1\n\n[store]\n#size = 2\n#[store.postgres]\n#url = 3\n";
        let tables = tables(file);
        let keys = |table: &str| tables[table].iter().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(keys(""), "name store");
        assert_eq!(keys("store"), "postgres size");
        assert_eq!(keys("store.postgres"), "url");
        let sentence = "unknown field `x`, expected one of `a`, `b`";
        assert_eq!(expected(sentence).into_iter().collect::<String>(), "ab");
        assert_eq!(expected("unknown field `x`, expected `listen`").len(), 1);
    }
}

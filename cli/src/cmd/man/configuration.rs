//! Manual pages of the configuration files: the commented files that packages install, in another form.

use super::Page;
use super::roff::{escaped, head, paragraphs};

const FILES: [(&str, &str, &str, &str); 2] = [
    (
        "controller.toml",
        "configuration of dd-controller(8)",
        "dd-controller(8), ddadm(1)",
        include_str!("../../../../packaging/etc/controller.toml"),
    ),
    (
        "agent.toml",
        "configuration of dd-agent(8)",
        "dd-agent(8), ddadm(1)",
        include_str!("../../../../packaging/etc/agent.toml"),
    ),
];

pub(super) fn pages() -> impl Iterator<Item = Page> {
    FILES.iter().map(|(file, about, see_also, text)| Page {
        name: format!("{file}.5"),
        text: page(file, about, see_also, text),
    })
}

fn page(file: &str, about: &str, see_also: &str, text: &str) -> String {
    let mut page = head(file, "5");
    page += &format!(".SH NAME\n{} \\- {}\n", escaped(file), escaped(about));
    page += &format!(".SH SYNOPSIS\n.I /etc/dd/{}\n", escaped(file));
    page += ".SH DESCRIPTION\n";
    for block in text.split("\n\n") {
        page += &written(block);
    }
    page + &format!(".SH SEE ALSO\n{}\n", escaped(see_also))
}

/// A block is some lines of words, and then keys or the head of a table, or nothing more.
fn written(block: &str) -> String {
    let is_toml = |line: &&str| !line.starts_with("# ") && *line != "#";
    let of = |lines: Vec<&str>| lines.join("\n");
    let words = block.lines().filter(|line| !is_toml(line));
    let words = of(words
        .map(|line| line.trim_start_matches('#').trim_start())
        .collect());
    let words = paragraphs(&words);
    let toml = block.lines().filter(is_toml);
    let toml: Vec<&str> = toml.map(|line| line.trim_start_matches('#')).collect();
    match toml.first() {
        None => words,
        Some(table) if table.starts_with('[') => {
            format!(".SH {}\n{words}", escaped(table))
        }
        Some(_) => {
            let keys: Vec<String> = toml.iter().map(|line| escaped(line)).collect();
            format!(".TP\n.B {}\n{words}", keys.join("\n.TQ\n.B "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keys_and_tables_are_told_apart() {
        assert_eq!(
            written("# Of a file.\n#\n# Two."),
            "Of a file.\n.PP\nTwo.\n"
        );
        assert_eq!(
            written("# How\n# many.\n#a-b = 1"),
            ".TP\n.B a\\-b = 1\nHow\nmany.\n"
        );
        assert_eq!(written("# A table.\n[store]"), ".SH [store]\nA table.\n");
    }
}

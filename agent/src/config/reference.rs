//! The commented file that packages install has every key, and shows the defaults that are in force.

use dd_service::reference::{expected, tables, uncommented};

use super::*;

const FILE: &str = include_str!("../../../packaging/etc/agent.toml");

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("agent.toml")).map_err(|error| error.to_string())
}

#[test]
fn every_key_is_in_the_reference_and_no_other() {
    let named = uncommented(FILE);
    let top = named.split("\n[").next().unwrap();
    for (table, keys) in tables(FILE) {
        let asked = match table.as_str() {
            "" => "not-a-key = 1\n".to_owned(),
            table => format!("{top}\n[{table}]\nnot-a-key = 1\n"),
        };
        let known = expected(&parse(&asked).unwrap_err());
        assert_eq!(keys, known, "[{table}] in packaging/etc/agent.toml");
    }
}

#[test]
fn what_the_reference_shows_is_what_is_in_force_without_it() {
    let shown = parse(&uncommented(FILE)).unwrap();
    assert_eq!(
        (shown.slots, shown.probes),
        (default_slots(), default_probes())
    );
    let dns = format!("{:?}", Dns::default());
    assert_eq!(format!("{:?}", shown.dns), dns);
    let targets = format!("{:?}", Targets::default());
    assert_eq!(format!("{:?}", shown.targets), targets);
}

#[test]
fn as_it_is_installed_it_wants_a_name() {
    let refused = parse(FILE).unwrap_err();
    assert!(refused.contains("missing field `name`"), "{refused}");
}

#[test]
fn what_the_readme_prints_is_a_configuration() {
    let readme = include_str!("../../../README.md");
    let begin = readme.find("    # agent.toml").unwrap();
    let block = readme[begin..].split("\n\n").next().unwrap();
    parse(&block.replace("\n    ", "\n").replacen("    ", "", 1)).unwrap();
}

//! The commented file that packages install has every key, and shows the defaults that are in force.

use dd_service::reference::{expected, tables, uncommented};

use super::*;

const FILE: &str = include_str!("../../../packaging/etc/controller.toml");

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("controller.toml")).map_err(|error| error.to_string())
}

#[test]
fn every_key_is_in_the_reference_and_no_other() {
    for (table, keys) in tables(FILE) {
        let asked = match table.as_str() {
            "" => "not-a-key = 1\n".to_owned(),
            table => {
                format!("hostname = \"a.example\"\nstate_dir = \"/s\"\n[{table}]\nnot-a-key = 1\n")
            }
        };
        let known = expected(&parse(&asked).unwrap_err());
        assert_eq!(keys, known, "[{table}] in packaging/etc/controller.toml");
    }
}

#[test]
fn what_the_reference_shows_is_what_is_in_force_without_it() {
    let shown = parse(&uncommented(FILE)).unwrap();
    let (intake, usual) = (shown.intake, Intake::default());
    let intake = Intake {
        lmtp: Vec::new(),
        authserv_ids: Vec::new(),
        tls: None,
        ..intake
    };
    assert_eq!(format!("{intake:?}"), format!("{usual:?}"));
    assert_eq!(
        format!("{:?}", shown.store),
        format!("{:?}", Store::default())
    );
    assert_eq!(shown.control.listen, Control::default().listen);
    assert_eq!(shown.site_defaults, SiteDefaults::default());
}

#[test]
fn as_it_is_installed_it_lacks_nothing_but_a_name() {
    let refused = parse(FILE).unwrap_err();
    assert!(refused.contains("missing field `hostname`"), "{refused}");
    let named = FILE.replace("#hostname", "hostname");
    let config = parse(&named).unwrap();
    assert_eq!(config.socket(), Path::new("/run/dd-controller/admin.sock"));
}

#[test]
fn what_the_readme_prints_is_a_configuration() {
    let readme = include_str!("../../../README.md");
    let begin = readme.find("    hostname  =").unwrap();
    let block = readme[begin..].split("\n\n").next().unwrap();
    parse(&block.replace("\n    ", "\n").replacen("    ", "", 1)).unwrap();
}

//! What no agent can use comes in by no door: not by `ca import`, and not with a file that is applied.

use bytes::Bytes;

use super::*;
use crate::registry::made_by_tools::{self, AUTHORITIES, UNUSABLE_LISTS};

/// The table of an authority in a file.
fn table(certificate: &str, list: Option<&str>) -> String {
    let mut table = "[authority.members]\n".to_owned();
    let members = std::iter::once(("certificate", certificate));
    for (key, name) in members.chain(list.map(|list| ("crl", list))) {
        let text = made_by_tools::text(name);
        table += &format!("{key} = \"\"\"\n{}\"\"\"\n", text.replace('\\', "\\\\"));
    }
    table
}

/// What the two doors say to the same; None: they take it.
async fn said(world: &World, certificate: &str, list: Option<&str>) -> [Option<String>; 2] {
    let file = table(certificate, list);
    let certificate = made_by_tools::certificate(certificate);
    let list = list.map(made_by_tools::list);
    let lists: Vec<&Bytes> = list.iter().collect();
    let applied = world.apply(&file).await.err();
    let applied = applied.map(|it| it.to_string());
    let imported = world.try_import(&[&certificate], &lists).await.err();
    [applied, imported.map(|it| it.to_string())]
}

fn check(name: &str, word: &str, said: [Option<String>; 2]) {
    for said in said {
        match said {
            None => assert_eq!(word, "", "{name}"),
            Some(said) => {
                assert!(!word.is_empty() && said.contains(word), "{name}: {said}");
            }
        }
    }
}

#[tokio::test]
async fn an_authority_that_no_agent_can_use_is_refused_at_both_doors() {
    for (name, word) in AUTHORITIES {
        let world = World::new().await;
        check(name, word, said(&world, name, None).await);
        let is_here = !world.editor.registry.authorities().is_empty();
        assert_eq!(is_here, word.is_empty(), "{name}");
    }
}

#[tokio::test]
async fn a_list_that_no_agent_can_use_is_refused_at_both_doors_and_the_known_one_stays() {
    for (name, word) in UNUSABLE_LISTS {
        let world = World::new().await;
        check(name, word, said(&world, "ca", Some(name)).await);
        assert_eq!(world.editor.registry.authorities(), []);
        check("list-good", "", said(&world, "ca", Some("list-good")).await);
        check(name, word, said(&world, "ca", Some(name)).await);
        let good = made_by_tools::list("list-good");
        assert_eq!(world.members().revocation_lists, [good], "{name}");
    }
}

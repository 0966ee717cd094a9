//! A domain goes from one site to another, by a move or by a file with both.

use std::io::ErrorKind;

use super::*;
use crate::registry::apply::{ApplyError, How};
use crate::registry::moving::{DomainMove, MoveError};
use crate::registry::record;
use dd_proto::domain::Domain;

const SHED: &str = "shed.example";

/// `aaa` and `bbb`, of which `from` has the shed.
async fn with_shed_at(from: &str, disk: &MemoryDisk) -> World {
    let world = World::on(disk).await;
    for name in ["aaa", "bbb"] {
        let mut spec = by_port(name);
        if name == from {
            spec.domains.push(SHED.to_owned());
        }
        world.add_site(spec).await;
    }
    world
}

fn shed() -> Domain {
    SHED.parse().unwrap()
}

fn owner(registry: &Registry) -> Option<String> {
    let owner = registry.site_for(&shed());
    owner.map(|site| site.name.to_string())
}

/// Whose records list the shed.
fn listing(registry: &Registry) -> Vec<String> {
    let sites = registry.sites();
    let listing = sites.iter().filter(|it| it.domains.contains(&shed()));
    listing.map(|it| it.name.to_string()).collect()
}

impl World {
    async fn shed_to(&self, to: &'static str) -> Result<DomainMove, ChangeError> {
        let moving = self
            .editor
            .change(move |change| async move { change.move_domain(SHED, to, ANNA, now()).await });
        moving.await
    }

    async fn take_in(&self, text: &'static str) -> Result<(), ApplyError> {
        let applying = self
            .editor
            .change(move |change| async move { change.apply(text, How::Apply, ANNA, now()).await });
        applying.await.map(drop)
    }

    async fn list(&self, site: &str, recipients: &[&str]) {
        let spec = pb::SiteSpec {
            name: site.to_owned(),
            recipients: recipients.iter().map(|it| (*it).to_owned()).collect(),
            ..pb::SiteSpec::default()
        };
        let setting = self
            .editor
            .change(move |change| async move { change.set_site(&spec, None, ANNA, now()).await });
        setting.await.unwrap();
    }
}

/// However far it comes.
#[tokio::test]
async fn a_move_that_stops_at_any_operation_leaves_the_domain_with_one_site() {
    for operation in 1..=8 {
        let disk = MemoryDisk::default();
        let world = with_shed_at("bbb", &disk).await;
        let fault = Fault::FromThen(ErrorKind::Other);
        disk.at(disk.operations() + operation, fault);
        let _ = world.shed_to("aaa").await;
        let killed = World::on(&disk.killed()).await;
        let listing = listing(&killed.editor.registry);
        assert_eq!(listing.len(), 1, "{operation}: {listing:?}");
    }
}

#[tokio::test]
async fn a_file_that_moves_a_domain_leaves_it_with_a_site_at_every_operation() {
    for operation in 1..=8 {
        let disk = MemoryDisk::default();
        let world = with_shed_at("aaa", &disk).await;
        let fault = Fault::FromThen(ErrorKind::Other);
        disk.at(disk.operations() + operation, fault);
        let moving = "[site.aaa]\ndomain = \"aaa.example\"\n[site.bbb]\ndomain = [\"bbb.example\", \"shed.example\"]\n";
        let _ = world.take_in(moving).await;
        assert!(owner(&world.editor.registry).is_some(), "{operation}");
        let killed = World::on(&disk.killed()).await;
        assert!(owner(&killed.editor.registry).is_some(), "{operation}");
    }
}

#[tokio::test]
async fn a_file_exchanges_domains() {
    let world = with_shed_at("aaa", &MemoryDisk::default()).await;
    let exchange = "[site.aaa]\ndomain = [\"bbb.example\", \"aaa.example\"]\n[site.bbb]\ndomain = \"shed.example\"\n";
    world.take_in(exchange).await.unwrap();
    let registry = &world.editor.registry;
    assert_eq!(owner(registry).as_deref(), Some("bbb"));
    assert_eq!(listing(registry), ["bbb"]);
    let other = registry.site_for(&"bbb.example".parse().unwrap());
    assert_eq!(other.unwrap().name.as_str(), "aaa");
    assert_eq!(registry.alarms(), [""; 0]);
}

/// As a crash between two commits leaves it: the one that gets the domain was written, the one that gives it was not.
async fn half_moved() -> World {
    let disk = MemoryDisk::default();
    let world = with_shed_at("bbb", &disk).await;
    let registry = &world.editor.registry;
    let mut taking = (*registry.site(&"aaa".parse().unwrap()).unwrap()).clone();
    taking.domains.insert(shed());
    let value = record::encode_site(&taking);
    let store = &world.editor.store;
    store.put(record::SITE, "aaa", Some(value)).await.unwrap();
    World::on(&disk.killed()).await
}

#[tokio::test]
async fn of_two_records_that_list_a_domain_the_newer_one_has_it_and_it_is_said() {
    let world = half_moved().await;
    let registry = &world.editor.registry;
    assert_eq!(owner(registry).as_deref(), Some("aaa"));
    assert_eq!(registry.alarms().len(), 1);
    assert!(registry.alarms()[0].ends_with("`ddadm site move-domain shed.example --to aaa`"));
    world.shed_to("aaa").await.unwrap();
    assert_eq!(listing(registry), ["aaa"]);
    assert_eq!(registry.alarms(), [""; 0]);

    // What is exported can be taken in, and mends it.
    let world = half_moved().await;
    let registry = &world.editor.registry;
    let text = registry.export();
    assert_eq!(text.matches(SHED).count(), 1, "{text}");
    world.take_in(text.leak()).await.unwrap();
    assert_eq!(listing(registry), ["aaa"]);

    // A change of the older one takes nothing back.
    let world = half_moved().await;
    let registry = &world.editor.registry;
    world.close("bbb").await;
    assert_eq!(owner(registry).as_deref(), Some("aaa"));
    assert_eq!(listing(registry), ["aaa"]);

    // The newer one gives it up.
    let world = half_moved().await;
    let registry = &world.editor.registry;
    world
        .take_in("[site.aaa]\ndomain = \"aaa.example\"\n")
        .await
        .unwrap();
    assert_eq!(owner(registry).as_deref(), Some("bbb"));
    assert_eq!(registry.alarms(), [""; 0]);
}

#[tokio::test]
async fn a_site_that_is_being_removed_gets_no_domain() {
    let world = with_shed_at("aaa", &MemoryDisk::default()).await;
    world.close("bbb").await;
    let refused = world.shed_to("bbb").await.unwrap_err();
    assert!(matches!(
        refused,
        ChangeError::Move(MoveError::Closing { .. })
    ));
    let moving = "[site.aaa]\ndomain = \"aaa.example\"\n[site.bbb]\ndomain = [\"bbb.example\", \"shed.example\"]\n";
    let refused = world.take_in(moving).await.unwrap_err().to_string();
    assert!(refused.contains("is being removed"), "{refused}");
    assert_eq!(listing(&world.editor.registry), ["aaa"]);
}

#[tokio::test]
async fn a_list_is_neither_ended_nor_begun_by_a_move() {
    let world = with_shed_at("aaa", &MemoryDisk::default()).await;
    world
        .list("aaa", &["me@aaa.example", "me@shed.example"])
        .await;
    let ends = world.shed_to("bbb").await.unwrap_err();
    assert!(
        matches!(ends, ChangeError::Move(MoveError::ListLost { .. })),
        "{ends}"
    );
    world.list("bbb", &["me@bbb.example"]).await;
    world.shed_to("bbb").await.unwrap();
    let begins = with_shed_at("aaa", &MemoryDisk::default()).await;
    begins.list("bbb", &["me@bbb.example"]).await;
    let begins = begins.shed_to("bbb").await.unwrap_err();
    assert!(
        matches!(begins, ChangeError::Move(MoveError::Unlisted { .. })),
        "{begins}"
    );
}

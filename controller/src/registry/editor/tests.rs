//! Changes whose callers go away, and what a change costs.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use dd_proto::name::{AgentName, AuthorityName, SiteName};
use dd_proto::pb;
use dd_proto::site::Hold;

use super::*;
use crate::authority::client::AgentKey;
use crate::authority::{ControlAuthority, admin};
use crate::dispatch::{self, ClockMemory};
use crate::registry::ChangeError;
use crate::registry::admins::{self, AdminRecord, AdminRole};
use crate::registry::shown::Sight;
use crate::registry::sites::{Closing, HeldMail};
use crate::store::local::disk::memory::{Fault, MemoryDisk};
use crate::store::local::index::in_memory::InMemory;
use crate::store::local::spares::Making;
use crate::store::local::wall::MachineWall;
use crate::store::local::{Blocking, On};
use crate::store::{MinFree, RebuildIndex, Settings};

mod apply;
mod doors;
mod greeted;
mod moving;

const ANNA: &str = "anna";

struct World {
    editor: Editor,
    running: JoinSet<()>,
    dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        Self::on(&MemoryDisk::default()).await
    }

    async fn on(disk: &MemoryDisk) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let on = On {
            disk: Arc::new(disk.clone()),
            making: Making::WhenTaken,
            shelves: Arc::new(InMemory::default()),
            ballast_bytes: 0,
            wall: Arc::new(MachineWall),
            blocking: Blocking::Threads,
        };
        let settings = Settings {
            dir: "/state".into(),
            segment_bytes: 1 << 20,
            min_free: MinFree::Bytes(0),
            rebuild_index: RebuildIndex::No,
        };
        let (store, _) = Store::open_on(on, &settings).unwrap();
        let mut all_known = store.all_known();
        all_known.wait_for(|known| *known).await.unwrap();
        let registry = Registry::load(&store).unwrap();
        let settings = dispatch::Settings {
            start_number: store.start_number(),
            clock: ClockMemory::default(),
            notifier: crate::dsn::samples::notifier(),
        };
        let (handle, run) = dispatch::start(settings, store.clone(), Vec::new(), Vec::new());
        let (editor, changes) = Editor::new(
            registry,
            store,
            handle,
            SiteDefaults::default(),
            Audit::open(dir.path()).unwrap(),
            SigningKeys::new(dir.path()),
        );
        let mut running = JoinSet::new();
        running.spawn(run);
        running.spawn(changes.run());
        Self {
            editor,
            running,
            dir,
        }
    }

    async fn add_site(&self, spec: pb::SiteSpec) {
        self.add_site_at(spec, now()).await;
    }

    async fn add_site_at(&self, spec: pb::SiteSpec, at: Timestamp) {
        let adding = self.editor.change(move |change| async move {
            let held = HeldMail::Refuse;
            change.add_site(&spec, None, held, ANNA, at).await
        });
        adding.await.unwrap();
    }

    async fn close(&self, site: &'static str) {
        let closing = self.editor.change(move |change| async move {
            change.close_site(site, Closing::Close, ANNA, now()).await
        });
        closing.await.unwrap();
    }

    async fn add_authority(&self) -> AuthorityName {
        let name: AuthorityName = "members".parse().unwrap();
        let added = name.clone();
        let adding = self.editor.change(move |change| async move {
            change
                .create_authority(added, Vec::new(), ANNA, now())
                .await
        });
        adding.await.unwrap();
        name
    }

    async fn add_agent(&self) -> AgentName {
        let name: AgentName = "out1".parse().unwrap();
        let added = name.clone();
        let adding = self.editor.change(move |change| async move {
            change
                .add_agent(
                    added,
                    vec!["192.0.2.10".parse().unwrap()],
                    None,
                    &[7; 32],
                    ANNA,
                    now(),
                )
                .await
        });
        adding.await.unwrap();
        name
    }

    /// The serial of a new certificate of a site.
    async fn issue(&self, site: &'static str) -> String {
        let issuing = self.editor.change(move |change| async move {
            change
                .issue_certificate(site, None, None, ANNA, now())
                .await
        });
        issuing.await.unwrap().issued.serial_text()
    }

    /// Whoever waited went away as soon as he had asked.
    async fn abandoned<T>(&self, change: impl Future<Output = T>) {
        {
            let mut change = pin!(change);
            let polled = change
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_pending());
        }
        self.editor.idle().await;
    }

    /// The newest number of a record.
    async fn newest(&self) -> u64 {
        let store = &self.editor.store;
        store.put("test", "newest", Some("x".into())).await.unwrap()
    }
}

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn spec(name: &str, proof: pb::proof::Kind) -> pb::SiteSpec {
    pb::SiteSpec {
        name: name.to_owned(),
        domains: vec![format!("{name}.example")],
        hosts: vec![pb::Host {
            host: format!("mail.{name}.example"),
            port: 2525,
        }],
        proof: Some(pb::Proof { kind: Some(proof) }),
        ..pb::SiteSpec::default()
    }
}

fn by_port(name: &str) -> pb::SiteSpec {
    spec(name, pb::proof::Kind::Port(pb::proof::Port {}))
}

fn by_certificate(name: &str, authority: &AuthorityName) -> pb::SiteSpec {
    let certificate = pb::proof::Certificate {
        authority: authority.to_string(),
        name: format!("mail.{name}.example"),
    };
    spec(name, pb::proof::Kind::Certificate(certificate))
}

#[tokio::test]
async fn a_change_nobody_waits_for_any_more_is_made_to_its_end() {
    let world = World::new().await;
    let editor = &world.editor;
    world.add_site(by_port("home")).await;
    world.add_site(by_port("gone")).await;
    let agent = world.add_agent().await;
    let (home, gone): (SiteName, SiteName) = ("home".parse().unwrap(), "gone".parse().unwrap());

    let hold = Hold {
        by: ANNA.to_owned(),
        until: None,
        since: now(),
    };
    let holding = move |change: Change| async move {
        change.hold_site("home", Some(hold), ANNA, now()).await
    };
    world.abandoned(editor.change(holding)).await;
    assert!(editor.registry.site(&home).unwrap().hold.is_some());
    let view = editor.dispatch.site_view(home.clone()).await;
    assert_eq!(view.unwrap().state, "held");

    world.close("gone").await;
    let site = gone.clone();
    let removing =
        move |change: Change| async move { change.remove_site(&site, ANNA, now()).await };
    world.abandoned(editor.change(removing)).await;
    assert!(editor.registry.site(&gone).is_none());
    assert!(editor.dispatch.site_view(gone).await.is_none());

    let removing = |change: Change| async move { change.remove_agent("out1", ANNA, now()).await };
    world.abandoned(editor.change(removing)).await;
    assert!(editor.registry.agent(&agent).is_none());
    assert!(editor.dispatch.agent_views().await.is_empty());

    // What is durable is what is shown.
    let stored = Registry::load(&editor.store).unwrap();
    assert_eq!(stored.sites(), editor.registry.sites());
    assert_eq!(stored.agents(), editor.registry.agents());
    editor.audit_synced().await;
    let said: Vec<String> = editor
        .audited(4)
        .await
        .unwrap()
        .into_iter()
        .map(|it| it.what)
        .collect();
    assert!(said[0].starts_with("site home held"), "{said:?}");
    assert!(said[2].starts_with("site gone removed"), "{said:?}");
    assert_eq!(said[3], "agent out1 removed");
}

#[tokio::test]
async fn a_revocation_is_a_record_of_the_certificate_and_one_of_the_authority_however_many_rely_on_it()
 {
    let world = World::new().await;
    let authority = world.add_authority().await;
    world.add_site(by_port("other")).await;
    for number in 0..1000 {
        world
            .add_site(by_certificate(&format!("home{number}"), &authority))
            .await;
    }
    let serial = world.issue("home0").await;
    let before = world.newest().await;
    let revoking =
        move |change: Change| async move { change.revoke_certificate(&serial, ANNA, now()).await };
    world.abandoned(world.editor.change(revoking)).await;
    let registry = &world.editor.registry;
    let version = registry.authority(&authority).unwrap().version;
    // Each is written twice.
    assert_eq!(version, before + 4);
    assert_eq!(world.newest().await, version + 2);
    // Agents are sent the new list all the same, each site's with its next plan.
    for site in registry.dispatched_sites() {
        let follows = site.proof.certified().is_some();
        assert_eq!(site.version.0 == version, follows, "{}", site.name);
    }
    // And a stop between the two records is made good.
    let stored = Registry::load(&world.editor.store).unwrap();
    assert_eq!(stored.dispatched_sites(), registry.dispatched_sites());
}

#[tokio::test]
async fn a_change_that_panics_ends_the_part_they_run_in() {
    let mut world = World::new().await;
    let editor = world.editor.clone();
    world
        .running
        .spawn(async move { editor.change(|_| async { panic!("on purpose") }).await });
    let ended = world.running.join_next().await.unwrap();
    assert!(ended.is_ok());
    assert!(world.editor.begun.is_closed());
}

fn sight() -> Sight {
    Sight {
        host: "mail.gone.example:2525".to_owned(),
        address: "192.0.2.9:2525".to_owned(),
        proof: "port".to_owned(),
        tls_version: "TLSv1.3".to_owned(),
        certificate: None,
        first: now(),
        last: now(),
        agent: "out1".parse().unwrap(),
    }
}

#[tokio::test]
async fn a_site_that_was_opened_again_is_not_removed() {
    let world = World::new().await;
    world.add_site(by_port("home")).await;
    let name: SiteName = "home".parse().unwrap();
    let site = name.clone();
    let removing = |change: Change| async move { change.remove_site(&site, ANNA, now()).await };
    let removed = world.editor.change(removing).await;
    assert!(
        matches!(removed, Err(ChangeError::NotClosed(_))),
        "{removed:?}"
    );
    assert!(world.editor.registry.site(&name).is_some());
}

/// The disk fails right behind the record: what is durable is in force.
#[tokio::test]
async fn a_removal_is_in_force_although_what_the_site_showed_could_not_be_forgotten() {
    let disk = MemoryDisk::default();
    let world = World::on(&disk).await;
    world.add_site(by_port("gone")).await;
    let name: SiteName = "gone".parse().unwrap();
    let site = name.clone();
    let seeing = |change: Change| async move { change.saw(&site, &sight()).await };
    world.editor.change(seeing).await.unwrap();
    world.close("gone").await;
    // The removal writes and syncs.
    let kind = std::io::ErrorKind::Other;
    disk.at(disk.operations() + 3, Fault::FromThen(kind));
    let site = name.clone();
    let removing = |change: Change| async move { change.remove_site(&site, ANNA, now()).await };
    world.editor.change(removing).await.unwrap();
    let registry = &world.editor.registry;
    assert!(registry.site(&name).is_none());
    assert!(registry.shown(&name).is_some());
    assert!(world.editor.dispatch.site_view(name).await.is_none());
}

/// The identity in the state directory, before and after whatever becomes of its record.
struct OwnAdmin {
    state: tempfile::TempDir,
    authority: ControlAuthority,
}

impl OwnAdmin {
    async fn of(world: &World) -> Self {
        let state = tempfile::tempdir().unwrap();
        let authority = ControlAuthority::open(state.path(), now()).unwrap();
        let own = Self { state, authority };
        assert!(own.started(world).await.unwrap().key.is_some());
        own
    }

    /// What is known of it after a start.
    async fn started(&self, world: &World) -> Option<Arc<AdminRecord>> {
        let read = || Registry::load(&world.editor.store).unwrap();
        crate::keep_admin(
            &self.authority,
            self.state.path(),
            &read(),
            &world.editor,
            now(),
        )
        .await;
        read().admin_record(&admin::name())
    }
}

async fn remove_admin(world: &World) {
    let removing = world.editor.change(|change| async move {
        let name = admin::name();
        change.remove_admin(name.as_str(), ANNA, now()).await
    });
    removing.await.unwrap();
}

#[tokio::test]
async fn a_removed_identity_stays_out_though_another_one_had_its_name_since() {
    let world = World::new().await;
    let own = OwnAdmin::of(&world).await;
    remove_admin(&world).await;
    let another = AdminRecord {
        name: admin::name(),
        role: AdminRole::Reader,
        key: Some(AgentKey([9; 32])),
        until: now(),
        origin: admins::Origin::Asked,
        seen: None,
    };
    let key = another.key;
    let adding = world
        .editor
        .change(|change| async move { change.add_admin(another, ANNA, now()).await });
    adding.await.unwrap();
    assert_eq!(own.started(&world).await.unwrap().key, key);
    remove_admin(&world).await;
    let known = own.started(&world).await.unwrap();
    assert_eq!((known.key, known.origin), (None, admins::Origin::Here));
}

#[tokio::test]
async fn a_renewal_that_a_removal_has_overtaken_lets_nobody_in() {
    let world = World::new().await;
    let own = OwnAdmin::of(&world).await;
    let known = own.started(&world).await.unwrap();
    remove_admin(&world).await;
    let registering = world.editor.change(|change| async move {
        let renewed = (*known).clone();
        change.register_own_admin(renewed, Some(&known)).await
    });
    assert!(!registering.await.unwrap());
    assert_eq!(own.started(&world).await.unwrap().key, None);
}

#[tokio::test]
async fn a_damaged_record_lets_nobody_in_who_may_have_been_removed() {
    let world = World::new().await;
    let own = OwnAdmin::of(&world).await;
    remove_admin(&world).await;
    let store = &world.editor.store;
    store.put("admin", "admin", Some("x".into())).await.unwrap();
    assert_eq!(own.started(&world).await, None);
    assert!(!Registry::load(store).unwrap().alarms().is_empty());
}

#[tokio::test]
async fn time_for_which_damage_holds_mail_does_not_count() {
    let world = World::new().await;
    world.add_site(by_port("home")).await;
    world.add_site(by_port("lost")).await;
    let at = |seconds| now() + jiff::SignedDuration::from_secs(seconds);
    let registry = world.editor.registry.clone();
    registry.write().keys = crate::registry::damage::Keys::Lost;
    let note = |at| {
        let noting = world
            .editor
            .change(move |change| async move { change.note_damage(at).await });
        async move { noting.await.unwrap() }
    };
    note(at(0)).await;
    // The next start finds the same damage; it began when it was found first.
    note(at(500)).await;
    let loaded = Registry::load(&world.editor.store).unwrap();
    assert_eq!(loaded.read().damaged_since, Some(at(0)));
    let applying = world
        .editor
        .change(move |change| async move { change.end_damage_hold(ANNA, at(1000)).await });
    applying.await.unwrap();
    let loaded = Registry::load(&world.editor.store).unwrap();
    for name in ["home", "lost"] {
        let site = loaded.site(&name.parse().unwrap()).unwrap();
        let held: Vec<_> = site.held_before.iter().map(|it| it.to_string()).collect();
        assert_eq!(held, [format!("{}/{}", at(0), at(1000))], "{name}");
    }
    note(at(2000)).await;
    assert_eq!(registry.read().damaged_since, None);

    // Of one site only, which is added again.
    let store = &world.editor.store;
    store.put("site", "torn", Some("x".into())).await.unwrap();
    let torn = Registry::load(store).unwrap().read().damaged.clone();
    registry.write().damaged = torn;
    note(at(3000)).await;
    world.add_site_at(by_port("torn"), at(4000)).await;
    world.add_site_at(by_port("other"), at(4000)).await;
    let held = |name: &str| {
        registry
            .site(&name.parse().unwrap())
            .unwrap()
            .held_before
            .clone()
    };
    assert_eq!(held("torn").iter().count(), 1);
    assert!(held("other").is_empty());
}

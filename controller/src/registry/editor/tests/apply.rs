//! An export of any age is applied: what counts as proof stays as it is.

use bytes::Bytes;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, SerialNumber, date_time_ymd,
};

use super::*;
use crate::registry::apply::{Applied, ApplyError, How};
use crate::registry::lists;
use crate::registry::own::{Rollover, StillUsed};

impl World {
    pub(super) async fn apply(&self, text: &str) -> Result<Applied, ApplyError> {
        let text = text.to_owned();
        let applying = self.editor.change(move |change| async move {
            let tried = change.apply(&text, How::Try, ANNA, now()).await?;
            let applied = change.apply(&text, How::Apply, ANNA, now()).await?;
            // Signatures differ each time, words do not.
            assert_eq!(tried, applied);
            Ok(applied)
        });
        applying.await
    }

    async fn revoke(&self, serial: &str) {
        let serial = serial.to_owned();
        let revoking = self.editor.change(move |change| async move {
            change.revoke_certificate(&serial, ANNA, now()).await
        });
        revoking.await.unwrap();
    }

    async fn roll_over(&self, step: Rollover) {
        let rolling = self.editor.change(move |change| async move {
            change.roll_over("members", step, ANNA, now()).await
        });
        rolling.await.unwrap();
    }

    async fn import(&self, certificates: &[&Bytes], lists: &[&Bytes]) {
        self.try_import(certificates, lists).await.unwrap();
    }

    pub(super) async fn try_import(
        &self,
        certificates: &[&Bytes],
        lists: &[&Bytes],
    ) -> Result<Arc<Authority>, ChangeError> {
        let owned = |all: &[&Bytes]| all.iter().map(|it| (*it).clone()).collect::<Vec<_>>();
        let (certificates, lists) = (owned(certificates), owned(lists));
        let importing = self.editor.change(move |change| async move {
            let name = "members".parse().unwrap();
            change
                .import_authority(name, certificates, lists, ANNA, now())
                .await
        });
        importing.await
    }

    pub(super) fn members(&self) -> Arc<Authority> {
        let name = "members".parse().unwrap();
        self.editor.registry.authority(&name).unwrap()
    }

    /// How many the list of each certificate revokes.
    fn revoked(&self) -> Vec<usize> {
        let lists = &self.members().revocation_lists;
        lists.iter().map(|it| lists::revoked(it).len()).collect()
    }

    fn export(&self) -> String {
        self.editor.registry.export()
    }
}

#[tokio::test]
async fn an_older_export_undoes_no_revocation() {
    let world = World::new().await;
    let authority = world.add_authority().await;
    world.add_site(by_certificate("home", &authority)).await;
    let older = world.export();
    let serial = world.issue("home").await;
    world.revoke(&serial).await;
    assert_eq!(world.revoked(), [1]);
    let applied = world.apply(&older).await.unwrap();
    assert_eq!(world.revoked(), [1]);
    assert_eq!(applied.changed, [""; 0]);
    let reloaded = Registry::load(&world.editor.store).unwrap();
    assert_eq!(reloaded.authorities(), world.editor.registry.authorities());
}

#[tokio::test]
async fn a_second_revocation_makes_sure_that_the_list_says_it() {
    let world = World::new().await;
    let authority = world.add_authority().await;
    world.add_site(by_certificate("home", &authority)).await;
    let before = (*world.members()).clone();
    let serial = world.issue("home").await;
    world.revoke(&serial).await;
    let putting = world.editor.change(move |change| async move {
        change.put_authority(before, "put back", ANNA, now()).await
    });
    putting.await.unwrap();
    assert_eq!(world.revoked(), [0]);
    world.revoke(&serial).await;
    assert_eq!(world.revoked(), [1]);
}

/// Restored from the file alone, the registry knows no certificate that was issued: the list is what is left.
#[tokio::test]
async fn what_the_list_of_a_restored_authority_revokes_stays_revoked() {
    let world = World::new().await;
    let authority = world.add_authority().await;
    world.add_site(by_certificate("home", &authority)).await;
    let first = world.issue("home").await;
    world.revoke(&first).await;
    let file = world.export();
    {
        let mut snapshot = world.editor.registry.write();
        snapshot.issued.clear();
        snapshot.authorities.clear();
    }
    world.apply(&file).await.unwrap();
    assert_eq!(world.revoked(), [1]);
    let keeping = world
        .editor
        .change(|change| async move { change.keep_authorities(now()).await });
    keeping.await.unwrap();
    assert_eq!(world.revoked(), [1]);
    let second = world.issue("home").await;
    world.revoke(&second).await;
    assert_eq!(world.revoked(), [2]);
}

/// What keeps one list from being made keeps no other, of the same authority or of another one.
#[tokio::test]
async fn each_list_is_renewed_whose_key_is_there_and_each_missing_key_is_told() {
    let world = World::new().await;
    world.add_authority().await;
    world.roll_over(Rollover::Begin).await;
    for name in ["associates", "partners"] {
        let adding = world.editor.change(move |change| async move {
            let name = name.parse().unwrap();
            change.create_authority(name, Vec::new(), ANNA, now()).await
        });
        adding.await.unwrap();
    }
    let keys = SigningKeys::new(world.dir.path());
    let before = world.editor.registry.authorities();
    for (authority, certificate) in [(&before[0], 0), (&before[1], 1)] {
        let certificate = &authority.certificates[certificate];
        keys.remove(&authority.name, certificate).unwrap();
    }

    let keeping = world.editor.change(|change| async move {
        let later = now() + jiff::SignedDuration::from_hours(24 * 25);
        change.keep_authorities(later).await
    });
    let lacking = keeping.await.unwrap();
    let lacking: Vec<_> = lacking.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(lacking, ["associates", "members"]);

    let lists = |all: &[Arc<Authority>]| -> Vec<Bytes> {
        let lists = all.iter().flat_map(|it| it.revocation_lists.clone());
        lists.collect()
    };
    let (before, after) = (lists(&before), lists(&world.editor.registry.authorities()));
    let made: Vec<bool> = before
        .iter()
        .zip(&after)
        .map(|(one, other)| one != other)
        .collect();
    // Associates', the members' new and old one, the partners'.
    assert_eq!(made, [false, true, false, true]);
}

#[tokio::test]
async fn an_older_export_undoes_no_roll_over_of_our_own_and_brings_no_old_key_back() {
    let world = World::new().await;
    world.add_authority().await;
    let before = world.export();
    world.roll_over(Rollover::Begin).await;
    let rolling = world.members();
    let meanwhile = world.export();

    let applied = world.apply(&before).await.unwrap();
    assert_eq!(world.members().certificates, rolling.certificates);
    let newest = "authority members: certificate `CN=members G2`";
    assert!(applied.lacks[0].starts_with(newest), "{applied:?}");

    world.roll_over(Rollover::Finish(StillUsed::Refuse)).await;
    let finished = world.members();
    for older in [&before, &meanwhile] {
        let applied = world.apply(older).await.unwrap();
        assert_eq!(world.members().certificates, finished.certificates);
        let told = &applied.not_taken[0];
        assert!(told.contains("ca rollover"), "{told}");
    }
    let imported = before.replace("own = true\n", "");
    let refused = world.apply(&imported).await.unwrap_err().to_string();
    assert!(refused.contains("our own"), "{refused}");
}

struct Foreign {
    certificate: Bytes,
    issuer: Issuer<'static, KeyPair>,
}

impl Foreign {
    fn new(subject: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, subject);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().to_vec().into();
        let issuer = Issuer::new(params, key);
        Self {
            certificate,
            issuer,
        }
    }

    fn list(&self, year: i32) -> Bytes {
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(year, 1, 1),
            next_update: date_time_ymd(year, 2, 1),
            crl_number: SerialNumber::from(7_u64),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params
            .signed_by(&self.issuer)
            .unwrap()
            .der()
            .to_vec()
            .into()
    }
}

#[tokio::test]
async fn an_older_export_undoes_no_newer_list_of_an_imported_authority_and_a_newer_one_comes_in() {
    let world = World::new().await;
    let foreign = Foreign::new("foreign");
    let (older, newer) = (foreign.list(2024), foreign.list(2025));
    world.import(&[&foreign.certificate], &[&older]).await;
    let before = world.export();
    world.import(&[], &[&newer]).await;
    let after = world.export();

    let applied = world.apply(&before).await.unwrap();
    assert_eq!(
        world.members().revocation_lists,
        std::slice::from_ref(&newer)
    );
    assert_eq!(applied.unchanged, 1);
    assert_eq!(applied.changed, [""; 0]);
    assert!(applied.not_taken[0].contains("stays"), "{applied:?}");

    let other = World::new().await;
    other.import(&[&foreign.certificate], &[&older]).await;
    let applied = other.apply(&after).await.unwrap();
    assert_eq!(other.members().revocation_lists, [newer]);
    assert!(applied.changed[0].contains("2025-01-01"), "{applied:?}");
}

#[tokio::test]
async fn certificates_of_an_imported_authority_are_replaced_where_the_file_says_so_only() {
    let world = World::new().await;
    let (first, second) = (Foreign::new("first"), Foreign::new("second"));
    world
        .import(&[&first.certificate], &[&first.list(2025)])
        .await;
    let before = world.export();
    world.import(&[&second.certificate], &[]).await;

    let applied = world.apply(&before).await.unwrap();
    assert_eq!(
        world.members().certificates,
        std::slice::from_ref(&second.certificate)
    );
    assert!(applied.not_taken[0].contains("`CN=first"), "{applied:?}");
    assert!(applied.lacks[0].contains("CN=second"), "{applied:?}");

    let table = "[authority.members]\n";
    let said = before.replace(table, &format!("{table}replace = true\n"));
    let applied = world.apply(&said).await.unwrap();
    assert_eq!(world.members().certificates, [first.certificate]);
    assert_eq!(world.members().revocation_lists.len(), 1);
    for told in ["CN=first", "added", "CN=second", "taken out"] {
        assert!(applied.changed[0].contains(told), "{applied:?}");
    }
    world.editor.audit_synced().await;
    let audited = world.editor.audited(1).await.unwrap();
    let (_, told) = applied.changed[0].split_once(": ").unwrap();
    assert!(audited[0].what.ends_with(told), "{audited:?}");
}

/// An earlier version took an address with a length for its network.
#[tokio::test]
async fn a_network_that_was_stored_with_an_address_in_it_blocks_neither_a_change_nor_an_export() {
    let disk = MemoryDisk::default();
    let world = World::on(&disk).await;
    world.add_site(by_port("home")).await;
    let home: SiteName = "home".parse().unwrap();
    let mut site = (*world.editor.registry.site(&home).unwrap()).clone();
    site.allow_targets = vec!["192.168.1.7/24".parse().unwrap()];
    let value = crate::registry::record::encode_site(&site);
    let store = &world.editor.store;
    store.put("site", "home", Some(value)).await.unwrap();

    let world = World::on(&disk.killed()).await;
    let change = pb::SiteSpec {
        name: "home".to_owned(),
        connections: Some(3),
        ..pb::SiteSpec::default()
    };
    let setting = world
        .editor
        .change(move |it| async move { it.set_site(&change, None, ANNA, now()).await });
    setting.await.unwrap();
    let text = world.export();
    assert!(text.contains("192.168.1.0/24"), "{text}");
    let applied = world.apply(&text).await.unwrap();
    assert_eq!((applied.changed.len(), applied.unchanged), (0, 1));
    // What is written now is what is meant.
    let typed = text.replace("192.168.1.0/24", "192.168.1.7/24");
    let refused = world.apply(&typed).await.unwrap_err().to_string();
    assert!(
        refused.contains("192.168.1.0/24 for the network"),
        "{refused}"
    );
}

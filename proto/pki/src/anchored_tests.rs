use super::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};

struct Ca {
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

fn params(subject: &str, names: &[&str], serial: u64) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, subject);
    params.serial_number = Some(SerialNumber::from(serial));
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2040, 1, 1);
    params
}

fn ca_params(subject: &str, serial: u64) -> CertificateParams {
    let mut params = params(subject, &[], serial);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Ca {
    fn new(subject: &str) -> Self {
        let params = ca_params(subject, 1);
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        let issuer = Issuer::new(params, key);
        Self { der, issuer }
    }

    fn below(&self, subject: &str, serial: u64) -> Self {
        let params = ca_params(subject, serial);
        let key = KeyPair::generate().unwrap();
        let der = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let issuer = Issuer::new(params, key);
        Self { der, issuer }
    }

    fn leaf(&self, serial: u64) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let params = params("home", &["home.example"], serial);
        params.signed_by(&key, &self.issuer).unwrap().der().clone()
    }

    /// A list whose next update is long past.
    fn list(&self, revoked: &[u64]) -> CertificateRevocationListDer<'static> {
        let entry = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2021, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2021, 1, 1),
            next_update: date_time_ymd(2021, 2, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().der().clone()
    }
}

/// How many anchors a chain leads to, or why none.
fn verified(
    anchors: &[&Ca],
    lists: &[CertificateRevocationListDer<'static>],
    chain: &[CertificateDer<'static>],
) -> Result<usize, &'static str> {
    let anchors: Vec<_> = anchors.iter().map(|ca| ca.der.clone()).collect();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let anchored =
        Anchored::new(&anchors, lists, &provider).map_err(|unusable| match unusable {
            Unusable::NoAnchor => "NoAnchor",
            Unusable::UnreadableList | Unusable::List(_) => "BadRevocationList",
        })?;
    let name = ServerName::try_from("home.example").unwrap();
    // 2026-06-01
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_780_272_000));
    anchored
        .verify(&chain[0], &chain[1..], &name, now)
        .map(|anchors| anchors.len())
        .map_err(|error| word(&error))
}

fn word(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Revoked) => "Revoked",
        rustls::Error::InvalidCertificate(CertificateError::UnknownRevocationStatus) => {
            "RevocationUnknown"
        }
        rustls::Error::InvalidCertRevocationList(_) => "BadRevocationList",
        _ => "other",
    }
}

#[test]
fn every_anchor_is_held_to_its_own_list() {
    let (old, new) = (Ca::new("members"), Ca::new("members 2"));
    let both = [&old, &new];
    let (of_old, of_new) = ([old.leaf(7)], [new.leaf(7)]);
    let (old_list, new_list) = (|ids: &[u64]| old.list(ids), |ids: &[u64]| new.list(ids));
    for (lists, chain, expected) in [
        (vec![], &of_old, Ok(1)),
        (vec![], &of_new, Ok(1)),
        // An anchor without a list is not refused for it, and does not excuse the other.
        (vec![old_list(&[])], &of_old, Ok(1)),
        (vec![old_list(&[])], &of_new, Ok(1)),
        (vec![old_list(&[7])], &of_old, Err("Revoked")),
        (vec![old_list(&[7])], &of_new, Ok(1)),
        (vec![old_list(&[]), new_list(&[7])], &of_old, Ok(1)),
        (vec![old_list(&[]), new_list(&[7])], &of_new, Err("Revoked")),
        (vec![old_list(&[8])], &of_old, Ok(1)),
    ] {
        assert_eq!(verified(&both, &lists, chain), expected);
    }
}

#[test]
fn two_anchors_of_one_name_are_told_apart_by_their_keys() {
    let (old, new) = (Ca::new("members"), Ca::new("members"));
    let both = [&old, &new];
    let (of_old, of_new) = ([old.leaf(7)], [new.leaf(7)]);
    assert_eq!(verified(&both, &[old.list(&[7])], &of_old), Err("Revoked"));
    assert_eq!(verified(&both, &[old.list(&[7])], &of_new), Ok(1));
    let lists = [old.list(&[]), new.list(&[7])];
    assert_eq!(verified(&both, &lists, &of_old), Ok(1));
    assert_eq!(verified(&both, &lists, &of_new), Err("Revoked"));
}

#[test]
fn lists_of_nobody_known_here_are_not_passed_over() {
    let (ca, stranger) = (Ca::new("members"), Ca::new("strangers"));
    let twin = Ca::new("members");
    let chain = [ca.leaf(7)];
    for (list, reason) in [
        (stranger.list(&[]), "RevocationUnknown"),
        (twin.list(&[]), "BadRevocationList"),
    ] {
        assert_eq!(verified(&[&ca], &[list], &chain), Err(reason));
    }
    // Beside the anchor's own list a stranger's changes nothing.
    let lists = [stranger.list(&[7]), ca.list(&[])];
    assert_eq!(verified(&[&ca], &lists, &chain), Ok(1));
    let junk = CertificateRevocationListDer::from(vec![1, 2, 3]);
    assert_eq!(verified(&[&ca], &[junk], &chain), Err("BadRevocationList"));
    assert_eq!(verified(&[], &[], &chain), Err("NoAnchor"));
}

#[test]
fn an_intermediate_is_held_to_the_lists_that_are_there() {
    let root = Ca::new("root");
    let issuing = root.below("issuing", 5);
    let chain = [issuing.leaf(7), issuing.der.clone()];
    for (lists, expected) in [
        (vec![], Ok(1)),
        // The root has a list, so everything below it has to be on one.
        (vec![root.list(&[])], Err("RevocationUnknown")),
        (vec![root.list(&[]), issuing.list(&[])], Ok(1)),
        (vec![root.list(&[5]), issuing.list(&[])], Err("Revoked")),
        (vec![root.list(&[]), issuing.list(&[7])], Err("Revoked")),
    ] {
        assert_eq!(verified(&[&root], &lists, &chain), expected);
    }
    // Known by both certificates, and revoked below either.
    let both = [&root, &issuing];
    assert_eq!(verified(&both, &[], &chain), Ok(2));
    assert_eq!(
        verified(&both, &[issuing.list(&[7])], &chain),
        Err("Revoked")
    );
}

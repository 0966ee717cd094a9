//! Validity, purpose, extensions and keys of the certificate itself.

use rcgen::{
    BasicConstraints, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SanType, date_time_ymd,
};

use super::authority::{Ca, NAME, Shown, params};
use super::case::{Postfix, Table};

pub(crate) fn add(table: &mut Table) {
    table.leaf(
        "expired",
        &[NAME],
        |p| p.not_after = date_time_ymd(2024, 1, 1),
        "Expired",
    );
    table.leaf(
        "not yet valid",
        &[NAME],
        |p| p.not_before = date_time_ymd(2049, 1, 1),
        "NotYetValid",
    );
    table.leaf(
        "ends before it begins",
        &[NAME],
        |p| {
            p.not_before = date_time_ymd(2030, 1, 1);
            p.not_after = date_time_ymd(2022, 1, 1);
        },
        "Expired",
    );
    table.leaf(
        "for clients only",
        &[NAME],
        |p| {
            p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        },
        "WrongPurpose",
    );
    table.leaf(
        "for servers",
        &[NAME],
        |p| {
            p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        },
        "ok",
    );
    table.leaf(
        "for servers and clients",
        &[NAME],
        |p| {
            p.extended_key_usages = vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ];
        },
        "ok",
    );
    table.leaf(
        "for signing code",
        &[NAME],
        |p| {
            p.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        },
        "WrongPurpose",
    );
    table.leaf(
        "for mail",
        &[NAME],
        |p| {
            p.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection];
        },
        "WrongPurpose",
    );
    table
        .leaf(
            "CA:TRUE",
            &[NAME],
            |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
            "CaUsedAsEndEntity",
        )
        .postfix = Postfix::Differs;
    table.leaf("CA:FALSE", &[NAME], |p| p.is_ca = IsCa::ExplicitNoCa, "ok");
    table.leaf(
        "unknown critical extension",
        &[NAME],
        |p| p.custom_extensions = vec![unknown_critical()],
        "CriticalExtension",
    );
    table.leaf(
        "unknown extension",
        &[NAME],
        |p| {
            p.custom_extensions = vec![CustomExtension::from_oid_content(
                &[1, 3, 6, 1, 4, 1, 99999, 1],
                vec![5, 0],
            )];
        },
        "ok",
    );
    for (what, algorithm) in [
        ("P-384", &PKCS_ECDSA_P384_SHA384),
        ("Ed25519", &PKCS_ED25519),
    ] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let params = params("server", &[NAME]);
        let der = params
            .signed_by(&key, &table.ca.issuer)
            .unwrap()
            .der()
            .clone();
        let shown = Shown {
            chain: vec![der],
            key: key.serialize_der(),
        };
        table.add(what, shown, "ok");
    }
    let own = Shown {
        chain: vec![table.ca.der.clone()],
        key: table.ca.key.clone(),
    };
    table
        .add("the authority's own certificate", own, "CaUsedAsEndEntity")
        .postfix = Postfix::Same;
    let lone = Ca::new("lone", |p| {
        p.is_ca = IsCa::NoCa;
        p.subject_alt_names = vec![SanType::DnsName(NAME.try_into().unwrap())];
    });
    let lone = Shown {
        chain: vec![lone.der.clone()],
        key: lone.key,
    };
    table.add("self-signed", lone, "SelfSigned");
}

pub(crate) fn unknown_critical() -> CustomExtension {
    let mut unknown = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 2], vec![5, 0]);
    unknown.set_criticality(true);
    unknown
}

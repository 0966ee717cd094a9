//! What stands between the certificate and the authority.

use rcgen::{
    BasicConstraints, GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose, NameConstraints,
    date_time_ymd,
};

use super::authority::{Ca, NAME, ca_params, nothing};
use super::case::Table;
use super::leaves::unknown_critical;

pub(crate) fn add(table: &mut Table) {
    let other = Ca::new("other", nothing);
    let twin = Ca::new("members", nothing);
    let middle = table.ca.below("middle", nothing);
    let leaf = |of: &Ca| of.leaf(&[NAME], nothing);
    table.add(
        "other authority",
        leaf(&other).and(&[&other]),
        "UnknownIssuer",
    );
    table.add(
        "other authority without its certificate",
        leaf(&other),
        "ChainIncomplete",
    );
    table.add("same subject, another key", leaf(&twin), "SameNameOtherKey");
    table.add(
        "same subject, another key, and its root",
        leaf(&twin).and(&[&twin]),
        "SameNameOtherKey",
    );
    table.add("root sent along", leaf(&table.ca).and(&[&table.ca]), "ok");
    table.add("intermediate", leaf(&middle).and(&[&middle]), "ok");
    table.add("intermediate missing", leaf(&middle), "ChainIncomplete");
    let second = middle.below("second", nothing);
    table.add(
        "two intermediates",
        leaf(&second).and(&[&second, &middle]),
        "ok",
    );
    table.add(
        "two intermediates, shuffled",
        leaf(&second).and(&[&middle, &second]),
        "ok",
    );
    table.add(
        "the upper one missing",
        leaf(&second).and(&[&second]),
        "ChainIncomplete",
    );
    table.add(
        "a stranger sent along",
        leaf(&table.ca).and(&[&other]),
        "ok",
    );
    let cross = other.also_by(&table.ca, "other");
    table.add("cross-signed", leaf(&other).and_der(cross), "ok");
    let no_ca = table.ca.below("no ca", |p| p.is_ca = IsCa::ExplicitNoCa);
    table.add(
        "intermediate without CA:TRUE",
        leaf(&no_ca).and(&[&no_ca]),
        "ChainNotAllowed",
    );
    let no_sign = table.ca.below("no sign", |p| {
        p.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    });
    table.add(
        "intermediate that may not sign",
        leaf(&no_sign).and(&[&no_sign]),
        "ChainNotAllowed",
    );
    let old = table
        .ca
        .below("old", |p| p.not_after = date_time_ymd(2024, 1, 1));
    table.add("intermediate expired", leaf(&old).and(&[&old]), "Expired");
    let short = table.ca.below("short", |p| {
        p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    });
    let too_low = short.below("too low", nothing);
    table.add(
        "path length exceeded",
        leaf(&too_low).and(&[&too_low, &short]),
        "ChainNotAllowed",
    );
    table.add("path length kept", leaf(&short).and(&[&short]), "ok");
    let critical = table.ca.below("critical", |p| {
        p.custom_extensions = vec![unknown_critical()];
    });
    table.add(
        "intermediate with an unknown critical extension",
        leaf(&critical).and(&[&critical]),
        "CriticalExtension",
    );
    let mut lowest = table.ca.below("step 0", nothing);
    let mut chain = vec![lowest.der.clone()];
    for step in 1..100 {
        lowest = lowest.below(&format!("step {step}"), nothing);
        chain.insert(0, lowest.der.clone());
    }
    let mut long = leaf(&lowest);
    long.chain.extend(chain);
    table.add("a chain of 100", long, "ChainNotAllowed");
    for (what, permitted, excluded, verdict) in [
        ("name permitted", "example", None, "ok"),
        (
            "name not permitted",
            "elsewhere.example",
            None,
            "NameNotPermitted",
        ),
        ("name excluded", "example", Some(NAME), "NameNotPermitted"),
    ] {
        let mut params = ca_params("constrained");
        let subtree = |name: &str| GeneralSubtree::DnsName(name.to_owned());
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![subtree(permitted)],
            excluded_subtrees: excluded.map(subtree).into_iter().collect(),
        });
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        let ca = Ca::of(der, params, key);
        let shown = leaf(&ca);
        table.add(what, shown, verdict).anchors = vec![ca.der];
    }
    let ended = Ca::new("ended", |p| p.not_after = date_time_ymd(2024, 1, 1));
    table
        .add("anchor expired", leaf(&ended), "AnchorExpired")
        .anchors = vec![ended.der.clone()];
    let coming = Ca::new("coming", |p| p.not_before = date_time_ymd(2049, 1, 1));
    table
        .add("anchor not yet valid", leaf(&coming), "AnchorNotYetValid")
        .anchors = vec![coming.der.clone()];
    let shown = leaf(&other);
    let both = vec![table.ca.der.clone(), other.der.clone()];
    table.add("the second of two anchors", shown, "ok").anchors = both;
}

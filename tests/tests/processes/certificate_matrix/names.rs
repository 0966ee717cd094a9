//! Which names a certificate may have to prove the site.

use rcgen::{CustomExtension, DnType, DnValue, SanType};

use super::authority::{NAME, nothing};
use super::case::{Postfix, Table};

pub(crate) fn add(table: &mut Table) {
    let good = "ok";
    let bad = "NameMismatch";
    table.leaf("right", &[NAME], nothing, good);
    table.leaf(
        "right among others",
        &["a.example", NAME, "b.example"],
        nothing,
        good,
    );
    table.leaf("upper case", &["HOME.Example"], nothing, good);
    table.leaf("another member's", &["neighbour.example"], nothing, bad);
    table.leaf("two of others", &["a.example", "b.example"], nothing, bad);
    table.leaf("name as a prefix", &["home.example.net"], nothing, bad);
    table.leaf("name as a suffix", &["at.home.example"], nothing, bad);
    table.leaf("name glued in front", &["myhome.example"], nothing, bad);
    table.leaf("parent", &["example"], nothing, bad);
    table.leaf(
        "partial wildcard",
        &["ho*.example"],
        nothing,
        "NameMismatch",
    );
    table.leaf("wildcard of the top", &["*"], nothing, bad);
    table.leaf("wildcard below", &["*.home.example"], nothing, bad);
    table.leaf(
        "wildcard of a whole top level",
        &["*.example"],
        nothing,
        bad,
    );
    table
        .leaf("wildcard", &["*.home.example"], nothing, good)
        .name = "mail.home.example";
    table.leaf("double wildcard", &["*.*.example"], nothing, bad);
    table.leaf("IDN of another", &["xn--hme-lna.example"], nothing, bad);
    table.leaf(
        "an address only",
        &[],
        |p| {
            p.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
        },
        bad,
    );
    table.leaf(
        "a mail address only",
        &[],
        |p| {
            p.subject_alt_names = vec![SanType::Rfc822Name(NAME.try_into().unwrap())];
        },
        bad,
    );
    table.leaf(
        "a URI only",
        &[],
        |p| {
            p.subject_alt_names = vec![SanType::URI("https://home.example/".try_into().unwrap())];
        },
        bad,
    );
    table.leaf("no name at all", &[], nothing, bad);
    table
        .leaf(
            "common name only",
            &[],
            |p| {
                p.distinguished_name = rcgen::DistinguishedName::new();
                p.distinguished_name.push(DnType::CommonName, NAME);
            },
            "NameOnlyInCn",
        )
        .postfix = Postfix::Differs;
    table.leaf(
        "common name right, alternative wrong",
        &["neighbour.example"],
        |p| {
            p.distinguished_name.push(DnType::CommonName, NAME);
        },
        bad,
    );
    table.leaf(
        "common name wrong, alternative right",
        &[NAME],
        |p| {
            p.distinguished_name
                .push(DnType::CommonName, "neighbour.example");
        },
        good,
    );
    table.leaf(
        "trailing dot",
        &[],
        |p| p.custom_extensions = vec![san(b"home.example.")],
        bad,
    );
    table.leaf(
        "leading dot",
        &[],
        |p| p.custom_extensions = vec![san(b".home.example")],
        bad,
    );
    table.leaf(
        "NUL behind the name",
        &[],
        |p| {
            p.custom_extensions = vec![san(b"home.example\0.evil.example")];
        },
        bad,
    );
    table.leaf(
        "NUL in front",
        &[],
        |p| p.custom_extensions = vec![san(b"\0home.example")],
        bad,
    );
    table.leaf(
        "empty name",
        &[],
        |p| p.custom_extensions = vec![san(b"")],
        bad,
    );
    table.leaf(
        "empty list of names",
        &[],
        |p| {
            p.custom_extensions = vec![CustomExtension::from_oid_content(
                &[2, 5, 29, 17],
                vec![0x30, 0],
            )];
        },
        bad,
    );
    table.leaf(
        "space behind the name",
        &[],
        |p| p.custom_extensions = vec![san(b"home.example ")],
        bad,
    );
    table.leaf(
        "name of raw UTF-8",
        &[],
        |p| p.custom_extensions = vec![san("h\u{f6}me.example".as_bytes())],
        bad,
    );
    table
        .leaf("IDN right", &["xn--hme-sna.example"], nothing, good)
        .name = "xn--hme-sna.example";
    table.leaf(
        "BMP common name",
        &[NAME],
        |p| {
            p.distinguished_name.push(
                DnType::OrganizationName,
                DnValue::Utf8String("\u{202e}evil".into()),
            );
        },
        good,
    );
}

/// A subject alternative name with this dNSName, byte for byte.
fn san(name: &[u8]) -> CustomExtension {
    let len = |n: usize| u8::try_from(n).unwrap();
    let mut der = vec![0x30, len(name.len() + 2), 0x82, len(name.len())];
    der.extend_from_slice(name);
    CustomExtension::from_oid_content(&[2, 5, 29, 17], der)
}

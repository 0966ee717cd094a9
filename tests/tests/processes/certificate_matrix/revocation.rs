//! Revocation lists.

use rustls_pki_types::CertificateRevocationListDer;

use super::authority::{Ca, NAME, nothing};
use super::case::{Postfix, Table};

pub(crate) fn add(table: &mut Table) {
    let stranger = Ca::new("stranger", nothing);
    let old = |year, serials: &[u64]| vec![table.ca.list(year, serials)];
    let lists = [
        ("not revoked", old(2040, &[5]), "ok"),
        ("revoked", old(2040, &[5, 77]), "Revoked"),
        (
            "revoked, by a list that is old",
            old(2022, &[77]),
            "Revoked",
        ),
        ("not revoked, by a list that is old", old(2022, &[]), "ok"),
        (
            "list of another issuer",
            vec![stranger.list(2040, &[77])],
            "RevocationUnknown",
        ),
        (
            "list that cannot be read",
            vec![CertificateRevocationListDer::from(vec![0x30, 0])],
            "BadRevocationList",
        ),
    ];
    for (what, lists, verdict) in lists {
        let case = table.leaf(what, &[NAME], nothing, verdict);
        case.lists = lists;
        case.postfix = match verdict {
            "ok" => Postfix::Same,
            _ => Postfix::CannotSay,
        };
    }
}

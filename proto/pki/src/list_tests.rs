use super::*;
use dd_proto::pem::{self, Kind};

fn data(name: &str, kind: Kind) -> Vec<u8> {
    let path = format!("{}/tests/data/{name}.pem", env!("CARGO_MANIFEST_DIR"));
    pem::read_one(&std::fs::read(&path).unwrap(), kind).unwrap()
}

/// What tools make: what is taken, the agents' verifier builds with; of the rest it is said what each lacks.
#[test]
fn a_list_is_judged_by_the_verifier_that_uses_it() {
    let ca = data("ca", Kind::Certificate);
    for (name, expected) in [
        ("good", Ok(())),
        ("point", Ok(())),
        ("v1", Err(ListFault::Version1)),
        ("nonext", Err(ListFault::NoNextUpdate)),
        ("delta", Err(ListFault::Delta)),
        ("indirect", Err(ListFault::Indirect)),
        ("reasons", Err(ListFault::SomeReasons)),
        ("users", Err(ListFault::DistributionPoint)),
        ("unknown", Err(ListFault::CriticalExtension)),
        ("sha1", Err(ListFault::Signature("SHA-1 with ECDSA".into()))),
    ] {
        let list = data(&format!("list-{name}"), Kind::RevocationList);
        assert_eq!(judge(&list, &ca), expected, "{name}");
    }
    let keytool = data("list-keytool", Kind::RevocationList);
    let of = data("keytool-ca", Kind::Certificate);
    assert_eq!(judge(&keytool, &of), Err(ListFault::Version1));
    let nss = data("list-nss", Kind::RevocationList);
    let of = data("nss-ca", Kind::Certificate);
    assert_eq!(judge(&nss, &of), Err(ListFault::NoExtensions));
    assert_eq!(judge(&[0x30, 0], &ca), Err(ListFault::Unreadable));
}

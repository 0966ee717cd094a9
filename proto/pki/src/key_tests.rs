use super::*;
use dd_proto::pem::{self, Kind};

fn authority(name: &str) -> Vec<u8> {
    let path = format!(
        "{}/tests/data/authority-{name}.pem",
        env!("CARGO_MANIFEST_DIR")
    );
    pem::read_one(&std::fs::read(&path).unwrap(), Kind::Certificate).unwrap()
}

#[test]
fn a_key_is_judged_by_what_the_provider_verifies() {
    let unsupported = |kind: &str| Err(KeyFault::Unsupported(kind.to_owned()));
    for (name, expected) in [
        ("endless", Ok(())),
        ("v1", Ok(())),
        ("sha1", Ok(())),
        ("p521", Ok(())),
        ("ed25519", Ok(())),
        ("brainpool", unsupported("brainpoolP256r1")),
        ("secp256k1", unsupported("secp256k1")),
        ("explicit", unsupported("EC with explicit parameters")),
        ("ed448", unsupported("Ed448")),
        ("rsapss", unsupported("RSA-PSS")),
        ("rsa1024", Err(KeyFault::RsaBits(1024))),
    ] {
        let certificate = authority(name);
        let spki = of_certificate(&certificate).unwrap();
        assert_eq!(judge(spki, &crate::provider()), expected, "{name}");
    }
    assert_eq!(
        judge(&[0x30, 0], &crate::provider()),
        Err(KeyFault::Unreadable)
    );
    assert_eq!(of_certificate(&[0x30, 0]), None);
}

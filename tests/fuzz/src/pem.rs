//! What people bring as certificates, lists, requests and keys.

use dd_proto::pem::{self, Kind};

const KINDS: [Kind; 4] = [
    Kind::Certificate,
    Kind::RevocationList,
    Kind::Request,
    Kind::PrivateKey,
];

/// All of it is read or none; what was read and is handed out again reads back as the same; UTF-16 and other line ends
/// change nothing; and what is no certificate harms nobody who looks at it.
pub fn pem_files(input: &[u8]) {
    // DER says what it is only to whoever parses it.
    let is_text = std::str::from_utf8(input).is_ok_and(|text| text.contains("-----BEGIN "));
    let key_is_seen = !is_text || pem::holds_a_key(input);
    for kind in KINDS {
        let found = pem::read(input, kind);
        let is_one = found.as_ref().is_ok_and(|all| all.len() == 1);
        assert_eq!(pem::read_one(input, kind).is_ok(), is_one, "{kind:?}");
        spelt_otherwise(input, kind, found.as_ref().ok());
        match found {
            Ok(all) => {
                assert!(!all.is_empty(), "{kind:?}");
                all.iter().for_each(|der| again(der, kind));
                assert!(
                    kind != Kind::PrivateKey || key_is_seen,
                    "a key that was not seen"
                );
            }
            Err(error) => assert!(error.to_string().len() < 1000, "{error}"),
        }
    }
}

fn again(der: &[u8], kind: Kind) {
    let text = match kind {
        Kind::Certificate => pem::certificate(der),
        Kind::RevocationList => pem::revocation_list(der),
        Kind::PrivateKey => pem::private_key(der),
        Kind::Request => return,
    };
    assert_eq!(pem::read(text.as_bytes(), kind), Ok(vec![der.to_vec()]));
    if kind == Kind::Certificate {
        let _ = dd_pki::judge::carries(der, "home.example");
        let _ = dd_pki::key::of_certificate(der).map(dd_pki::key::kind);
        let _ = dd_pki::list::judge(der, der);
    }
}

fn spelt_otherwise(input: &[u8], kind: Kind, found: Option<&Vec<Vec<u8>>>) {
    let text = std::str::from_utf8(input).ok();
    let Some(text) = text.filter(|text| text.contains("-----BEGIN ")) else {
        return;
    };
    if text.starts_with('\u{feff}') {
        return;
    }
    let wide = [0xfeff]
        .into_iter()
        .chain(text.encode_utf16())
        .flat_map(u16::to_le_bytes);
    let wide: Vec<u8> = wide.collect();
    assert_eq!(pem::read(&wide, kind).ok().as_ref(), found, "UTF-16");
    if !text.contains('\r') {
        let lines = text.replace('\n', "\r\n");
        assert_eq!(
            pem::read(lines.as_bytes(), kind).ok().as_ref(),
            found,
            "CR LF"
        );
    }
}

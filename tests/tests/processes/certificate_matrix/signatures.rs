//! Signatures and keys that are not safe any more.

use std::process::Command;

use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;

use super::authority::{NAME, Shown, pem};
use super::case::{Postfix, Table};

/// Signed in ways that no library here makes any more.
pub(crate) fn add(table: &mut Table, directory: &std::path::Path) {
    let file = |name: &str| directory.join(name);
    let openssl = |args: &str| {
        let ran = Command::new("openssl")
            .args(args.split(' '))
            .current_dir(directory)
            .output()
            .expect("openssl is there");
        assert!(
            ran.status.success(),
            "{}",
            String::from_utf8_lossy(&ran.stderr)
        );
    };
    let key = KeyPair::try_from(&table.ca.key[..]).unwrap();
    std::fs::write(file("ca.key"), key.serialize_pem()).unwrap();
    std::fs::write(file("ca.pem"), pem(&table.ca.der)).unwrap();
    std::fs::write(file("ca.ext"), "basicConstraints=critical,CA:TRUE\n").unwrap();
    std::fs::write(file("leaf.ext"), format!("subjectAltName=DNS:{NAME}\n")).unwrap();
    let leaf = KeyPair::generate().unwrap();
    std::fs::write(file("leaf.key"), leaf.serialize_pem()).unwrap();
    openssl("req -new -key leaf.key -subj /CN=server -out leaf.csr");
    let der = |name: &str| CertificateDer::from(std::fs::read(file(name)).unwrap());
    let key = leaf.serialize_der();
    openssl(
        "x509 -req -sha1 -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile leaf.ext -days 9 \
         -outform der -out sha1.der",
    );
    let shown = Shown {
        chain: vec![der("sha1.der")],
        key: key.clone(),
    };
    table.add("signed with SHA-1", shown, "UnsafeSignature");
    // MD5 goes with RSA only, so an intermediate signs.
    for (what, bits, digest, verdict) in [
        ("issued by RSA 2048", 2048, "sha256", "ok"),
        ("signed with MD5", 2048, "md5", "UnsafeSignature"),
        ("issued by RSA 1024", 1024, "sha256", "WeakKey"),
    ] {
        openssl(&format!(
            "req -new -newkey rsa:{bits} -nodes -keyout rsa.key -subj /CN=rsa -out rsa.csr"
        ));
        openssl(
            "x509 -req -in rsa.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile ca.ext -days 9 -out rsa.pem",
        );
        openssl("x509 -in rsa.pem -outform der -out rsa.der");
        openssl(&format!(
            "x509 -req -{digest} -in leaf.csr -CA rsa.pem -CAkey rsa.key -CAcreateserial -extfile leaf.ext -days 9 \
             -outform der -out leaf.der"
        ));
        let shown = Shown {
            chain: vec![der("leaf.der"), der("rsa.der")],
            key: key.clone(),
        };
        table.add(what, shown, verdict).postfix = match bits {
            1024 => Postfix::Differs,
            _ => Postfix::Same,
        };
    }
}

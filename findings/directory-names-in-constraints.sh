#!/bin/sh
# An authority that is limited by directory names is one that Rust's webpki takes no certificate of.
#
# Guessed: name constraints (RFC 5280 §4.2.1.10) restrict names of their own kind only, so an authority that permits the
# directory name `C=DE` vouches for the DNS names of its members, whose subject is below `C=DE`, everywhere.
# Seen: OpenSSL 3.0 verifies such a chain. rustls-webpki 0.103.17 does not compare directory names, and a chain with such a
# limit fails whatever it permits; with the same limit as a DNS name it passes:
#     permitted DNS:example: openssl OK, webpki ok
#     permitted dirName C=DE: openssl OK, webpki NameConstraintViolation
set -eu
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
cd "$home"
mkdir -p webpki/src
cat > webpki/Cargo.toml <<'TOML'
[package]
name = "look"
version = "0.0.0"
edition = "2021"
[dependencies]
rustls-webpki = { version = "=0.103.17", default-features = false, features = ["std", "ring"] }
rustls-pki-types = "=1.16.0"
TOML
cat > webpki/src/main.rs <<'RUST'
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{anchor_from_trusted_cert, EndEntityCert, KeyUsage, ALL_VERIFICATION_ALGS};

fn main() {
    let der = |n| CertificateDer::from(std::fs::read(std::env::args().nth(n).unwrap()).unwrap());
    let (authority, leaf) = (der(1), der(2));
    let anchors = [anchor_from_trusted_cert(&authority).unwrap()];
    let leaf = EndEntityCert::try_from(&leaf).unwrap();
    let usage = KeyUsage::server_auth();
    let judged = leaf.verify_for_usage(ALL_VERIFICATION_ALGS, &anchors, &[], UnixTime::now(), usage, None, None);
    match judged {
        Ok(_) => println!("ok"),
        Err(error) => println!("{error:?}"),
    }
}
RUST
cargo build --quiet --manifest-path webpki/Cargo.toml --target-dir target
for permitted in 'DNS:example' 'dirName:limit'; do
  printf '[req]\ndistinguished_name = it\n[it]\n[limit]\nC = DE\n[ca]\nbasicConstraints = critical,CA:TRUE\nkeyUsage = keyCertSign\nnameConstraints = critical,permitted;%s\n[leaf]\nsubjectAltName = DNS:home.example\nextendedKeyUsage = serverAuth\n' "$permitted" > it.cnf
  openssl req -x509 -config it.cnf -extensions ca -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 30 -subj /C=DE/CN=authority 2>/dev/null
  openssl req -config it.cnf -newkey rsa:2048 -nodes -keyout leaf.key -out leaf.csr -subj /C=DE/CN=home 2>/dev/null
  openssl x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 20 -extfile it.cnf -extensions leaf -out leaf.pem 2>/dev/null
  openssl x509 -in ca.pem -outform DER -out ca.der
  openssl x509 -in leaf.pem -outform DER -out leaf.der
  judged=$(openssl verify -CAfile ca.pem leaf.pem 2>&1 | sed 's/.*: //')
  echo "permitted $permitted: openssl $judged, webpki $(target/debug/look ca.der leaf.der)" | sed 's/dirName:limit/dirName C=DE/'
done | tee seen
cat > guessed <<'TEXT'
permitted DNS:example: openssl OK, webpki ok
permitted dirName C=DE: openssl OK, webpki NameConstraintViolation
TEXT
cmp seen guessed

#!/bin/sh
# An everyday command writes revocation lists that Rust's webpki cannot use at all.
#
# Guessed: a list that `openssl ca -gencrl` has just made, from a working authority, is one that every verifier takes; at
# worst it revokes nothing.
# Seen: OpenSSL 3.0 writes an X.509 version 1 list where its configuration has no `crlnumber` (RFC 5280 §5.1.2.1 asks for
# version 2), and OpenSSL itself verifies with it. rustls-webpki 0.103.17 refuses it as BadDer, without a word on the
# version, so that with such a list configured not one certificate of the authority is accepted. One line, `crlnumber = …`, mends it:
#     without crlnumber: version 1, openssl: OK, webpki: BadDer
#     with crlnumber: version 2, openssl: OK, webpki: ok
# keytool -gencrl of JDK 17 writes version 1 always.
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
rustls-webpki = { version = "=0.103.17", default-features = false, features = ["alloc"] }
TOML
cat > webpki/src/main.rs <<'RUST'
fn main() {
    let path = std::env::args().nth(1).expect("a list");
    let der = std::fs::read(path).expect("a file");
    match webpki::OwnedCertRevocationList::from_der(&der) {
        Ok(_) => println!("ok"),
        Err(error) => println!("{error:?}"),
    }
}
RUST
cargo build --quiet --manifest-path webpki/Cargo.toml --target-dir target
openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 30 -subj /CN=authority 2>/dev/null
openssl req -newkey rsa:2048 -nodes -keyout leaf.key -out leaf.csr -subj /CN=home.example 2>/dev/null
openssl x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 20 -out leaf.pem 2>/dev/null
: > index.txt
echo 01 > number
for number in '' 'crlnumber = number'; do
  printf '[ca]\ndefault_ca = it\n[it]\ndatabase = index.txt\ndefault_md = sha256\ndefault_crl_days = 10\n%s\n' "$number" > ca.cnf
  openssl ca -gencrl -config ca.cnf -cert ca.pem -keyfile ca.key -out list.pem 2>/dev/null
  openssl crl -in list.pem -outform DER -out list.der
  version=$(openssl crl -in list.pem -noout -text | sed -n 's/ *Version \([0-9]\).*/\1/p')
  judged=$(openssl verify -crl_check -CAfile ca.pem -CRLfile list.pem leaf.pem | sed 's/.*: //')
  echo "${number:+with}${number:-without} crlnumber: version $version, openssl: $judged, webpki: $(target/debug/look list.der)" |
    sed 's/withcrlnumber = number/with/'
done | tee seen
cat > guessed <<'TEXT'
without crlnumber: version 1, openssl: OK, webpki: BadDer
with crlnumber: version 2, openssl: OK, webpki: ok
TEXT
cmp seen guessed

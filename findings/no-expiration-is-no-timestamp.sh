#!/bin/sh
# RFC 5280's date for a certificate without an end lies behind the last moment that jiff's Timestamp can hold.
#
# Guessed: 9999-12-31T23:59:59Z, which RFC 5280 §4.1.2.5 gives to certificates without a well-defined end (GnuTLS's certtool
# with `expiration_days = -1` and XCA write it), is a moment like any other: jiff's civil dates go to the end of 9999.
# Seen: jiff 1.0.2: a Timestamp ends at 9999-12-30T22:00:00.999999999Z, so that each time zone can show it as a civil date.
# Parsing the moment is an error, and so is making it from its seconds, which code that writes `unwrap_or_default()` turns
# into 1970: a certificate without an end has then ended before it was made.
#     parsed: error
#     from seconds: error
#     last: 9999-12-30T22:00:00.999999999Z
set -eu
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
cd "$home"
mkdir src
cat > Cargo.toml <<'TOML'
[package]
name = "look"
version = "0.0.0"
edition = "2021"
[dependencies]
jiff = { version = "=1.0.2", default-features = false, features = ["std"] }
TOML
cat > src/main.rs <<'RUST'
use jiff::Timestamp;
fn main() {
    let word = |is_ok| if is_ok { "ok" } else { "error" };
    let parsed = "9999-12-31T23:59:59Z".parse::<Timestamp>();
    println!("parsed: {}", word(parsed.is_ok()));
    println!("from seconds: {}", word(Timestamp::from_second(253_402_300_799).is_ok()));
    println!("last: {}", Timestamp::MAX);
}
RUST
cargo build --quiet --target-dir target
target/debug/look | tee seen
printf 'parsed: error\nfrom seconds: error\nlast: 9999-12-30T22:00:00.999999999Z\n' | cmp - seen

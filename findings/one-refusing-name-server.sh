#!/bin/sh
# hickory-resolver: of two configured name servers, one that answers REFUSED makes lookups fail although the other is well.
#
# Guessed: as with every stub resolver (RFC 1035 §7.2, glibc, dnsmasq), an error of one server leads to the next one, and a
# lookup fails only when all have failed.
# Seen: hickory-resolver 0.26.3 asks two servers at once and takes the first REFUSED for the answer: of 100 lookups of a name
# that one server answers and the other refuses, many fail with "Query Refused"; with the good server alone, none:
#     both servers: some of 100 lookups fail
#     the good one alone: 0 of 100 lookups fail
set -eu
home=$(mktemp -d)
trap 'kill $servers 2>/dev/null || :; rm -rf "$home"' EXIT
cd "$home"
mkdir src
cat > Cargo.toml <<'TOML'
[package]
name = "look"
version = "0.0.0"
edition = "2021"
[dependencies]
hickory-resolver = { version = "=0.26.3", default-features = false, features = ["tokio"] }
tokio = { version = "1", features = ["macros", "rt"] }
TOML
cat > src/main.rs <<'RUST'
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::TokioResolver;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let servers = std::env::args().skip(1).map(|port| {
        let mut udp = ConnectionConfig::udp();
        udp.port = port.parse().expect("a port");
        NameServerConfig::new([127, 0, 0, 1].into(), true, vec![udp])
    });
    let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.options_mut().cache_size = 0;
    let resolver = builder.build().expect("a resolver");
    let mut failed = 0;
    for _ in 0..100 {
        failed += u32::from(resolver.ipv4_lookup("home.example.").await.is_err());
    }
    println!("{failed}");
}
RUST
cargo build --quiet --target-dir target
cat > servers.py <<'PY'
import socket, threading
def serve(listener, good):
    while True:
        query, peer = listener.recvfrom(512)
        end = query.index(b"\0", 12) + 5
        answer = bytes.fromhex("c00c00010001000000000004c0000201") if good else b""
        flags = b"\x81\x80" if good else b"\x81\x85"
        counts = b"\0\1" + (b"\0\1" if good else b"\0\0") + b"\0\0\0\0"
        listener.sendto(query[:2] + flags + counts + query[12:end] + answer, peer)
ports = []
for good in (True, False):
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("127.0.0.1", 0))
    ports.append(str(listener.getsockname()[1]))
    threading.Thread(target=serve, args=(listener, good)).start()
open("ports.new", "w").write(" ".join(ports) + "\n")
import os; os.rename("ports.new", "ports")
PY
python3 servers.py &
servers=$!
while ! [ -e ports ]; do sleep 0.1; done
read -r good refusing < ports
both=$(target/debug/look "$good" "$refusing")
alone=$(target/debug/look "$good")
test "$both" -gt 0 && echo "both servers: some of 100 lookups fail"
echo "the good one alone: $alone of 100 lookups fail"
echo "($both with both)" >&2
test "$both" -gt 0 && test "$alone" -eq 0

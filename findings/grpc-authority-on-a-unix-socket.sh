#!/bin/sh
# gRPC's C core sends the escaped path of a unix socket as :authority, which strict HTTP/2 servers refuse.
#
# Guessed: over a unix socket, where there is no host, a client sends an :authority that any server can take, such as
# "localhost" (as grpc-go and tonic's own client do).
# Seen: grpcio 1.76.0 from PyPI sends the socket's path, percent-escaped. `%2F` is no part of an authority's host for the
# `http` crate that Rust's h2, hyper and tonic are built on: the stream is reset before any handler sees it, and the caller
# reads an error that does not name the cause. With the option grpc.default_authority it is what one sets:
#     by default: tmp%2F…%2Fadmin.sock
#     with grpc.default_authority: localhost
set -eu
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
cd "$home"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check grpcio==1.76.0 h2==4.3.0
GRPC_VERBOSITY=NONE venv/bin/python - "$home/admin.sock" <<'PY'
import socket, sys, threading
import grpc, h2.config, h2.connection, h2.events

path = sys.argv[1]
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()

def authority_of_next_call(found):
    peer, _ = listener.accept()
    http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, validate_inbound_headers=False))
    http.initiate_connection()
    while not found:
        peer.sendall(http.data_to_send())
        for event in http.receive_data(peer.recv(65536)):
            if isinstance(event, h2.events.RequestReceived):
                found.append(dict(event.headers)[b":authority"].decode())
    peer.close()

def seen(options):
    found = []
    server = threading.Thread(target=authority_of_next_call, args=(found,))
    server.start()
    with grpc.insecure_channel("unix:" + path, options=options) as channel:
        try:
            channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=10)
        except grpc.RpcError:
            pass
    server.join(10)
    return found[0]

default = seen([])
chosen = seen([("grpc.default_authority", "localhost")])
print("by default:", default)
print("with grpc.default_authority:", chosen)
sys.exit(default != path[1:].replace("/", "%2F") or chosen != "localhost")
PY

#!/bin/sh
# Courier's listener tells nobody that it has too many sessions of one address, and counts those whose client is gone.
#
# Guessed: whoever comes over the limit of sessions (MAXPERIP, 4 unless it is set) is told 421, and whoever hangs up counts
# no more.
# Seen: couriertcpd closes the connection without a byte. What it has started counts until it ends of its own accord, as
# a Courier that holds a refusal back for eight seconds does, however long its client has been gone:
#     two at once: greeted greeted
#     a third: closed without a word
#     both have hung up: closed without a word
#     both programs have ended: greeted
# So a silent close says nothing about who answers there, and hanging up frees no place.
set -eu
home=$(mktemp -d)
server=
trap 'kill $server 2>/dev/null || :; rm -rf "$home"' EXIT
cd "$home"
apt-get download -q=2 courier-base=1.0.16-3+b6 courier-authlib=0.71.4-1+b2 2>/dev/null
for package in *.deb; do dpkg-deb -x "$package" .; done
libraries=$(dirname "$(find "$home" -name 'libcourierauth*.so*' | head -n 1)")
# Stands for a server that is slow: it greets, and ends when it is told to.
printf '#!/bin/sh\necho "220 home.example"\nwhile [ ! -e %s/end ]; do sleep 0.1; done\n' "$home" > greets
chmod +x greets
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
LD_LIBRARY_PATH=$libraries usr/sbin/couriertcpd -address=127.0.0.1 -maxperip=2 -noidentlookup -nodnslookup \
  "$port" "$home/greets" >log 2>&1 &
server=$!
said=$(python3 - "$port" "$home/end" <<'PY'
import pathlib, socket, sys, time

def call():
    for _ in range(100):
        try:
            peer = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5)
            break
        except ConnectionRefusedError:
            time.sleep(0.2)
    peer.settimeout(5)
    try:
        return peer, "greeted" if peer.recv(100).startswith(b"220") else "closed without a word"
    except ConnectionResetError:
        return peer, "closed without a word"

one, two = call(), call()
print("two at once:", one[1], two[1])
print("a third:", call()[1])
one[0].close()
two[0].close()
time.sleep(1)
print("both have hung up:", call()[1])
pathlib.Path(sys.argv[2]).touch()
time.sleep(2)
print("both programs have ended:", call()[1])
PY
) || { cat log; exit 1; }
echo "$said"
test "$said" = "two at once: greeted greeted
a third: closed without a word
both have hung up: closed without a word
both programs have ended: greeted"

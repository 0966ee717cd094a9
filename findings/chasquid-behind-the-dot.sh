#!/bin/sh
# chasquid offers PIPELINING and loses a MAIL that it finds behind a message's final dot: no answer, for a minute.
#
# Guessed: a server that offers PIPELINING answers whatever lies in its input buffer when it has answered the dot
# (RFC 2920 §3.2).
# Seen: Debian's chasquid 1.11 reads the content through a buffer of its own and drops what that buffer holds behind the dot.
# The dot is answered 250; MAIL, RCPT and DATA that came in the same write are never answered. The same three commands are
# fine when they are sent after that 250:
#     behind the dot: 250 and nothing for 10 s
#     after its answer: 250 250 354
# A client that waits as RFC 5321 §4.5.3.2 says (five minutes) stands still until the server ends the session.
set -eu
home=$(mktemp -d)
trap 'kill $server 2>/dev/null || :; rm -rf "$home"' EXIT
chmod 755 "$home"
cd "$home"
apt-get download -q=2 chasquid=1.11-2+b2 2>/dev/null
dpkg-deb -x chasquid_*.deb .
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
mkdir -p c/certs/home.example c/domains/home.example data
openssl req -x509 -newkey rsa:2048 -nodes -days 10 -subj /CN=home.example -addext subjectAltName=DNS:home.example \
  -keyout c/certs/home.example/privkey.pem -out c/certs/home.example/fullchain.pem 2>/dev/null
printf 'hostname: "home.example"\nsmtp_address: "127.0.0.1:%s"\ndata_dir: "%s/data"\nmail_delivery_agent_bin: "/bin/true"\nmail_log_path: "<stderr>"\n' \
  "$port" "$home" > c/chasquid.conf
usr/bin/chasquid-util -C=c user-add me@home.example --password=secret >/dev/null
usr/bin/chasquid -config_dir=c >log 2>&1 &
server=$!
python3 - "$port" <<'PY'
import socket, sys, time

def connect():
    for _ in range(100):
        try:
            return socket.create_connection(("127.0.0.1", int(sys.argv[1])), 10)
        except ConnectionRefusedError:
            time.sleep(0.2)
    sys.exit("the server does not start")

class Session:
    def __init__(self):
        self.socket = connect()
        self.input = self.socket.makefile("rb")
        self.reply()
        assert "PIPELINING" in self.say("EHLO mx.example")

    def send(self, text):
        self.socket.sendall(text.replace("\n", "\r\n").encode())

    def reply(self):
        text = ""
        while True:
            line = self.input.readline().decode()
            text += line
            if not line or line[3:4] == " ":
                return text

    def say(self, command):
        self.send(command + "\n")
        return self.reply()

envelope = "MAIL FROM:<>\nRCPT TO:<me@home.example>\nDATA\n"
message = "Subject: one\n\none\n.\n"

def begin():
    session = Session()
    for command, code in zip(envelope.splitlines(), ("250", "250", "354")):
        answer = session.say(command)
        assert answer.startswith(code), answer
    return session

behind = begin()
behind.send(message + envelope)
dot = behind.reply()[:3]
try:
    lost = behind.reply()[:3]
except TimeoutError:
    lost = "and nothing for 10 s"
print("behind the dot:", dot, lost)
after = begin()
assert after.say(message[:-1])[:3] == "250"
after.send(envelope)
good = [after.reply()[:3] for _ in range(3)]
print("after its answer:", *good)
sys.exit((dot, lost, good) != ("250", "and nothing for 10 s", ["250", "250", "354"]))
PY

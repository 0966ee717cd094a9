#!/bin/sh
# Haraka offers PIPELINING and answers 503 to a MAIL that it finds behind a message's final dot.
#
# Guessed: a server that offers PIPELINING (RFC 2920 §3.2: it must not lose or misread what lies in its input buffer when it
# has answered a command) takes the next MAIL when the content before it has been dealt with, as Postfix, Exim, Sendmail and
# OpenSMTPD do. RFC 2920 §3.1 lets a client send MAIL right behind the dot.
# Seen: Haraka 3.3.4 from the npm registry, Node.js 20: the dot is answered 250, and MAIL, RCPT and DATA behind it are
# answered 503 each, although the same three commands are fine when they are sent after that 250:
#     behind the dot: 250 503 503 503
#     after its answer: 250 250 354
set -eu
home=$(mktemp -d)
trap 'kill $server 2>/dev/null || :; rm -rf "$home"' EXIT
cd "$home"
npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$home" Haraka@3.3.4 >/dev/null
node_modules/.bin/haraka -i "$home/server" >/dev/null
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
printf 'listen=127.0.0.1:%s\n' "$port" > server/config/smtp.ini
printf 'rcpt_to.in_host_list\nqueue/discard\n' > server/config/plugins
echo home.example > server/config/host_list
YES_REALLY_DO_DISCARD=1 node_modules/.bin/haraka -c "$home/server" > log 2>&1 &
server=$!
python3 - "$port" <<'PY'
import re, socket, sys, time

def connect():
    for _ in range(100):
        try:
            return socket.create_connection(("127.0.0.1", int(sys.argv[1])), 10)
        except ConnectionRefusedError:
            time.sleep(0.2)
    sys.exit("the server does not start")

class Session:
    def __init__(self):
        self.lines = connect().makefile("rwb")
        self.reply()
        assert "PIPELINING" in self.say("EHLO mx.example")

    def send(self, text):
        self.lines.write(text.replace("\n", "\r\n").encode())
        self.lines.flush()

    def reply(self):
        text = ""
        while True:
            line = self.lines.readline().decode()
            text += line
            if not line or line[3:4] == " ":
                return text

    def say(self, command):
        self.send(command + "\n")
        return self.reply()

envelope = "MAIL FROM:<a@b.example>\nRCPT TO:<me@home.example>\nDATA\n"
message = "Subject: one\n\none\n.\n"

def begin():
    session = Session()
    session.send(envelope)
    assert [session.reply()[:3] for _ in range(3)] == ["250", "250", "354"]
    return session

behind = begin()
behind.send(message + envelope)
codes = [behind.reply()[:3] for _ in range(4)]
print("behind the dot:", *codes)
after = begin()
assert after.say(message[:-1])[:3] == "250"
after.send(envelope)
good = [after.reply()[:3] for _ in range(3)]
print("after its answer:", *good)
sys.exit(codes != ["250", "503", "503", "503"] or good != ["250", "250", "354"])
PY

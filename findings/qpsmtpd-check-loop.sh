#!/bin/sh
# Debian's qpsmtpd, with the list of plugins it is shipped with, refuses every message: 552 to the dot.
#
# Guessed: a mail server takes mail once it is told its domains and what is behind it.
# Seen: its list names `check_loop`, which only stands for the renamed `loop`: a wrapper that inherits the hook that counts
# hops, and not the start that reads the limit (100). So any message has too many hops, one without a Received field too:
#     check_loop: 552
#     loop: 250
# What such a home refuses says nothing about the mail.
set -eu
home=$(mktemp -d)
server=
trap 'kill $server 2>/dev/null || :; rm -rf "$home"' EXIT
cd "$home"
apt-get download -q=2 qpsmtpd=0.94-5 libnet-dns-perl libmailtools-perl libtimedate-perl libnet-ip-perl 2>/dev/null
for package in *.deb; do dpkg-deb -x "$package" .; done
mkdir -p spool config Maildir/new Maildir/cur Maildir/tmp
chmod 700 spool
echo home.example > config/rcpthosts
echo home.example > config/me
echo "$home/spool" > config/spool_dir
echo "$home/usr/share/qpsmtpd/plugins" > config/plugin_dirs
answer_with() {
  printf '%s\nrcpt_ok\nqueue/maildir %s/Maildir\n' "$1" "$home" > config/plugins
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  QPSMTPD_CONFIG=$home/config perl -T -I usr/share/perl5 usr/bin/qpsmtpd-forkserver \
    --listen-address 127.0.0.1 --port "$port" --user "$(id -un)" --no-rdns >log 2>&1 &
  server=$!
  said=$(python3 - "$port" <<'PY'
import smtplib, sys, time

for _ in range(100):
    try:
        session = smtplib.SMTP("127.0.0.1", int(sys.argv[1]))
        break
    except ConnectionRefusedError:
        time.sleep(0.2)
session.ehlo("mx.example")
for command in ("MAIL FROM:<a@b.example>", "RCPT TO:<me@home.example>"):
    code, said = session.docmd(command)
    assert code == 250, said
print(session.data("Subject: one\r\n\r\none\r\n")[0])
PY
  ) || { cat log; exit 1; }
  kill "$server"
  wait "$server" 2>/dev/null || :
}
answer_with check_loop
shipped=$said
echo "check_loop: $shipped"
answer_with loop
mended=$said
echo "loop: $mended"
test "$shipped $mended" = "552 250"

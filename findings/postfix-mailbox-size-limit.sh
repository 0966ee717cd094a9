#!/bin/sh
# Postfix with a larger limit for messages answers 250, and then delivers nothing to its own users.
#
# Guessed: message_size_limit above mailbox_size_limit (51200000 unless it is set) is refused or warned of when Postfix is
# checked, or concerns messages of that size, or mbox files and no Maildir.
# Seen (Postfix 3.7.11): `postfix check` says nothing, a message of a few bytes gets its 250, and local(8) ends before each
# delivery, to a Maildir too. The mail stays in the queue of the server that has accepted it:
#     check: nothing
#     answer: 250 2.0.0 Ok:
#     local: fatal: configuration error: mailbox_size_limit is smaller than message_size_limit
#     with mailbox_size_limit = 0: delivered to maildir
set -eu
home=$(mktemp -d)
chmod 755 "$home"
trap 'postfix stop >/dev/null 2>&1 || :; rm -rf "$home"' EXIT
cd "$home"
apt-get download -q=2 postfix=3.7.11-0+deb12u1 2>/dev/null
dpkg-deb -x postfix_*.deb .
export LD_LIBRARY_PATH="$home/usr/lib/postfix" MAIL_CONFIG="$home/conf"
postfix() { "$home/usr/sbin/postfix" "$@"; }
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
mkdir conf queue data mail
cp etc/postfix/postfix-files conf
cat > conf/main.cf <<CF
compatibility_level = 3.6
command_directory = $home/usr/sbin
daemon_directory = $home/usr/lib/postfix/sbin
shlib_directory = $home/usr/lib/postfix
meta_directory = $home/conf
queue_directory = $home/queue
data_directory = $home/data
mail_owner = daemon
setgid_group = mail
default_privs = nobody
import_environment = MAIL_CONFIG LD_LIBRARY_PATH
myhostname = home.example
mydestination = home.example
inet_interfaces = 127.0.0.1
alias_maps =
local_recipient_maps =
mail_spool_directory = $home/mail/
home_mailbox =
maillog_file = $home/log
maillog_file_prefixes = $home
message_size_limit = 60000000
CF
cat > conf/master.cf <<CF
127.0.0.1:$port inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
local unix - n n - - local
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
pickup unix n - n 60 1 pickup
postlog unix-dgram n - n - 1 postlogd
CF
chown daemon data
chmod 1777 mail
postfix start 2>start.log || { cat start.log; exit 1; }
send() {
  python3 - "$port" <<'PY'
import smtplib, sys
smtp = smtplib.SMTP("127.0.0.1", int(sys.argv[1]), timeout=20)
smtp.ehlo()
smtp.mail("a@friend.example")
smtp.rcpt("nobody@home.example")
code, text = smtp.data(b"Subject: hello\r\n\r\nhello\r\n")
print("answer:", code, " ".join(text.decode().split()[:2]))
PY
}
# What the log says by then, or what it says at last.
log_has() {
  for _ in $(seq 100); do
    grep -q "$1" log 2>/dev/null && break
    sleep 0.2
  done
  grep -o "$2" log | head -n 1
}
said=$(
  echo "check: $(postfix check 2>&1 | grep -i size_limit || echo nothing)"
  send
  echo "local: $(log_has 'local\[.*fatal' 'fatal: .*')"
  echo "mailbox_size_limit = 0" >> conf/main.cf
  postfix stop >/dev/null 2>&1
  postfix start >/dev/null 2>&1
  send >/dev/null
  echo "with mailbox_size_limit = 0: $(log_has 'status=sent' 'delivered to maildir')"
)
echo "$said"
test "$said" = "check: nothing
answer: 250 2.0.0 Ok:
local: fatal: configuration error: mailbox_size_limit is smaller than message_size_limit
with mailbox_size_limit = 0: delivered to maildir" || { cat log; exit 1; }

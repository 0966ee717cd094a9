#!/bin/sh
# Looks at what is packed with the tools that are there: packaging/check.sh MANUAL-PAGES. `make deb` runs it.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
pages=$1

there() {
    command -v "$1" >/dev/null || { echo "$1 is not there: $2 not looked at" >&2; return 1; }
}

if there systemd-analyze "the units are"; then
    for unit in dd-controller dd-agent; do
        systemd-analyze security --no-pager --offline=true --threshold=20 "$here/systemd/$unit.service" | tail -n 1
    done
fi
if there promtool "the alerts are"; then
    promtool check rules "$here/share/dd.rules.yml"
    promtool test rules "$here/share/dd.rules.test.yml"
fi
if there mandoc "the manual pages are"; then
    mandoc -T lint -W error "$pages"/*
fi
if there shellcheck "the scripts are"; then
    shellcheck "$here"/*.sh "$here"/debian/*.postinst "$here"/debian/*.prerm "$here"/debian/*.postrm
fi

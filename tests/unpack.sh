#!/bin/sh
# unpack.sh PACKAGE: one of Debian's packages, not installed but only unpacked, into target/unpacked/PACKAGE; the packages
# of the libraries it needs are named in target/unpacked/PACKAGE.needs.
set -eu
package=$1
unpacked=$PWD/target/unpacked
download=$unpacked/$package.download
rm -rf "$download" "$unpacked/$package"
mkdir -p "$download"
cd "$download"

apt-get download -q "$package" || { apt-get update -q && apt-get download -q "$package"; }

# Debian 12's OpenSMTPD 6.8 fails at every TLS handshake, whatever the key (github.com/OpenSMTPD/OpenSMTPD/issues/1239);
# Debian's backport of 7.4 does not.
if [ "$package" = opensmtpd ] && dpkg --compare-versions "$(dpkg-deb -f opensmtpd_*.deb Version)" lt 7; then
  rm opensmtpd_*.deb
  . /etc/os-release
  mkdir -p lists/partial cache/archives/partial
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $VERSION_CODENAME-backports main" > sources.list
  set -- -q -o Dir::Etc::sourcelist="$PWD/sources.list" -o Dir::Etc::sourceparts=/dev/null \
    -o Dir::State::lists="$PWD/lists" -o Dir::Cache="$PWD/cache" -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
  apt-get "$@" update
  apt-get "$@" download opensmtpd
fi

dpkg-deb -x "$package"_*.deb "$unpacked/$package"
dpkg-deb -f "$package"_*.deb Depends | tr , '\n' | sed 's/[(|].*//; s/ //g' | grep '^lib' > "$unpacked/$package.needs" || :
cd "$unpacked"
rm -rf "$download"
touch "$package.done"

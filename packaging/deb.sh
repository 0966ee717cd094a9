#!/bin/sh
# Packs the programs in a directory into Debian packages: packaging/deb.sh PROGRAMS OUT. See `make deb`.
set -eu

programs=$1
out=$2
here=$(cd "$(dirname "$0")/.." && pwd)
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$here/Cargo.toml" | head -n 1)

mkdir -p "$out"
out=$(cd "$out" && pwd)
build=$out/build
rm -rf "$build"
mkdir -p "$build/stage/completions"
cp -r "$here/packaging/debian" "$build/debian"
cp -r "$here/packaging" "$here/docs" "$here/README.md" "$here/Cargo.lock" "$build"
for unit in "$here"/packaging/systemd/*; do
    cp "$unit" "$build/debian/$(basename "$unit" | sed 's/\./&/')"
done
for program in dd-controller dd-agent ddadm; do
    cp "$programs/$program" "$build/stage/"
done

ddadm=$build/stage/ddadm
"$ddadm" man --out "$build/stage/man"
"$ddadm" completions bash > "$build/stage/completions/ddadm"
"$ddadm" completions zsh > "$build/stage/completions/_ddadm"
"$ddadm" completions fish > "$build/stage/completions/ddadm.fish"

"$here/packaging/check.sh" "$build/stage/man"

# The time of what is packed, so that the same sources make the same packages.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$here" log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
cat > "$build/debian/changelog" <<CHANGELOG
direct-mail-delivery ($version) unstable; urgency=medium

  * See CHANGELOG.md of the source.

 -- The direct mail delivery authors <postmaster@example.net>  $(date -R -u -d "@$SOURCE_DATE_EPOCH")
CHANGELOG

cd "$build"
dpkg-buildpackage --build=binary --unsigned-changes --unsigned-buildinfo >"$out/build.log" 2>&1 || {
    cat "$out/build.log" >&2
    exit 1
}
cd "$out"
rm -rf "$build"
lintian --fail-on error "./direct-mail-delivery_$version"_*.changes
rm -f ./*.buildinfo ./*.changes build.log
ls -l ./*.deb

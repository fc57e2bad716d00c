#!/bin/bash
# Makes the archive of a minimal Debian, from the package sources that this machine itself uses, so that it works
# behind a mirror or a proxy. The machine's certificates come along for the same reason.
set -euo pipefail
suite=${1:?usage: debian.sh SUITE ARCHIVE}
archive=${2:?usage: debian.sh SUITE ARCHIVE}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The machine's sources of this suite; other vendors' lists are none of ours.
sources=()
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
    [ -f "$file" ] || continue
    if grep -Eq "(^Suites:|^deb ).*[ /]$suite([ -]|\$)" "$file" && grep -q main "$file"; then
        sources+=("$file")
    fi
done
# What the machine's apt has to know to reach them.
apt-config dump | grep -E '^Acquire::(Check-|http|https|ftp|Retries|Languages)' >"$scratch/apt.conf" || true

mmdebstrap --mode=root --variant=minbase \
    --aptopt="$scratch/apt.conf" \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook="$here/certificates.sh \"\$1\"" \
    "$suite" "$scratch/root.tar" "${sources[@]}" >&2
mv "$scratch/root.tar" "$archive.part"
mv "$archive.part" "$archive"

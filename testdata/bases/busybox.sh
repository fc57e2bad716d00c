#!/bin/bash
# Makes the archive of a busybox root filesystem from Debian's busybox-static.
set -euo pipefail
archive=${1:?usage: busybox.sh ARCHIVE}
busybox=$(command -v busybox) || { echo "error: install busybox-static" >&2; exit 1; }
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

mkdir -p "$root"/{bin,sbin,usr/bin,usr/sbin,etc,root,home,var/tmp,dev,proc,sys}
mkdir -m 1777 "$root/tmp"
chmod 1777 "$root/var/tmp"
chmod 700 "$root/root"
chmod 755 "$root"
cp "$busybox" "$root/bin/busybox"
for applet in $("$busybox" --list); do
    [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
done
cat >"$root/etc/passwd" <<'PASSWD'
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
PASSWD
cat >"$root/etc/group" <<'GROUP'
root:x:0:
daemon:x:1:
nogroup:x:65534:
GROUP
tar -C "$root" --sort=name --owner=0 --group=0 --numeric-owner -cf "$archive.part" .
mv "$archive.part" "$archive"

#!/bin/bash
# Gives a root filesystem the certificates that this machine trusts: its bundle as it is, and those of them that
# Debian's ca-certificates doesn't have where update-ca-certificates will find them.
set -euo pipefail
root=${1:?usage: certificates.sh ROOT}
bundle=/etc/ssl/certs/ca-certificates.crt
[ -s "$bundle" ] || exit 0

mkdir -p "$root/etc/ssl/certs" "$root/usr/local/share/ca-certificates"
cp "$bundle" "$root$bundle"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
awk -v folder="$scratch" '
    /-----BEGIN CERTIFICATE-----/ { number++; file = sprintf("%s/%04d.crt", folder, number) }
    file { print > file }
    /-----END CERTIFICATE-----/ { close(file); file = "" }
' "$bundle"
known=$(cat /usr/share/ca-certificates/*/*.crt 2>/dev/null | tr -d '\r\n' || true)
for certificate in "$scratch"/*.crt; do
    [ -f "$certificate" ] || continue
    case $known in
        *"$(tr -d '\r\n' <"$certificate")"*) ;;
        *) cp "$certificate" "$root/usr/local/share/ca-certificates/machine-$(basename "$certificate")" ;;
    esac
done

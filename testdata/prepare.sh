#!/bin/bash
# Installs what building, the demo and the tests use, and makes the base images, where that is missing.
source "$(dirname "$0")/lib.sh"
command -v cargo >/dev/null || die "cargo is missing: install Rust from https://rustup.rs"
# Compiling, base images and registry; then what the tests compare with.
need cc gcc make make mmdebstrap mmdebstrap busybox busybox-static docker-registry docker-registry \
    ip iproute2 nft nftables openssl openssl skopeo skopeo umoci umoci podman podman runc runc \
    ssh-add openssh-client setfattr attr setcap libcap2-bin bzip2 bzip2 xz xz-utils zstd zstd \
    strace strace valgrind valgrind
if [ "$(id -u)" = 0 ]; then
    make_bases
else
    echo "not root: the base images are not made; tests that need them say so" >&2
fi

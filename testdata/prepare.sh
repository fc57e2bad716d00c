#!/bin/bash
# Installs what building, the demo and the tests use, and makes the base images, where that is missing.
source "$(dirname "$0")/lib.sh"
need cc gcc make make mmdebstrap mmdebstrap busybox busybox-static docker-registry docker-registry
if [ "$(id -u)" = 0 ]; then
    make_bases
else
    echo "not root: the base images are not made; tests that need them say so" >&2
fi

#!/bin/bash
# The whole path: base images in a local registry, a build with it as docker.io's mirror, a run, the history.
source "$(dirname "$0")/lib.sh"
kiln=${KILN:-$project/target/release/kiln}
work=${KILN_DEMO:-$project/target/demo}
[ "$(id -u)" = 0 ] || die "the demo needs root"
[ -x "$kiln" ] || die "$kiln is missing: run \`make build\`"

need mmdebstrap mmdebstrap busybox busybox-static docker-registry docker-registry
mkdir -p "$work"
trap clean_up EXIT

say "base images"
make_bases
rm -rf "$work/registry" "$work/bases-root"
start_registry "$work/registry"
push_bases "$kiln" "$work/bases-root"
use_mirror "$work/config"
export KILN_ROOT=$work/root

say "kiln build -t hello testdata/demo"
"$kiln" build -t hello "$testdata/demo"
say "kiln run --rm hello"
"$kiln" run --rm hello
say "kiln history hello"
"$kiln" history hello
say "kiln images"
"$kiln" images

# What the demo and the real images share: packages, base images, a local registry. Sourced by bash.

set -euo pipefail
testdata=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
project=$(dirname "$testdata")
# Base archives are kept here, so that a second run is quick.
bases=${KILN_BASES:-$project/target/bases}
registry_pid=

say() { printf '\n\033[1m%s\033[0m\n' "== $*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# need COMMAND PACKAGE ...: installs the packages of the commands that are missing.
need() {
    local missing=()
    while [ $# -gt 0 ]; do
        command -v "$1" >/dev/null || missing+=("$2")
        shift 2
    done
    [ ${#missing[@]} -eq 0 ] && return
    [ "$(id -u)" = 0 ] || die "missing packages (install them, or run this as root): ${missing[*]}"
    command -v apt-get >/dev/null || die "missing packages, and this is no Debian: ${missing[*]}"
    say "installing ${missing[*]}"
    apt-get update -q >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >&2
}

# make_bases: writes debian-bookworm.tar and busybox.tar to $bases, unless they are there.
make_bases() {
    mkdir -p "$bases"
    [ -s "$bases/busybox.tar" ] || "$testdata/bases/busybox.sh" "$bases/busybox.tar"
    [ -s "$bases/debian-bookworm.tar" ] || "$testdata/bases/debian.sh" bookworm "$bases/debian-bookworm.tar"
}

# start_registry FOLDER: starts an empty registry on a free loopback port; sets $registry and $registry_pid.
start_registry() {
    local folder=$1 port attempt
    mkdir -p "$folder"
    for attempt in 1 2 3 4 5 6 7 8 9 10; do
        port=$((20000 + (RANDOM + attempt * 7919) % 30000))
        cat >"$folder/config.yml" <<CONFIG
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $folder/data}, delete: {enabled: true}}
http: {addr: "127.0.0.1:$port"}
CONFIG
        docker-registry serve "$folder/config.yml" >"$folder/log" 2>&1 &
        registry_pid=$!
        if wait_for_port "$port" "$registry_pid"; then
            registry=127.0.0.1:$port
            return
        fi
        stop_registry
    done
    cat "$folder/log" >&2
    die "the registry doesn't start"
}

# wait_for_port PORT PID: waits until the port answers; fails when the process ends first (the port was taken).
wait_for_port() {
    local tries
    for tries in $(seq 1 100); do
        kill -0 "$2" 2>/dev/null || return 1
        (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return 0
        sleep 0.1
    done
    return 1
}

stop_registry() {
    [ -n "$registry_pid" ] || return 0
    kill "$registry_pid" 2>/dev/null || true
    wait "$registry_pid" 2>/dev/null || true
    registry_pid=
}

# clean_up: what a script leaves of processes and interfaces at its end. Images and layers stay in $KILN_ROOT.
clean_up() {
    stop_registry
    [ -z "${KILN_ROOT:-}" ] || "$kiln" container prune --force >/dev/null
}

# push_bases KILN FOLDER: puts the bases into the registry, by a store of their own.
push_bases() {
    local kiln=$1 root=$2
    "$kiln" --root "$root" import -c 'CMD ["bash"]' "$bases/debian-bookworm.tar" "$registry/library/debian:bookworm" >&2
    "$kiln" --root "$root" import -c 'CMD ["sh"]' "$bases/busybox.tar" "$registry/library/busybox:latest" >&2
    "$kiln" --root "$root" push "$registry/library/debian:bookworm" >&2
    "$kiln" --root "$root" push "$registry/library/busybox:latest" >&2
    rm -rf "$root"
}

# use_mirror FOLDER: makes the registry docker.io's mirror for every kiln that this script starts.
use_mirror() {
    mkdir -p "$1/certs.d/docker.io"
    cat >"$1/certs.d/docker.io/hosts.toml" <<HOSTS
server = "https://registry-1.docker.io"

[host."http://$registry"]
capabilities = ["pull", "resolve"]
HOSTS
    export KILN_CONFIG=$1
}

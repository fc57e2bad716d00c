#!/bin/bash
# Whole builds, containers and networks, kiln beside docker.io (BuildKit and legacy builder), buildah, BuildKit and
# podman: sets up the machine, lets `side_by_side` measure, and cleans up.
#
#   make bench [ROWS=noop,run] [ROUNDS=3] [ENGINES=kiln,docker]
#   BUILDKITD=/path/buildkitd BUILDCTL=/path/buildctl make bench     # BuildKit by itself, too
#
# All stores and contexts lie on an XFS of their own, so that no engine pays for the quirks of the machine's disk, and
# so that there are reflinks to compare with. $KILN_BENCH names the scratch folder (default target/bench).
source "$(dirname "$0")/../testdata/lib.sh"
export KILN=${KILN:-$project/target/release/kiln}
kiln=$KILN
work=${KILN_BENCH:-$project/target/bench}
disk=$work/disk
engines=${ENGINES:-kiln,docker,docker-legacy,buildah,buildkit,podman}
[ "$(id -u)" = 0 ] || die "the benchmark needs root"
[ -x "$kiln" ] || die "$kiln is missing: run \`make build\`"

# The image file is sparse: what is free in it costs nothing.
disk_bytes=32G
# Processes of ours, to be ended in this order.
daemons=()
had_docker0=$(ip link show docker0 2>/dev/null || true)

end_all() {
    local pid
    trap - EXIT
    clean_up || true
    for pid in "${daemons[@]}"; do
        kill "$pid" 2>/dev/null && wait "$pid" || true
    done
    [ -n "$had_docker0" ] || ip link del docker0 2>/dev/null || true
    unmount
}
trap end_all EXIT
trap 'exit 130' INT TERM

# unmount: takes the disk away, and whatever a daemon left mounted on it.
unmount() {
    local tries
    for tries in $(seq 20); do
        mountpoint -q "$disk" || break
        umount -R "$disk" 2>/dev/null && break
        sleep 0.5
    done
    ! mountpoint -q "$disk" || umount -R -l "$disk"
    rm -f "$work/disk.img"
}

wants() { [[ ,$engines, == *,$1,* ]]; }

# Debian's daemons would start themselves when they are installed: not in this run level.
install_peers() {
    export RUNLEVEL=1
    need mkfs.xfs xfsprogs crun crun valgrind valgrind strace strace python3 python3 rustc rustc ip iproute2 iperf3 iperf3
    if wants docker || wants docker-legacy; then need dockerd docker.io || true; fi
    if wants buildah; then need buildah buildah runc runc || true; fi
    if wants podman; then need podman podman runc runc || true; fi
    unset RUNLEVEL
}

make_disk() {
    unmount
    mkdir -p "$disk"
    truncate -s "$disk_bytes" "$work/disk.img"
    mkfs.xfs -q -f -m reflink=1 "$work/disk.img"
    mount -o loop "$work/disk.img" "$disk"
}

# answers COMMAND...: waits until the command succeeds, while the last daemon lives.
answers() {
    local tries
    for tries in $(seq 100); do
        "$@" >/dev/null 2>&1 && return
        kill -0 "${daemons[-1]}" 2>/dev/null || return 1
        sleep 0.2
    done
    return 1
}

# start_docker: a daemon of our own. Debian's client has BuildKit inside; a newer one on PATH may lack its plug-in.
start_docker() {
    command -v dockerd >/dev/null || return 0
    export DOCKER=docker DOCKER_HOST=unix://$work/docker.sock
    [ ! -x /usr/bin/docker ] || DOCKER=/usr/bin/docker
    dockerd --data-root "$disk/docker" --exec-root "$work/docker-run" --pidfile "$work/docker.pid" \
        --host "$DOCKER_HOST" --iptables=false --ip-masq=false >"$work/docker.log" 2>&1 &
    daemons+=($!)
    if answers "$DOCKER" info; then
        export DOCKER_PID=${daemons[-1]}
    else
        say "docker is left out: $(tail -1 "$work/docker.log")"
    fi
}

# start_buildkit: the one whose binary $BUILDKITD names.
start_buildkit() {
    [ -n "${BUILDKITD:-}" ] || return 0
    export BUILDCTL=${BUILDCTL:-$(dirname "$BUILDKITD")/buildctl} BUILDKIT_HOST=unix://$work/buildkit.sock
    printf '[registry."%s"]\nhttp = true\n' "$registry" >"$work/buildkitd.toml"
    "$BUILDKITD" --config "$work/buildkitd.toml" --root "$disk/buildkit" --addr "$BUILDKIT_HOST" \
        --oci-worker-gc=false >"$work/buildkit.log" 2>&1 &
    daemons+=($!)
    if answers "$BUILDCTL" debug workers; then
        export BUILDKIT_PID=${daemons[-1]}
    else
        say "BuildKit is left out: $(tail -1 "$work/buildkit.log")"
    fi
}

need mmdebstrap mmdebstrap busybox busybox-static docker-registry docker-registry
install_peers
mkdir -p "$work"
make_disk
make_bases
start_registry "$work/registry"
daemons+=("$registry_pid")
push_bases "$kiln" "$disk/bases-root"
use_mirror "$work/config"
if wants docker || wants docker-legacy; then start_docker; fi
if wants buildkit; then start_buildkit; fi
# The least that a walk of a tree with a stat of each file costs: one of the floors.
rustc -O --edition 2024 -o "$work/walk" "$project/benches/walk.rs"

export BENCH_DISK=$disk BENCH_WORK=$work BENCH_REGISTRY=$registry BENCH_PROJECT=$project PYTHONDONTWRITEBYTECODE=1
python3 "$project/benches/side_by_side" --engines "$engines" --rounds "${ROUNDS:-3}" --rows "${ROWS:-all}" \
    --out "$work/results"

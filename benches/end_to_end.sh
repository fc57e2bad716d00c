#!/bin/bash
# Times whole builds: a second build of an unchanged 12-step Dockerfile, and 20 distinct RUN steps on busybox, cold.
# kiln beside buildah and docker where they are installed, in turn, on the same Dockerfiles. Each result is checked:
# the files that the steps wrote must be in the image.   usage: end_to_end.sh [ROUNDS]
source "$(dirname "$0")/../testdata/lib.sh"
rounds=${1:-7}
kiln=${KILN:-$project/target/release/kiln}
work=${KILN_BENCH:-$project/target/bench}
[ "$(id -u)" = 0 ] || die "the benchmark needs root"
[ -x "$kiln" ] || die "$kiln is missing: run \`make build\`"
need mmdebstrap mmdebstrap busybox busybox-static docker-registry docker-registry
rm -rf "$work" && mkdir -p "$work"
# Debian's client has BuildKit inside; a newer one on PATH may lack its plug-in.
docker=docker
[ ! -x /usr/bin/docker ] || docker=/usr/bin/docker
docker_pid=
had_docker0=
end_all() {
    clean_up
    [ -n "$docker_pid" ] || return 0
    kill "$docker_pid" && wait "$docker_pid" || true
    [ -n "$had_docker0" ] || ip link del docker0 2>/dev/null || true
}
trap end_all EXIT

# start_docker: a daemon of our own, with its store beside kiln's; leaves DOCKER_HOST set when it answers.
start_docker() {
    had_docker0=$(ip link show docker0 2>/dev/null || true)
    export DOCKER_HOST=unix://$work/docker.sock DOCKER_BUILDKIT=1
    dockerd --data-root "$work/docker" --exec-root "$work/docker-run" --pidfile "$work/docker.pid" \
        --host "$DOCKER_HOST" --iptables=false --ip-masq=false >"$work/docker.log" 2>&1 &
    docker_pid=$!
    local tries
    for tries in $(seq 100); do
        "$docker" info >/dev/null 2>&1 && return
        kill -0 "$docker_pid" 2>/dev/null || break
        sleep 0.2
    done
    tail -3 "$work/docker.log" >&2
    return 1
}

engines=(kiln)
command -v buildah >/dev/null && engines+=(buildah)
command -v dockerd >/dev/null && start_docker && engines+=(docker)
# crun refuses machines with both cgroup versions; runc doesn't.
command -v runc >/dev/null && export BUILDAH_RUNTIME=runc

# build ENGINE TAG FOLDER; prints nothing.
build() {
    case $1 in
        kiln) "$kiln" build -q -t "$2" "$3" ;;
        buildah) buildah --root "$work/buildah" --runroot "$work/buildah-run" bud -q --layers --tls-verify=false \
            --build-arg "BASE=$registry/library/busybox" -t "$2" "$3" ;;
        docker) "$docker" build -q --build-arg "BASE=$registry/library/busybox" -t "$2" "$3" ;;
    esac >"$work/out" 2>&1 || { cat "$work/out" >&2; return 1; }
}

# holds ENGINE TAG FILE TEXT: the image has the file with this text.
holds() {
    local found mount
    case $1 in
        kiln) found=$("$kiln" run --rm --network none "$2" cat "$3") ;;
        buildah)
            mount=$(buildah --root "$work/buildah" --runroot "$work/buildah-run" from --pull-never "$2")
            found=$(cat "$(buildah --root "$work/buildah" --runroot "$work/buildah-run" mount "$mount")$3")
            buildah --root "$work/buildah" --runroot "$work/buildah-run" rm "$mount" >/dev/null
            ;;
        docker) found=$("$docker" run --rm --network none "$2" cat "$3") ;;
    esac
    [ "$found" = "$4" ] || die "$1: $3 of $2 holds \`$found\`, not \`$4\`"
}

# milliseconds COMMAND...: how long it took.
milliseconds() {
    local before after
    before=$(date +%s%N)
    "$@"
    after=$(date +%s%N)
    awk -v time="$((after - before))" 'BEGIN { printf "%.2f", time / 1000000 }'
}

# summary NAME TIMES...: the median and both ends.
summary() {
    local name=$1
    shift
    printf '%s\n' "$@" | sort -n | awk -v name="$name" '
        { time[NR] = $1 }
        END { printf "%-30s median %9.2f ms   min %9.2f   max %9.2f   n %d\n", name, time[int((NR + 1) / 2)], time[1], time[NR], NR }'
}

twelve_steps() {
    mkdir -p "$work/twelve"
    echo "some text" >"$work/twelve/file"
    {
        printf 'ARG BASE=busybox\nFROM $BASE\nENV A=b\nWORKDIR /app\nCOPY file ./\n'
        for step in 1 2 3 4 5 6 7; do echo "RUN echo $step > /step$step"; done
        printf 'LABEL a=b\nCMD ["cat", "file"]\n'
    } >"$work/twelve/Dockerfile"
}

# twenty NONCE: the nonce makes every step new.
twenty_steps() {
    mkdir -p "$work/twenty"
    {
        printf 'ARG BASE=busybox\nFROM $BASE\n'
        for step in $(seq 20); do echo "RUN echo $1-$step > /step$step"; done
    } >"$work/twenty/Dockerfile"
}

make_bases
start_registry "$work/registry"
push_bases "$kiln" "$work/bases-root"
use_mirror "$work/config"
export KILN_ROOT=$work/root

say "no-op rebuild of 12 steps"
twelve_steps
working=()
for engine in "${engines[@]}"; do
    # A peer that can't work on this machine is left out, with its own words; kiln must work.
    if build "$engine" twelve "$work/twelve"; then
        working+=("$engine")
    elif [ "$engine" = kiln ]; then
        die "kiln failed"
    fi
done
engines=("${working[@]}")
declare -A noop cold
for round in $(seq "$rounds"); do
    for engine in "${engines[@]}"; do
        noop[$engine]+=" $(milliseconds build "$engine" twelve "$work/twelve")"
    done
done
for engine in "${engines[@]}"; do
    holds "$engine" twelve /step7 7
    holds "$engine" twelve /app/file "some text"
    summary "$engine" ${noop[$engine]}
done

say "20 RUN steps on busybox, cold"
for round in $(seq "$rounds"); do
    for engine in "${engines[@]}"; do
        nonce=$engine-$round-$RANDOM
        twenty_steps "$nonce"
        cold[$engine]+=" $(milliseconds build "$engine" twenty "$work/twenty")"
        for step in 1 20; do holds "$engine" twenty "/step$step" "$nonce-$step"; done
    done
done
for engine in "${engines[@]}"; do
    summary "$engine" ${cold[$engine]}
    summary "$engine, a step" $(for time in ${cold[$engine]}; do awk -v time="$time" 'BEGIN { print time / 20 }'; done)
done

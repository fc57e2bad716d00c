#!/bin/bash
# Builds each image of testdata/real, runs it and asks it for an answer; where skopeo and umoci are installed, they
# must accept the image too.   usage: real.sh [NAME...]
source "$(dirname "$0")/lib.sh"
kiln=${KILN:-$project/target/release/kiln}
work=${KILN_REAL:-$project/target/real}
[ "$(id -u)" = 0 ] || die "this needs root"
need mmdebstrap mmdebstrap busybox busybox-static docker-registry docker-registry

running=
end_all() {
    [ -z "$running" ] || "$kiln" rm -f "$running" >/dev/null 2>&1 || true
    clean_up
}
trap end_all EXIT

# build NAME [FLAG...]: builds the image real-NAME and lets the peers look at it.
build() {
    local name=$1
    shift
    say "build $name"
    "$kiln" build -t "real-$name" "$@" "$testdata/real/$name" >/dev/null
    accepted "real-$name"
}

# accepted IMAGE: skopeo and umoci read what kiln saves.
accepted() {
    command -v skopeo >/dev/null || return 0
    local folder=$work/accepted
    rm -rf "$folder" && mkdir -p "$folder"
    "$kiln" save -o "$folder/image.tar" "$1"
    skopeo inspect "docker-archive:$folder/image.tar" >/dev/null
    skopeo copy -q "docker-archive:$folder/image.tar" "oci:$folder/oci:it"
    skopeo inspect "oci:$folder/oci:it" >/dev/null
    if command -v umoci >/dev/null; then
        umoci unpack --image "$folder/oci:it" "$folder/bundle" >/dev/null
    fi
    rm -rf "$folder"
}

# start NAME: runs the image in the background under the name real-NAME.
start() {
    running=real-$1
    "$kiln" rm -f "$running" >/dev/null 2>&1 || true
    "$kiln" run -d --name "$running" "$running" >/dev/null
}

# ask EXPECTED COMMAND...: runs the command in the container until its output holds EXPECTED.
ask() {
    local expected=$1 answer tries
    shift
    for tries in $(seq 1 50); do
        if answer=$("$kiln" exec "$running" "$@" 2>&1) && [[ $answer == *"$expected"* ]]; then
            printf '%s\n' "$answer" | head -3 >&2
            return
        fi
        sleep 0.2
    done
    "$kiln" logs "$running" >&2 || true
    die "$running doesn't answer \`$expected\` but \`$answer\`"
}

finish() {
    "$kiln" stop "$running" >/dev/null
    "$kiln" rm "$running" >/dev/null
    running=
}

# in_podman IMAGE [ARGUMENT...]: what the image says when skopeo has copied it into podman and podman runs it.
# The limits are named because a machine may refuse to raise its own to podman's.
in_podman() {
    local folder=$work/podman image=$1
    local store="overlay@$folder/root+$folder/run"
    shift
    rm -rf "$folder" && mkdir -p "$folder"
    "$kiln" save -o "$folder/image.tar" "$image"
    skopeo copy -q "docker-archive:$folder/image.tar" "containers-storage:[$store]localhost/$image:latest"
    podman --root "$folder/root" --runroot "$folder/run" --storage-driver overlay --runtime runc \
        --cgroup-manager cgroupfs --events-backend file run --rm -i --network host \
        --ulimit nofile=1000:1000 --ulimit nproc=1000:1000 "localhost/$image:latest" "$@"
    rm -rf "$folder"
}

# has_podman: whether the peer is here; without skopeo and runc it can't be used.
has_podman() { command -v podman >/dev/null && command -v runc >/dev/null && command -v skopeo >/dev/null; }

# The text that follows is said to a port of the container by bash itself.
http_get='exec 3<>/dev/tcp/127.0.0.1/$0; printf "GET $1 HTTP/1.0\r\n\r\n" >&3; cat <&3'

real_c_server() {
    build c-server
    [ "$(echo hello | "$kiln" run --rm -i real-c-server --once)" = HELLO ] || die "c-server doesn't shout"
    if has_podman; then
        [ "$(echo hello | in_podman real-c-server --once)" = HELLO ] || die "c-server doesn't shout in podman"
    fi
    start c-server
    ask "GOOD MORNING" bash -c 'exec 3<>/dev/tcp/127.0.0.1/7000; echo good morning >&3; read -r line <&3; echo "$line"'
    finish
}

real_flask() {
    build flask
    if has_podman; then
        [ "$(in_podman real-flask python3 -c "print(6 * 7)" </dev/null)" = 42 ] || die "flask doesn't count in podman"
    fi
    start flask
    ask '"status":"ok"' python ask.py /health
    ask '"a":2' python ask.py '/words?text=a+b+A'
    finish
}

real_node() {
    build node
    if has_podman; then
        [ "$(in_podman real-node node -e "console.log(6 * 7)" </dev/null)" = 42 ] || die "node doesn't count in podman"
    fi
    start node
    ask 'Hello, kiln!' bash -c "$http_get" 3000 /greet/kiln
    finish
}

real_nginx() {
    build nginx
    if has_podman; then
        [ "$(in_podman real-nginx nginx -t 2>&1 </dev/null | grep -c successful)" = 1 ] || die "nginx refuses its site in podman"
    fi
    start nginx
    ask 'running' bash -c "$http_get" 80 /status
    ask 'an image that kiln built' bash -c "$http_get" 80 /
    finish
}

real_go_scratch() {
    build go-scratch --build-arg VERSION=1.2
    local answer
    answer=$("$kiln" run --rm real-go-scratch)
    [ "$answer" = "primes 1.2: 2 3 5 7 11 13 17 19 23 29" ] || die "go-scratch says \`$answer\`"
    [ "$("$kiln" run --rm real-go-scratch 3)" = "primes 1.2: 2 3 5" ] || die "go-scratch ignores its argument"
    if has_podman; then
        [ "$(in_podman real-go-scratch </dev/null)" = "$answer" ] || die "go-scratch says something else in podman"
    fi
    printf '%s\n' "$answer" >&2
}

make_bases
rm -rf "$work/registry" "$work/bases-root"
mkdir -p "$work"
start_registry "$work/registry"
push_bases "$kiln" "$work/bases-root"
use_mirror "$work/config"
export KILN_ROOT=${KILN_ROOT:-$work/root}
names=("$@")
[ ${#names[@]} -gt 0 ] || names=(c-server flask node nginx go-scratch)
for name in "${names[@]}"; do
    [ -d "$testdata/real/$name" ] || die "there is no testdata/real/$name"
    "real_${name//-/_}"
done
say "all answered: ${names[*]}"

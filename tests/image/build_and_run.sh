#!/bin/sh
# Builds the image and runs it without a container engine's daemon: ./test image
# Debian's buildah, a base made by debootstrap from this machine's own mirror; everything in one temporary folder.
# Shows: it builds, runs as user 10001 on a folder that belongs to root, answers the wizard, keeps its data.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd -P)
[ "$(id -u)" -eq 0 ] || { # chroot isolation mounts folders
    echo "需要 root：sudo ./test image / needs root: sudo ./test image" >&2
    exit 1
}
work=$(mktemp -d "${TMPDIR:-/tmp}/zhixing-image.XXXXXX")
port=${IMAGE_TEST_PORT:-18899}
server=''

cleanup() {
    [ -z "$server" ] || kill -KILL "-$server" 2>/dev/null || true
    awk -v w="$work" 'index($2, w) == 1 { print $2 }' /proc/mounts | sort -r | while read -r mounted; do
        umount "$mounted" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

step() {
    printf '\n== %s\n' "$*"
}

# everything that buildah keeps lies in $work
tool() {
    buildah --storage-driver vfs --root "$work/storage" --runroot "$work/runroot" "$@"
}

size_mb() {
    du -sm "$1" | cut -f1
}

mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
    awk '/^URIs:/ || (/^deb / && $2 ~ /:/) { print $2; exit }')
certificates=/etc/ssl/certs/ca-certificates.crt

step "base: debootstrap from ${mirror:=http://deb.debian.org/debian}"
debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$work/rootfs" "$mirror" \
    >"$work/debootstrap.log" 2>&1 || { tail -n 20 "$work/debootstrap.log"; exit 1; }
rm -rf "$work"/rootfs/var/cache/apt/archives/*.deb "$work"/rootfs/var/lib/apt/lists/*
base=$(tool from scratch)
tool add -q "$base" "$work/rootfs" / >/dev/null
# a machine may reach its mirrors only with certificates of its own
tool config --env PIP_CERT=/host-ca.crt --env SSL_CERT_FILE=/host-ca.crt "$base"
tool commit -q "$base" zhixing-base >/dev/null
tool rm "$base" >/dev/null
base_mb=$(size_mb "$work/rootfs")
rm -rf "$work/rootfs"

step "build"
set -- --build-arg BASE=localhost/zhixing-base
for name in PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_TRUSTED_HOST; do
    value=$(printenv "$name" || true)
    [ -z "$value" ] || set -- "$@" --build-arg "$name=$value"
done
tool bud --isolation chroot --network host --pull-never --format docker \
    -v "$certificates:/host-ca.crt:ro" "$@" -t zhixing "$here" >"$work/build.log" 2>&1 ||
    { tail -n 40 "$work/build.log"; exit 1; }

step "what is in it"
tool inspect --type image --format '{{.Docker.Config.User}} {{.Docker.Config.ExposedPorts}} {{.Docker.Config.Volumes}} {{.Docker.Config.Healthcheck}}' zhixing
container=$(tool from --pull-never localhost/zhixing)
root=$(tool mount "$container")
for tool_name in gcc cc g++ make pip; do
    [ ! -e "$root/usr/bin/$tool_name" ] || { echo "the image has $tool_name"; exit 1; }
done
image_mb=$(size_mb "$root")
tool umount "$container" >/dev/null
tool rm "$container" >/dev/null

mkdir "$work/data"
chmod 755 "$work/data"

# start: a fresh container on the same folder, as `docker run` makes one; its log goes to $work/log
start() {
    container=$(tool from --pull-never localhost/zhixing)
    # a process group of its own, so that the program below buildah ends with it
    setsid buildah --storage-driver vfs --root "$work/storage" --runroot "$work/runroot" run --isolation chroot \
        --network host -v "$work/data:/app/data" --env "ZHIXING_PORT=$port" --env ZHIXING_METRICS_PORT=0 \
        "$container" -- /app/deploy/entrypoint.sh serve >"$work/log" 2>&1 &
    server=$!
}

# Ends as `docker stop` does: TERM to the program, KILL to what is left after a while.
finish() {
    kill -TERM "-$server" 2>/dev/null || true
    for _ in $(seq 100); do
        kill -0 "-$server" 2>/dev/null || break
        sleep 0.2
    done
    ! kill -KILL "-$server" 2>/dev/null || echo "  it did not end by itself within 20 s"
    wait "$server" 2>/dev/null || true
    server=''
    tool rm "$container" >/dev/null
}

check() {
    python3 "$here/tests/image/check.py" "$1" "http://127.0.0.1:$port" "$work" || { tail -n 40 "$work/log"; exit 1; }
}

step "first run: the folder belongs to root, the wizard is answered"
start
check first
finish
step "second run: another container, the same folder"
start
check second
finish

step "size: image $image_mb MB, base $base_mb MB, over its base $((image_mb - base_mb)) MB"
[ $((image_mb - base_mb)) -lt 400 ] || { echo "aim: under 400 MB over the base"; exit 1; }
echo "image: passed"

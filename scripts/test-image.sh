#!/bin/sh
# Builds k8s/Dockerfile, for CPUs or with CUDA=1 for GPUs, without a Docker daemon and without a registry of images, and trains in what comes out: as its user, from its
# own files. buildah builds, by chroot. The images that the Dockerfile begins with are stood in for: Debian's by debootstrap, golang's
# and rust's by that Debian with this machine's Go and Rust. Needs root, buildah and debootstrap (Debian's packages), 12 GB (with CUDA=1
# 30), and the network for Debian's packages, libtorch, Go modules and crates.
#   test-image.sh [FILE.tar]     also writes the image as an archive, which ctr images import takes
# Images and layers stay in the cache's folder image (6 GB), so the next time only what changed is built.
set -eu
. "$(dirname "$0")/lib.sh"
for program in buildah debootstrap go cargo rustc; do
    command -v $program >/dev/null || die "test-image: $program is not installed (apt-get install buildah debootstrap)"
done
[ "$(id -u)" = 0 ] || die "test-image: needs root, to make Debian's files"
lock image
cuda=${CUDA:-0}
if [ "$cuda" = 1 ]; then need_disk 30000 "building the image for GPUs"; else need_disk 12000 "building the image"; fi
own=$cache/image
mkdir -p "$own"
export BUILDAH_ISOLATION=chroot
b() {
    what=$1
    shift
    buildah --root "$own/store" --runroot "$own/run" "$what" "$@"
}
trap 'b rm --all >/dev/null' EXIT # also what a run before left that was killed

# from NAME prints the image of that name which the Dockerfile begins with.
from() { sed -n "s|^FROM \($1:[^ ]*\).*|\1|p" "$checkout/k8s/Dockerfile"; }
debian=docker.io/library/$(from debian) golang=docker.io/library/$(from golang) rust=docker.io/library/$(from rust)

if ! b inspect --type image "$debian" >/dev/null 2>&1; then
    release=${debian##*:}
    say "making a Debian ${release%-slim} for $debian"
    rm -rf "$own/debian"
    debootstrap --variant=minbase "${release%-slim}" "$own/debian" >"$own/debootstrap.log" 2>&1 || die "test-image: debootstrap failed; see $own/debootstrap.log"
    c=$(b from scratch)
    b add --quiet "$c" "$own/debian" / >/dev/null
    b config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$c"
    b commit --quiet --rm "$c" "$debian" >/dev/null
    rm -rf "$own/debian"
fi
if ! b inspect --type image "$golang" >/dev/null 2>&1; then
    say "making $golang and $rust of it, with $(go env GOVERSION) and $(rustc --version)"
    c=$(b from --pull-never "$debian")
    b add --quiet "$c" "$(go env GOROOT)" /usr/local/go >/dev/null
    # This machine's own authorities, where something between it and the network needs them.
    for authority in /usr/local/share/ca-certificates/*.crt; do
        if [ -e "$authority" ]; then b add --quiet "$c" "$authority" /usr/local/share/ca-certificates/ >/dev/null; fi
    done
    b run "$c" -- sh -c 'apt-get update -qq && apt-get install -y -qq --no-install-recommends ca-certificates g++ gcc git libc6-dev make pkg-config' >"$own/apt.log" 2>&1 ||
        die "test-image: see $own/apt.log"
    b config --env GOTOOLCHAIN=local --env GOPATH=/go --env PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$c"
    b commit --quiet --rm "$c" "$golang" >/dev/null
    c=$(b from --pull-never "$debian")
    b add --quiet "$c" "$(rustc --print sysroot)" /usr/local/rustup/toolchain >/dev/null
    b run "$c" -- sh -c 'mkdir -p /usr/local/cargo/bin && ln -s /usr/local/rustup/toolchain/bin/cargo /usr/local/rustup/toolchain/bin/rustc /usr/local/cargo/bin/'
    b commit --quiet --rm "$c" "$rust" >/dev/null
fi

image=localhost/ddprun-cpu:test
if [ "$cuda" = 1 ]; then image=localhost/ddprun:test; fi
b build --layers --pull-never --ignorefile "$checkout/k8s/Dockerfile.dockerignore" --build-arg CUDA="$cuda" -f "$checkout/k8s/Dockerfile" -t "$image" "$checkout" >&2

# A training, in the image's own directory.
c=$(b from --pull-never "$image")
b add --quiet --chown 1000:1000 "$c" "$checkout/examples/tiny-bert/model" /workspace/model >/dev/null
b add --quiet --chown 1000:1000 "$c" "$checkout/docs/data.md" /workspace/text.txt >/dev/null
printf '%s\n' 'model: model' 'data: text.txt' 'output_dir: out' 'max_steps: 5' 'device: cpu' >"$own/train.yaml"
b add --quiet --chown 1000:1000 "$c" "$own/train.yaml" /workspace/train.yaml >/dev/null
b run "$c" -- ddprun --nproc 2 train.yaml >&2 || die "test-image: ddprun does not train in the image"
[ "$(b run "$c" -- stat -c %u:%g out/model.safetensors)" = 1000:1000 ] || die "test-image: no model was written, or not by user 1000"
if [ "$cuda" = 1 ]; then
    # shellcheck disable=SC2016 # the image's shell is to expand them
    lost=$(b run "$c" -- sh -c 'for torch in /opt/ddprun/libtorch-*/torch; do ldd $torch/lib/libtorch_cuda.so; done' | sed -n 's/^[[:space:]]*\(.*\) => not found/\1/p' | grep -v '^libcuda\.so' || true)
    [ -z "$lost" ] || die "test-image: libtorch_cuda.so does not find $lost in the image"
fi
if [ -n "${1:-}" ]; then b push --quiet "$image" "docker-archive:$1:$image"; fi
say "k8s/Dockerfile builds, and its image trains"

# What the set-up scripts share; sourced by them, not run.
# shellcheck shell=sh disable=SC2034

checkout=$(cd "$(dirname "$0")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/ddprun

# The libtorch that is fetched where none is found, and what its libtorch_cpu.so needs of CUDA even without a GPU.
torch_version=2.11.0
torch_wheels="torch==$torch_version nvidia-cuda-cupti==13.0.85 nvidia-cuda-runtime==13.0.96"
torch_wheel_dir=$cache/libtorch-$torch_version

say() { echo "ddprun: $*" >&2; }
die() {
    say "$*"
    exit 1
}

case $checkout$cache in
*[[:space:]\'\"]*) die "the paths '$checkout' and '$cache' must hold no blanks or quotes: the C++ compiler's flags name them; move the checkout, or set XDG_CACHE_HOME" ;;
esac

# lock NAME makes this process the only one at work on NAME until it ends. Sub-processes inherit the lock, so a download
# that outlives a killed set-up still keeps the next one away from its files.
lock() {
    mkdir -p "$cache"
    exec 9>"$cache/$1.lock"
    flock -n 9 && return
    say "another set-up is at work on $1; waiting for it"
    flock 9
}

# scratch NAME makes $new a new directory for half-made things, which goes when the script ends. What killed runs left
# of that NAME goes first: call it under the lock of NAME.
scratch() {
    rm -rf "$cache/tmp.$1".*
    new=$(mktemp -d "$cache/tmp.$1.XXXXXX")
    trap 'rm -rf "$new"' EXIT
}

# need_disk MIB WHAT ends with an error when the cache's disk has less than that.
need_disk() {
    free=$(df -Pm "$cache" | awk 'NR==2 {print $4}')
    [ "$free" -ge "$1" ] || die "$2 needs $1 MiB in $cache, which has $free: free some, or set XDG_CACHE_HOME to a larger disk"
}

# seal DIR writes the size of every file in it (but for Python's caches) to DIR/.files.
seal() {
    (cd "$1" && find . -type f ! -name '*.pyc' ! -name '.files*' -printf '%s %P\n' | LC_ALL=C sort -k 2 >.files.new && mv .files.new .files)
}

# broken DIR prints the first of the sealed files that is missing or has another size; nothing when all is well.
broken() {
    if [ ! -s "$1/.files" ]; then
        echo .files
        return
    fi
    (cd "$1" && cut -d ' ' -f 2- .files | xargs -d '\n' stat -c '%s %n' 2>/dev/null | diff .files - | sed -n 's/^< [0-9]* //p' | head -n 1)
}

# put_in_place TREE DIR makes DIR what TREE, a part of $new, is. Killed in between, it leaves no DIR, which the next
# set-up makes again.
put_in_place() {
    if [ -e "$2" ]; then mv -T "$2" "$new/replaced"; fi
    mv -T "$1" "$2"
}

# Sourced by the scripts beside it: where the tree is, how to speak, how to become root.
# shellcheck shell=bash

# The tree's root, whatever the directory the script was called from.
PPDSM_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
export PPDSM_ROOT

say() { printf '==> %s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# True where as_root can work: already root, or sudo is there.
can_be_root() { [ "$(id -u)" = 0 ] || command -v sudo >/dev/null 2>&1; }

# Runs a command as root, directly or through sudo.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        sudo -- "$@"
    else
        die "root is needed for: $*; run it as root, or install sudo"
    fi
}

# How many compilers at once: one a core, but no more than one a GiB of free memory, since a compiler that
# the kernel kills looks like a broken build.
build_jobs() {
    local cores memory_gib
    cores=$(nproc)
    memory_gib=$(awk '/^MemAvailable:/ {print int($2 / 1048576)}' /proc/meminfo)
    [ "$memory_gib" -ge 1 ] || memory_gib=1
    echo $((cores < memory_gib ? cores : memory_gib))
}

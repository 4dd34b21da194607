#!/usr/bin/env bash
# Installs what building and testing need and is not there yet. Quick when nothing is missing.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Every package, with the reason for it. "a|b": either will do; the first is installed when none is there.
packages() {
    sed -e 's/ *#.*//' -e '/^$/d' <<'LIST'
g++                   # compiles everything
cmake                 # configures
ninja-build           # builds
pkgconf|pkg-config    # finds libuv, LZ4, xxHash, protobuf-c, and shows that ours can be found
ccache                # a second build costs seconds
clang-format-19       # lint: one version everywhere, since versions format differently
clang-19              # compiles the public header's tests, as users may
libclang-rt-19-dev    # its sanitizers
clang-tidy-19         # lint: the first with checks for coroutines
libuv1-dev            # event loop of the peers
libflatbuffers-dev    # manifests and messages
flatbuffers-compiler  # their schemas
liblz4-dev            # compresses chunks
libxxhash-dev         # names chunks
libssl-dev            # encrypted links between peers
libfuse3-dev          # the sandbox's root, which sees what a program asks for
libprotobuf-c-dev     # CRIU's service protocol and image files
protobuf-c-compiler   # their schemas
libexpected-dev       # results as values
libfmt-dev            # text
libspdlog-dev         # logs
libcli11-dev          # command line
libpng-dev            # the Mandelbrot kernel's picture
nlohmann-json3-dev    # --json
libgtest-dev          # tests
libbenchmark-dev      # benchmarks
spin                  # checks the protocols' models
musl-tools            # static programs: the sandbox's init, and tests of programs without ld.so
util-linux            # unshare, setarch, flock
procps                # tests look at processes
iproute2              # CRIU runs ip to keep a network namespace
strace                # tests of programs that use ptrace
python3               # programs that the tests checkpoint, from here on
perl
gzip
xz-utils
sqlite3
bc
mawk|gawk
gcc
openssl
LIST
}

installed() {
    local status
    status=$(dpkg-query --show --showformat '${db:Status-Status}' "$1" 2>/dev/null) || return 1
    [ "$status" = installed ]
}

# Prints the packages to install.
missing_packages() {
    local line alternative
    while read -r line; do
        for alternative in ${line//|/ }; do
            if installed "$alternative"; then continue 2; fi
        done
        echo "${line%%|*}"
    done < <(packages)
}

command -v apt-get >/dev/null 2>&1 && command -v dpkg-query >/dev/null 2>&1 ||
    die "this script speaks apt (Debian 12, 13) only; elsewhere install the equivalents of: $(packages | tr '\n' ' ')"

mapfile -t missing < <(missing_packages)
if [ ${#missing[@]} -gt 0 ]; then
    say "installing with apt: ${missing[*]}"
    can_be_root || die "neither root nor sudo is there; as root: apt-get install --no-install-recommends ${missing[*]}"
    # A third-party source that is down must not stop us: apt-get install is the judge.
    as_root apt-get update -qq || warn "apt-get update failed in part; going on"
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install --yes -qq --no-install-recommends "${missing[@]}" >/dev/null
else
    say "packages: all $(packages | wc -l) are installed"
fi

# With sudo CRIU goes where root finds it too.
if [ -n "${PPDSM_CRIU_PREFIX:-}" ] || ! can_be_root; then
    "$PPDSM_ROOT/ci/install-criu.sh"
else
    as_root "$PPDSM_ROOT/ci/install-criu.sh"
fi

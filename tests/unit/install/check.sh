#!/bin/sh
# Goal: a program outside the tree builds against an installation, with CMake and with pkg-config, also
# after the installation was moved. Method: does so with a consumer that spawns a virtual thread.
#   check.sh BUILD_DIRECTORY VERSION COMPILER
set -eu
build=$1
version=$2
compiler=$3
here=$(cd "$(dirname "$0")" && pwd)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cmake --install "$build" --prefix "$work/first" --component development >/dev/null
mv "$work/first" "$work/moved"
test -f "$work/moved/include/ppdsm/version.h"
if [ -n "$(find "$work/moved" -name '*.in')" ]; then
    echo "templates were installed: $(find "$work/moved" -name '*.in')"
    exit 1
fi

cmake -S "$here/consumer" -B "$work/cmake" -G Ninja -DCMAKE_CXX_COMPILER="$compiler" \
    -DCMAKE_PREFIX_PATH="$work/moved" -DWANTED_VERSION="$version" >"$work/log" 2>&1 &&
    cmake --build "$work/cmake" >>"$work/log" 2>&1 || {
    cat "$work/log"
    exit 1
}
said=$("$work/cmake/consumer")
[ "$said" = "$version" ] || { echo "CMake's consumer says '$said', not '$version'"; exit 1; }

PKG_CONFIG_PATH=$(dirname "$(find "$work/moved" -name ppdsm.pc)")
export PKG_CONFIG_PATH
[ "$(pkg-config --modversion ppdsm)" = "$version" ]
# shellcheck disable=SC2046  # options are words
"$compiler" -std=c++17 $(pkg-config --cflags ppdsm) "$here/consumer/consumer.cc" \
    $(pkg-config --libs ppdsm) -o "$work/consumer"
said=$("$work/consumer")
[ "$said" = "$version" ] || { echo "pkg-config's consumer says '$said', not '$version'"; exit 1; }

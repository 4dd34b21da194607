#!/bin/sh
# Goal: what cannot work does not compile, and the first error says what to do. Method: compiles refused.cc
# once for each mistake in it, and once without any.
#   check_refused.sh COMPILER INCLUDE_OPTION...
set -eu
compiler=$1
shift
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

compile() { # compile CASE INCLUDE_OPTION...
    case=$1
    shift
    "$compiler" -std=c++17 -fsyntax-only -DCASE="$case" "$@" "$here/refused.cc" 2>"$work/$case"
}

compile 0 "$@" || {
    cat "$work/0"
    echo "what is right does not compile either"
    exit 1
}
awk '/^#.*if CASE == / { number = $NF } sub("^ *// expect: ", "") { print number, $0 }' "$here/refused.cc" >"$work/cases"
[ "$(wc -l <"$work/cases")" -ge 18 ] || {
    echo "refused.cc has lost cases"
    exit 1
}
while read -r case words; do
    if compile "$case" "$@"; then
        echo "case $case compiles"
        exit 1
    fi
    grep -m1 'error:' "$work/$case" | grep -qF "$words" || {
        cat "$work/$case"
        echo "case $case: the first error does not say '$words'"
        exit 1
    }
done <"$work/cases"

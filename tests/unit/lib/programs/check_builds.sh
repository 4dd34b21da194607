#!/bin/bash
# Goal: a program finds whoever serves it however it was built, takes part from several files and shared libraries,
# and the guide's example runs and does what the guide says. Method: builds them with and without position
# independence, for two standards, and runs them.
#   check_builds.sh COMPILER GUIDE INCLUDE_OPTION...
set -euo pipefail
compiler=$1
guide=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    echo "$*"
    exit 1
}

options=("$@" -Wall -Wextra -Wconversion -Wshadow -Wpedantic -Werror)
"$compiler" "${options[@]}" -std=c++17 -shared -fPIC "$here/runtime.cc" -o "$work/serves.so" &
"$compiler" "${options[@]}" -std=c++17 -shared -fPIC -DREFUSES "$here/runtime.cc" -o "$work/refuses.so" &
wait
for pie in "-fPIE -pie" "-fno-pie -no-pie" "-fno-pie -no-pie -static-libstdc++ -O2"; do
    # shellcheck disable=SC2086  # options are words
    "$compiler" "${options[@]}" -std=c++17 $pie "$here/announced.cc" -o "$work/program"
    said=$("$work/program" 2>&1)
    [ "$said" = "[vthread 2] hello" ] || fail "$pie, plainly: $said"
    said=$(LD_PRELOAD=$work/serves.so "$work/program" 2>&1)
    [ "$said" = "served: hello" ] || fail "$pie, served: $said"
    said=$(LD_PRELOAD=$work/refuses.so "$work/program" 2>&1)
    grep -q "^this ppdsm cannot run a program built against version" <<<"$said" ||
        fail "$pie, refused: $said"
done

# One computer for several files and a library that hides its symbols.
wanted="4 steps, sum 6
40
60
remote: thrown in the library
remote: thrown in the library
7"
spread() { # spread COMPILE_OPTION LINK_OPTION [SANITIZER_OPTION]
    local build=("$compiler" "${options[@]}" -std=c++17 -fvisibility=hidden "${@:3}") part said
    "${build[@]}" -DPART=3 -fPIC -shared "$here/spread.cc" -o "$work/libspread.so" &
    for part in 1 2; do "${build[@]}" -DPART=$part "$1" -c "$here/spread.cc" -o "$work/part$part.o"; done
    wait
    "${build[@]}" "$2" "$work/part1.o" "$work/part2.o" -L"$work" -lspread -Wl,-rpath,"$work" -o "$work/spread"
    said=$("$work/spread" 2>&1) || fail "in several parts, $*: $said"
    [ "$said" = "$wanted" ] || fail "in several parts, $*: $said"
}
spread -fPIE -pie
spread -fno-pie -no-pie -fsanitize=address

# The guide's blocks: the program, and what it prints.
sed -n '/^```cpp program$/,/^```$/p' "$guide" | sed '1d;$d' >"$work/guide.cc"
sed -n '/^```text output$/,/^```$/p' "$guide" | sed '1d;$d' >"$work/expected"
[ -s "$work/guide.cc" ] && [ -s "$work/expected" ] || fail "no example in $guide"
"$compiler" "${options[@]}" -std=c++20 -fPIE -pie "$work/guide.cc" -o "$work/guide"
"$work/guide" >"$work/said"
diff "$work/expected" "$work/said" || fail "the guide's example says something else"

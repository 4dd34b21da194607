#!/usr/bin/env bash
# Checks the sources: format, sizes, pure rooms, clang-tidy. Needs a configured and built build/release
# (generated headers); another build directory can be given with -B DIR.
#
#   ci/lint.sh [-B DIR] [--fix] [--seconds N] [FILE...]
#
# --fix formats in place; --seconds bounds clang-tidy (what it did not reach is named); FILEs limit it to these.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

build=build/release
fix=no
seconds=0
files=()
while [ $# -gt 0 ]; do
    case $1 in
        -B)
            [ $# -ge 2 ] || die "-B needs a directory"
            build=$2
            shift
            ;;
        --fix) fix=yes ;;
        --seconds)
            [ $# -ge 2 ] || die "--seconds needs a number"
            seconds=$2
            shift
            ;;
        -*) die "unknown option $1" ;;
        *) files+=("$(realpath "$1")") ;;
    esac
    shift
done
cd "$PPDSM_ROOT"

rooms=(dsm criu-glue runtime cli kernels tests)
existing_rooms=()
for room in "${rooms[@]}"; do
    if [ -d "$room" ]; then existing_rooms+=("$room"); fi
done
mapfile -d '' -t sources < <(find "${existing_rooms[@]}" -type f \
    \( -name '*.cc' -o -name '*.h' -o -name '*.c' \) -print0 | sort -z)

failures=0
complain() {
    printf '%s\n' "$*" >&2
    failures=$((failures + 1))
}

say "lint: format of ${#sources[@]} files"
if [ "$fix" = yes ]; then
    clang-format-19 -i "${sources[@]}"
elif ! clang-format-19 --dry-run --Werror "${sources[@]}"; then
    complain "lint: the files above are not formatted; ci/lint.sh --fix does it"
fi

say "lint: sizes and walls"
for source in "${sources[@]}"; do
    lines=$(wc -l <"$source")
    if [ "$lines" -gt 600 ]; then complain "$source: $lines lines, 600 are the limit: look for the second noun in it"; fi
done
# Pure rooms compute and do nothing else, so that daemon and simulator run the same code.
for room in dsm/core runtime/core; do
    if [ ! -d "$room" ]; then continue; fi
    if grep -rnE '#include *[<"](uv\.h|thread|mutex|condition_variable|random|chrono|ctime|time\.h|unistd\.h|fcntl\.h|sys/[^>"]*|poll\.h|dsm/io/[^>"]*)[>"]|\b(clock_gettime|gettimeofday|getrandom) *\(' \
        --include='*.h' --include='*.cc' "$room"; then
        complain "lint: $room is pure: no I/O, clock, random, thread or libuv there"
    fi
done

say "lint: clang-tidy (what has not changed since it passed is skipped)"
[ -f "$build/compile_commands.json" ] ||
    die "$build/compile_commands.json is missing: configure and build first (cmake --preset release && cmake --build --preset release)"
if ! /usr/bin/python3 ci/tidy.py --build "$build" --jobs "$(build_jobs)" --seconds "$seconds" -- "${files[@]}"; then
    # Within a time bound it reaches other files each time: then it advises, and a run without one decides.
    if [ "$seconds" -gt 0 ]; then
        warn "lint: clang-tidy complains, see above; ci/lint.sh without --seconds fails on it"
    else
        complain "lint: clang-tidy complains, see above"
    fi
fi

if [ "$failures" -gt 0 ]; then die "lint: $failures complaint(s)"; fi
say "lint: clean"

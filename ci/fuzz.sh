#!/usr/bin/env bash
# Fuzzes what comes from other machines, with clang's libFuzzer, AddressSanitizer and UBSan. Stops at the first
# finding, whose input is kept in build/fuzz/findings. By hand.
#
#   ci/fuzz.sh [--seconds N] [FORMAT...]    N: for each format (60); FORMAT: names in tests/golden (all)
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

seconds=60
if [ "${1:-}" = --seconds ]; then
    seconds=$2
    shift 2
fi
formats=("$@")
if [ ${#formats[@]} = 0 ]; then
    for file in "$PPDSM_ROOT"/tests/golden/*.bin; do formats+=("$(basename "$file" .bin)"); done
fi
build=$PPDSM_ROOT/build/fuzz
cmake -S "$PPDSM_ROOT" -B "$build" -G Ninja -DCMAKE_C_COMPILER=clang-19 -DCMAKE_CXX_COMPILER=clang++-19 \
    -DCMAKE_BUILD_TYPE=RelWithDebInfo -DPPDSM_FUZZ=ON -DPPDSM_SANITIZE=address,undefined > /dev/null
cmake --build "$build" --target "${formats[@]/#/fuzz_}"
mkdir -p "$build/findings"
# Undefined behaviour would only be told of, and go on.
export UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1${UBSAN_OPTIONS:+:$UBSAN_OPTIONS}"
printf '%-18s %12s %10s %10s\n' format inputs corpus edges
for format in "${formats[@]}"; do
    corpus=$build/corpus/$format
    mkdir -p "$corpus"
    cp "$PPDSM_ROOT/tests/golden/$format.bin" "$corpus/golden"
    "$build/tests/fuzz/fuzz_$format" -max_total_time="$seconds" -max_len=65536 -print_final_stats=1 \
        -artifact_prefix="$build/findings/$format-" "$corpus" > "$build/$format.log" 2>&1 \
        || { tail -40 "$build/$format.log"; die "$format: see build/fuzz/findings and build/fuzz/$format.log"; }
    inputs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$build/$format.log")
    edges=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$build/$format.log" | tail -1)
    printf '%-18s %12s %10s %10s\n' "$format" "$inputs" "$(find "$corpus" -type f | wc -l)" "$edges"
done
say "nothing found"

#!/usr/bin/env bash
# Runs the unit tests under sanitizers: asan (addresses and undefined behaviour) or tsan (data races);
# both without an argument.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

case ${1:-both} in
    both) presets=(asan tsan) ;;
    asan | tsan) presets=("$1") ;;
    *) die "usage: ci/sanitize.sh [asan|tsan]" ;;
esac

"$PPDSM_ROOT/ci/setup.sh"
cd "$PPDSM_ROOT"

# The sanitizers of g++ 12 expect mappings where kernels with 32 bits of address randomisation no longer put
# them. Where the container forbids switching it off, try as it is.
fixed_addresses=(setarch "$(uname -m)" --addr-no-randomize)
"${fixed_addresses[@]}" true 2>/dev/null || fixed_addresses=()

export ASAN_OPTIONS="detect_stack_use_after_return=1:strict_string_checks=1${ASAN_OPTIONS:+:$ASAN_OPTIONS}"
export UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1${UBSAN_OPTIONS:+:$UBSAN_OPTIONS}"
export TSAN_OPTIONS="halt_on_error=1${TSAN_OPTIONS:+:$TSAN_OPTIONS}"
for preset in "${presets[@]}"; do
    say "$preset: building (build/$preset)"
    cmake --preset "$preset" >/dev/null
    # Building runs the tests too, to list them.
    "${fixed_addresses[@]}" cmake --build --preset "$preset" -j "$(build_jobs)"
    say "$preset: testing"
    "${fixed_addresses[@]}" ctest --test-dir "build/$preset" --output-on-failure -j2 -L unit --no-tests=error
done

#!/usr/bin/env bash
# Random harm to a mesh of machines, over and over, each time another course. Stops at the first failure, whose seed
# and kept files are in the output. By hand; needs root.
#
#   ci/long.sh [-B DIR] [ROUNDS [options of gtest]]    DIR: what is built (build/release); ROUNDS: of all courses (25)
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

build=$PPDSM_ROOT/build/release
if [ "${1:-}" = -B ]; then
    build=$(realpath "$2")
    shift 2
fi
rounds=${1:-25}
[ $# = 0 ] || shift
[ "$(id -u)" = 0 ] || die "the test bed needs root; run ci/long.sh as root"
for ((round = 1; round <= rounds; ++round)); do
    export PPDSM_TEST_SEED=$((RANDOM * 32768 + RANDOM))
    say "round $round of $rounds, seed $PPDSM_TEST_SEED"
    "$build/tests/process/mesh_chaos_test" --gtest_brief=1 --gtest_fail_fast "$@" \
        || die "a run with that seed failed"
done
say "all $rounds rounds passed"

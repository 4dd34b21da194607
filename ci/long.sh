#!/usr/bin/env bash
# Random harm to a mesh of machines, over and over, each time another course. Stops at the first failure, whose seed
# and kept files are in the output. By hand; needs root.
#
#   ci/long.sh [-B DIR] [ROUNDS]    DIR: what is built (build/release); ROUNDS: of four courses each (25)
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

build=$PPDSM_ROOT/build/release
if [ "${1:-}" = -B ]; then
    build=$(realpath "$2")
    shift 2
fi
rounds=${1:-25}
[ "$(id -u)" = 0 ] || die "the test bed needs root; run ci/long.sh as root"
for ((round = 1; round <= rounds; ++round)); do
    export PPDSM_TEST_SEED=$((RANDOM * 32768 + RANDOM))
    for course in 0 1 2 3; do
        export PPDSM_TEST_SEED=$((PPDSM_TEST_SEED + course))
        say "round $round of $rounds, seed $PPDSM_TEST_SEED"
        timeout 300 "$build/tests/process/mesh_field_test" --gtest_brief=1 \
            --gtest_filter="Courses/MeshFieldChaos.EndsAsARunByHand/$course" || die "the run with that seed failed"
    done
done
say "all $rounds rounds passed"

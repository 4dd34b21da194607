#!/usr/bin/env bash
# Measures ppdsm against plain runs and against CRIU alone; prints one table, writes the samples as JSON.
# Needs root, and a machine that does nothing else meanwhile.
#
#   ci/bench.sh [-B DIR] [--quick] [--json FILE] [--only SECTION]...
#
# -B measures what is built in DIR, as it is; without it, build/release is built first. --quick takes a minute or
# two, the whole about eight. Sections: computation memory generations start
# store; on a mesh of three peers: remote-start replication recovery migration links idle; rings (beside OpenMPI's
# shared memory where mpicc was installed when this was built: openmpi-bin, libopenmpi-dev).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

build=
options=()
while [ $# -gt 0 ]; do
    case $1 in
        -B)
            [ $# -ge 2 ] || die "-B needs a directory"
            build=$(realpath "$2")
            shift
            ;;
        -h | --help)
            sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
            exit 0
            ;;
        *) options+=("$1") ;;
    esac
    shift
done
[ "$(id -u)" = 0 ] || die "checkpoints need root; run ci/bench.sh as root"

if [ -z "$build" ]; then
    "$PPDSM_ROOT/ci/setup.sh"
    "$PPDSM_ROOT/ci/build.sh"
    build=$PPDSM_ROOT/build/release
fi
cd "$PPDSM_ROOT"
exec /usr/bin/python3 -B tests/bench/bench.py --build "$build" "${options[@]}"

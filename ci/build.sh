#!/usr/bin/env bash
# Configures and builds the release preset (build/release), tests and benchmarks included.
#
#   ci/build.sh [-DNAME=VALUE...]    options for cmake; it remembers them from one build to the next
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

cd "$PPDSM_ROOT"
say "building (build/release)"
configure_log=$(mktemp)
trap 'rm -f "$configure_log"' EXIT
if ! cmake --preset release "$@" >"$configure_log" 2>&1; then
    cat "$configure_log"
    die "cmake could not configure; see above"
fi
cmake --build --preset release -j "$(build_jobs)"

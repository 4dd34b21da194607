#!/usr/bin/env bash
# Installs what is missing, builds, lints and runs all tests. The summary of the tests is the end of the output.
#
#   ci/test.sh [--no-lint] [-R REGEX] [-E REGEX] [-L LABEL] [other options of ctest]
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

lint=yes
ctest_options=()
while [ $# -gt 0 ]; do
    case $1 in
        --no-lint) lint=no ;;
        -h | --help)
            sed -n '2,4s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
            exit 0
            ;;
        *) ctest_options+=("$1") ;;
    esac
    shift
done

"$PPDSM_ROOT/ci/setup.sh"
cd "$PPDSM_ROOT"
"$PPDSM_ROOT/ci/build.sh" -DPPDSM_WERROR=ON

# The tests run even if the lint fails: both answers are wanted from one run.
failed=
if [ "$lint" = yes ]; then
    # The first clang-tidy of a whole tree takes minutes on a small machine; later ones remember what passed.
    "$PPDSM_ROOT/ci/lint.sh" --seconds "${PPDSM_LINT_SECONDS:-240}" || failed="lint failed, see above; the exit code will say so too"
fi
say "testing"
if [ -n "$failed" ]; then warn "$failed"; fi
status=0
ctest --test-dir build/release --output-on-failure -j2 "${ctest_options[@]}" || status=$?
if [ -n "$failed" ] && [ "$status" = 0 ]; then exit 1; fi
exit "$status"

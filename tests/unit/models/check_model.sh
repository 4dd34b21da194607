#!/usr/bin/env bash
# Checks a Spin model exhaustively, or, with a mutation, that the check finds what the mutation breaks.
#
#   check_model.sh SPIN CC MODEL.pml [MUTATION]
set -euo pipefail
spin=$1 compiler=$2 model=$(realpath "$3") mutation=${4:-}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
# Spin says on stdout, and with exit code 0, what it does not understand.
if ! "$spin" -a ${mutation:+"-D$mutation"} "$model" >said 2>&1 || [ ! -e pan.c ] || grep -qi error said; then
    cat said >&2
    exit 1
fi
"$compiler" -O1 -DSAFETY -w -o pan pan.c
./pan -m1000000 | tee report
errors=$(sed -n 's/.*errors: \([0-9]*\)$/\1/p' report)

if [ -n "$mutation" ]; then
    # The check itself must have said no: an assertion, or a process that waits for ever.
    grep -qE 'assertion violated|invalid end state \(' report && [ "$errors" -gt 0 ] && exit 0
    echo "$mutation goes unnoticed" >&2
    exit 1
fi
if [ "$errors" != 0 ] || grep -qE 'Search not completed|max search depth' report; then
    # The steps that lead there.
    for trail in ./*.trail; do
        if [ -e "$trail" ]; then "$spin" -k "$trail" -p -g "$model" | tail -200; fi
    done
    exit 1
fi

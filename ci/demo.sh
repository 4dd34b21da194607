#!/usr/bin/env bash
# The main job, shown: a program from Debian (bc, computing digits of pi) runs under `ppdsm exec`; its process
# is killed with -9, then ppdsm itself is; each time it goes on, and its output is that of a plain run.
# Installs what is missing and builds first; the demonstration itself takes about half a minute.
#
#   ci/demo.sh [PPDSM]    PPDSM: a ppdsm that is already built; then nothing is installed or built
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

case ${1:-} in
    -*)
        sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
        exit 0
        ;;
    "")
        "$PPDSM_ROOT/ci/setup.sh"
        "$PPDSM_ROOT/ci/build.sh"
        ppdsm=$PPDSM_ROOT/build/release/cli/ppdsm
        ;;
    *) ppdsm=$(realpath "$1") ;;
esac
# Without root, ppdsm runs programs but cannot checkpoint them.
if [ "$(id -u)" != 0 ]; then
    say "checkpoints need root: the demonstration goes on under sudo"
    can_be_root || die "neither root nor sudo is there; run ci/demo.sh as root"
    exec sudo -- "$PPDSM_ROOT/ci/demo.sh" "$ppdsm"
fi

bold='' normal=''
if [ -t 1 ]; then
    bold=$(tput bold 2>/dev/null || true)
    normal=$(tput sgr0 2>/dev/null || true)
fi
step() { printf '\n%s%s%s\n' "$bold" "$*" "$normal"; }

work=$(mktemp -d /var/tmp/ppdsm-demo-XXXXXX)
run=
cleanup() {
    if [ -n "$run" ]; then
        kill -9 "$run" 2>/dev/null || true
        wait "$run" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap cleanup EXIT
export PPDSM_HOME=$work/home
mkdir "$work/files"
cd "$work/files"
cat >pi.bc <<'BC'
for (digits = 100; digits <= 1400; digits += 50) {
    scale = digits + 5
    pi = 4 * a(1)
    scale = 0
    print digits, " digits of pi end in ", (pi * 10 ^ digits / 1) % 10 ^ 12, "\n"
}
BC

# What `ppdsm ps` knows of the one run of this home; 0 while it does not know.
field() {
    "$ppdsm" ps --json | /usr/bin/python3 -c '
import json, sys
runs = json.load(sys.stdin)
print(runs[0].get(sys.argv[1], 0) if runs else 0)' "$1"
}

# until_true SECONDS WHAT COMMAND...: waits until the command succeeds, which it must before the run has ended.
until_true() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || die "the demonstration waited too long for $what; $(cat "$work/messages")"
        kill -0 "$run" 2>/dev/null || die "the run ended before $what; $(cat "$work/messages")"
        sleep 0.05
    done
}
generation_is() { [ "$(field generation)" -ge "$1" ]; }
has_come_back() { grep -q '"event":"restored"' "$work/events"; }

step "1. A plain run of bc, for comparison."
time bc -lq pi.bc >"$work/plain" </dev/null
tail -n 1 "$work/plain"

step "2. The same under ppdsm, with a checkpoint twice a second."
"$ppdsm" exec --checkpoint-every 500ms --events "$work/events" \
    bc -lq pi.bc >"$work/protected" 2>"$work/messages" </dev/null &
run=$!
until_true 30 "the second checkpoint" generation_is 2
"$ppdsm" ps

program=$(field root_pid)
step "3. kill -9 $program, which is bc itself: ppdsm brings it back from its last checkpoint."
kill -9 "$program"
until_true 30 "the return of bc" has_come_back
grep -E '"event":"(died|restored)"' "$work/events"
until_true 30 "the next checkpoints" generation_is $(($(field generation) + 2))
echo "bc is process $(field root_pid) now"

step "4. kill -9 $run, which is ppdsm: nothing of the run is left running, and ps knows."
program=$(field root_pid)
{
    kill -9 "$run"
    wait "$run" || true
} 2>/dev/null # The shell's own "Killed" adds nothing.
run=
for _ in {1..100}; do
    [ -e "/proc/$program" ] || break
    sleep 0.05
done
[ ! -e "/proc/$program" ] || die "bc (process $program) outlived ppdsm"
"$ppdsm" ps
echo "its output so far: $(wc -l <"$work/protected") of $(wc -l <"$work/plain") lines"

step "5. ppdsm resume: it goes on from its last checkpoint, and writes on right behind what it had written."
id=$(field id)
"$ppdsm" resume --stats "$id" >>"$work/protected" </dev/null

step "6. Both outputs, compared byte for byte:"
cmp "$work/plain" "$work/protected"
echo "identical ($(wc -c <"$work/plain") bytes, $(wc -l <"$work/plain") lines)"

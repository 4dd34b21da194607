#!/usr/bin/env bash
# plain_criu.sh OUT DUMPS RESTORES PROGRAM [ARG...]: `criu dump` and `criu restore` by hand, as CRIU's manual has
# it, without anything of ppdsm. Run by bench.py inside fresh mount, pid, ipc, uts and net namespaces. $CRIU:
# how to start CRIU, a word a line. $BEFORE_EACH: a command run before each dump and restore. OUT gets stats-dump-N of each dump, restore-N with the milliseconds of each restore,
# and what the program said in output.
set -euo pipefail
out=$1 dumps=$2 restores=$3
shift 3
mapfile -t command <<<"$CRIU"

mount -t tmpfs tmpfs /run # Images lie in memory, and so does what CRIU remembers of the kernel.
ip link set lo up
touch "$out/output"
setsid "$@" </dev/null >>"$out/output" 2>&1 &
program=$!
until grep -q '^round' "/proc/$program/comm"; do sleep 0.01; done

for ((i = 0; i < dumps; ++i)); do
    sleep 0.5
    rm -rf /run/images
    mkdir /run/images
    last=--leave-running
    if [ "$i" = $((dumps - 1)) ] && [ "$restores" -gt 0 ]; then last=; fi
    eval "${BEFORE_EACH:-}"
    "${command[@]}" dump --tree "$program" --images-dir /run/images --log-file dump.log $last
    cp /run/images/stats-dump "$out/stats-dump-$i"
done
sleep 0.5

said_bytes=$(stat --format %s "$out/output")
for ((i = 0; i < restores; ++i)); do
    # CRIU restores a file only at the size that it had.
    truncate --size "$said_bytes" "$out/output"
    eval "${BEFORE_EACH:-}"
    begun=$EPOCHREALTIME
    "${command[@]}" restore --restore-detached --images-dir /run/images --log-file restore.log
    ended=$EPOCHREALTIME
    echo $(((${ended/./} - ${begun/./}) / 1000)) >"$out/restore-$i"
    kill -9 "$program"
    while [ -e "/proc/$program" ]; do sleep 0.01; done
done
kill -9 "$program" 2>/dev/null || true # Where nothing was restored it still runs.

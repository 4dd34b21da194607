"""Measures ppdsm against plain runs and against CRIU alone; see docs/benchmarks.md for the method.
Every ratio is of medians of one run, whose variants were interleaved. Missed targets are shown, and are no
failure: the exit code says only whether everything could be measured."""

import argparse
import json
import os
import pathlib
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import measures
import mesh
import rings
from runs import Failed, Tools

SECTIONS = {**measures.SECTIONS, **mesh.SECTIONS, **rings.SECTIONS}


def first_value(path, key):
    for line in pathlib.Path(path).read_text().splitlines():
        if line.startswith(key):
            return line.partition(":")[2].strip()
    return "unknown"


def describe_machine(tools):
    return {"cpu": first_value("/proc/cpuinfo", "model name"), "cpus": os.cpu_count(),
            "memory": first_value("/proc/meminfo", "MemTotal"), "kernel": platform.release(),
            "criu": tools.doctor["criu"]["version"], "ppdsm": tools.doctor["version"],
            "virtual": " hypervisor" in first_value("/proc/cpuinfo", "flags")}


def busy_share(begun, ended):
    """Part of the machine's time that was used, and that a hypervisor took, between two readings."""
    spent = [after - before for before, after in zip(begun, ended)]
    total = sum(spent[:8]) or 1
    return {"busy": 1 - (spent[3] + spent[4]) / total, "stolen": spent[7] / total}


def cpu_times():
    with open("/proc/stat", encoding="ascii") as stat:
        return [int(word) for word in stat.readline().split()[1:]]


def print_table(rows):
    cells = [("WHAT", "PPDSM", "AGAINST", "", "RATIO", "TARGET", "")]
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.3f}"
        cells.append((row.what, row.ours.text(), row.other_name,
                      row.other.text() if row.other else "", ratio, row.target_text(), row.verdict))
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())


def measure(tools, sections, quick):
    results = {}
    for name in sections:
        print(f"measuring: {name}", file=sys.stderr, flush=True)
        begun, load = time.monotonic(), os.getloadavg()[0]
        times = cpu_times()
        rows = SECTIONS[name](tools, quick)
        results[name] = {"rows": rows, "load_before": load, "seconds": time.monotonic() - begun,
                         "machine_time": busy_share(times, cpu_times())}
    return results


def options():
    parser = argparse.ArgumentParser(prog="ci/bench.sh", description=__doc__)
    parser.add_argument("--build", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true",
                        help="shorter programs and fewer rounds: a look, not a figure to publish")
    parser.add_argument("--json", metavar="FILE", default="build/bench.json",
                        help="where the samples go (default: %(default)s)")
    parser.add_argument("--only", metavar="SECTION", action="append", choices=list(SECTIONS),
                        help="one of %(choices)s; may be repeated")
    return parser.parse_args()


def main():
    chosen = options()
    signal.signal(signal.SIGTERM, lambda *ignored: sys.exit(143))
    if os.getuid() != 0:
        sys.exit("error: checkpoints need root; run ci/bench.sh as root")
    scratch = tempfile.mkdtemp(prefix="ppdsm-bench-", dir="/var/tmp")
    try:
        tools = Tools(os.path.abspath(chosen.build), scratch)
        machine = describe_machine(tools)
        results = measure(tools, chosen.only or list(SECTIONS), chosen.quick)
    except (Failed, subprocess.TimeoutExpired) as failure:
        sys.exit(f"error: {failure}")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print_table([row for result in results.values() for row in result["rows"]])
    print("machine: {cpu}, {cpus} CPUs, {memory}, kernel {kernel}, CRIU {criu}".format(**machine))
    for name, result in results.items():
        print("{}: {:.0f} s, load average {:.2f} before, CPUs {:.0%} busy, {:.1%} stolen".format(
            name, result["seconds"], result["load_before"], result["machine_time"]["busy"],
            result["machine_time"]["stolen"]))
    document = {"machine": machine, "quick": chosen.quick, "unix_time": int(time.time()),
                "sections": {name: dict(result, rows={row.key: row.as_json() for row in result["rows"]})
                             for name, result in results.items()}}
    path = pathlib.Path(chosen.json)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"samples: {path}")


if __name__ == "__main__":
    main()

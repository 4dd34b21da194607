#!/usr/bin/python3
"""Runs clang-tidy over our sources, and remembers which passed.

A file is checked again when its preprocessed text, its compile command, .clang-tidy or clang-tidy itself
has changed: preprocessing costs a tenth of checking. Passed checks are kept, one empty file each, in
$XDG_CACHE_HOME/ppdsm/lint and forgotten when unused for 30 days.

With --seconds no new file is begun after that time; those left over are named and checked by a later run.
Files changed last come first.
"""
import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib
import shlex
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROOMS = ("dsm", "criu-glue", "runtime", "cli", "kernels", "tests")
CLANG_TIDY = "clang-tidy-19"
KEEP_SECONDS = 30 * 24 * 3600


def cache_directory():
    home = os.environ.get("XDG_CACHE_HOME") or str(pathlib.Path.home() / ".cache")
    directory = pathlib.Path(home) / "ppdsm" / "lint"
    directory.mkdir(parents=True, exist_ok=True)
    oldest = time.time() - KEEP_SECONDS
    for stamp in directory.iterdir():
        if stamp.stat().st_mtime < oldest:
            stamp.unlink()
    return directory


def preprocessed(entry):
    """The text that the compiler sees, comments included since NOLINT is one."""
    arguments = shlex.split(entry["command"])
    if os.path.basename(arguments[0]) == "ccache":
        arguments = arguments[1:]
    output = arguments.index("-o")
    del arguments[output : output + 2]
    arguments.remove("-c")
    done = subprocess.run(arguments + ["-E", "-C"], cwd=entry["directory"], capture_output=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{entry['file']}: does not preprocess; build first\n{done.stderr.decode()}")
    return done.stdout


def check(entry, build, cache, salt, deadline):
    """(file, complaints): complaints is empty when the file passes, None when there was no time."""
    name = str(pathlib.Path(entry["file"]).relative_to(ROOT))
    try:
        key = hashlib.sha256(salt + entry["command"].encode() + preprocessed(entry)).hexdigest()
    except RuntimeError as error:
        return name, str(error)
    stamp = cache / key
    if stamp.exists():
        stamp.touch()
        return name, ""
    if deadline and time.monotonic() > deadline:
        return name, None
    done = subprocess.run(
        [CLANG_TIDY, "-p", str(build), "--quiet", "--extra-arg=-Wno-unknown-warning-option", entry["file"]], capture_output=True, text=True, check=False
    )
    if done.returncode == 0 and "warning:" not in done.stdout:
        stamp.touch()
        return name, ""
    return name, done.stdout or done.stderr


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("files", nargs="*")
    options = parser.parse_args()

    build = (ROOT / options.build).resolve()
    wanted = {str(pathlib.Path(file).resolve()) for file in options.files}
    entries = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        file = pathlib.Path(entry["file"])
        ours = any(file.is_relative_to(ROOT / room) for room in ROOMS)
        # Files in C follow the sandbox's init: too small and too low-level for checks made for C++.
        if ours and file.suffix == ".cc" and (not wanted or str(file) in wanted):
            entries.setdefault(str(file), entry)

    version = subprocess.run([CLANG_TIDY, "--version"], capture_output=True, check=True).stdout
    salt = version + b"".join(path.read_bytes() for path in (ROOT / ".clang-tidy", ROOT / "tests" / ".clang-tidy"))
    deadline = time.monotonic() + options.seconds if options.seconds > 0 else None
    newest_first = sorted(entries.values(), key=lambda entry: -pathlib.Path(entry["file"]).stat().st_mtime)
    cache = cache_directory()
    failed = 0
    left_over = []
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        jobs = [pool.submit(check, entry, build, cache, salt, deadline) for entry in newest_first]
        for job in concurrent.futures.as_completed(jobs):
            name, complaints = job.result()
            if complaints is None:
                left_over.append(name)
            elif complaints:
                failed += 1
                print(f"{name}:\n{complaints}", flush=True)
    if left_over:
        print(f"clang-tidy: no time for {len(left_over)} files, run ci/lint.sh for them: {' '.join(sorted(left_over))}")
    print(f"clang-tidy: {len(entries) - failed - len(left_over)} of {len(entries)} files pass")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

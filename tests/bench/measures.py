"""The measurements. Each takes the tools and the size of the run, and returns rows for the table."""

import json
import math
import re
import signal
import time

from runs import Figure, Run

MIB = 1 << 20


def judge(value, limit, error):
    if abs(value - limit) < error:
        return "unclear"
    return "met" if value <= limit else "MISSED"


class Row:
    """One comparison: `ours` against `other`, as the ratio of their medians or by an own limit."""

    def __init__(self, key, what, ours, other=None, other_name="", target=None, limit=None):
        self.key, self.what, self.ours, self.other = key, what, ours, other
        self.other_name, self.target, self.limit = other_name, target, limit

    @property
    def ratio(self):
        if self.other is None or self.other.median == 0:
            return None
        return self.ours.median / self.other.median

    @property
    def verdict(self):
        """Unclear: as near to the target as chance alone can bring it."""
        if self.target is not None and self.ratio is not None:
            error = self.ratio * math.hypot(self.ours.relative_error, self.other.relative_error)
            return judge(self.ratio, self.target, error)
        if self.limit is not None:
            return judge(self.ours.median, self.limit,
                         self.ours.median * self.ours.relative_error)
        return ""

    def target_text(self):
        if self.target is not None:
            return f"at most {self.target}x"
        if self.limit is not None:
            return f"under {self.limit} {self.ours.unit}"
        return ""

    def as_json(self):
        return {"what": self.what, "ours": self.ours.as_json(),
                "other": self.other and dict(self.other.as_json(), name=self.other_name),
                "ratio": self.ratio, "target_ratio": self.target, "target": self.limit,
                "verdict": self.verdict}


def rotated(variants, round_number):
    """Each variant is first, second, ... equally often: none always follows the same other."""
    shift = round_number % len(variants)
    return variants[shift:] + variants[:shift]


def computation(tools, quick):
    """(a) What ppdsm costs a program that only computes. Other work on the machine disturbs wall times
    more than CPU times, which are therefore shown too."""
    seconds, rounds = (5, 2) if quick else (20, 3)
    every = "1250ms" if quick else "5s"  # As many checkpoints in a short run as in a long one.
    loop = tools.program("cpu_loop")
    trial_millions = 300
    per_million = min(tools.time_ms([loop, str(trial_millions)])[0] for _ in range(3)) / trial_millions
    command = [loop, str(int(seconds * 1000 / per_million))]
    run = [tools.ppdsm, "exec", "--checkpoint-every"]
    variants = [("plain", command), ("off", [*run, "off", "--", *command]),
                ("checkpoints", [*run, every, "--", *command])]
    figures = {name: Figure("s") for name, _ in variants}
    cpu = {name: Figure("s") for name, _ in variants}
    outputs = set()
    for round_number in range(rounds):
        for name, variant in rotated(variants, round_number):
            took_ms, cpu_ms, output = tools.time_ms(variant)
            figures[name].add(took_ms / 1000)
            cpu[name].add(cpu_ms / 1000)
            outputs.add(output)
    if len(outputs) != 1:
        raise RuntimeError(f"the outputs of one program differ: {outputs}")
    target = None if quick else 1.01
    what = f"computation of {seconds} s, checkpoints "
    return [Row("wall_off", what + "off", figures["off"], figures["plain"], "plain", target),
            Row("wall_on", what + "every " + every, figures["checkpoints"], figures["plain"],
                "plain", target),
            Row("cpu_off", "CPU time of all of it, checkpoints off", cpu["off"], cpu["plain"], "plain"),
            Row("cpu_on", "CPU time of all of it, checkpoints every " + every, cpu["checkpoints"],
                cpu["plain"], "plain")]


def pick(records, field):
    return [record[field] for record in records if field in record]


def longest_gaps(records, count):
    """The freezes among the jumps that the program saw: as many as there were dumps."""
    return sorted(pick(records, "gap_ms"))[-count:]


def one_run(tools, dumps, restores, command, warm):
    """Records of one run under ppdsm, named as those of the stock runs."""
    records = []
    with Run(tools, command) as run:
        run.wait_round(0)
        for _ in range(dumps):
            time.sleep(0.5)
            tools.run(warm)
            event = run.checkpoint()
            records.append({"frozen_ms": event["pause_ms"], "cut_ms": event["cut_ms"]})
        run.checkpoint()  # Releases what the program said of the last freeze.
        time.sleep(0.2)
        records += run.gaps()
        for _ in range(restores):
            tools.run(warm)
            noticed_ms, killed_ms = run.kill_and_restore()
            records.append({"restore_ms": noticed_ms, "kill_to_return_ms": killed_ms})
            time.sleep(0.5)
    return records


def memory(tools, quick):
    """(b) The pause, (e) the restore, against CRIU alone in the same sandbox and by hand."""
    rows = []
    for mib in (16, 256) if quick else (16, 256, 1024):
        command = [tools.program("page_toucher"), str(mib), "1"]
        rounds, dumps = (1, 3) if quick else (3, 4)
        restores = 2 if mib <= 256 else 0
        samples = {"ppdsm": [], "sandbox": [], "plain": []}
        subject = (dumps, restores, command, tools.warm_command(mib))
        measure = {"ppdsm": lambda s=subject: one_run(tools, *s),
                   "sandbox": lambda s=subject: tools.stock_criu(*s),
                   "plain": lambda s=subject: tools.plain_criu(*s)}
        seen = {name: [] for name in samples}
        for round_number in range(rounds):
            for name in rotated(list(measure), round_number):
                records = measure[name]()
                samples[name] += records
                seen[name] += longest_gaps(records, dumps)

        def of(name, field, records=samples):
            return Figure("ms", pick(records[name], field))

        size = "1 GiB" if mib == 1024 else f"{mib} MiB"
        pause = of("ppdsm", "frozen_ms")
        rows += [Row(f"pause_{mib}", f"pause at {size}", pause, of("sandbox", "frozen_ms"),
                     "CRIU in the same sandbox", 1.1),
                 Row(f"pause_plain_{mib}", f"pause at {size}", pause, of("plain", "frozen_ms"),
                     "criu dump by hand"),
                 Row(f"cut_{mib}", f"of it cut_ms at {size}", of("ppdsm", "cut_ms"), pause,
                     "the pause")]
        if all(seen.values()):
            rows.append(Row(f"seen_{mib}", f"freeze as the program saw it, {size}",
                            Figure("ms", seen["ppdsm"]), Figure("ms", seen["sandbox"]),
                            "CRIU in the same sandbox"))
        rows.append(Row(f"memdump_{mib}", f"CRIU's own memory dump within the pause, {size}",
                        of("sandbox", "memdump_ms"), of("sandbox", "frozen_ms"), "its pause"))
        if restores:
            back = of("ppdsm", "restore_ms")
            rows += [Row(f"restore_{mib}", f"died to restored at {size}", back,
                         of("sandbox", "restore_ms"), "CRIU in the same sandbox"),
                     Row(f"restore_plain_{mib}", f"died to restored at {size}", back,
                         of("plain", "restore_ms"), "criu restore by hand"),
                     Row(f"spawn_{mib}", f"a fresh sandbox, {size}", of("sandbox", "spawn_ms"), back,
                         "died to restored"),
                     Row(f"copy_{mib}", f"copying {size} of images within memory",
                         of("sandbox", "copy_ms"), back, "died to restored"),
                     Row(f"kill_{mib}", f"kill -9 to restored at {size}",
                         of("ppdsm", "kill_to_return_ms"), back, "died to restored")]
    return rows


def generations(tools, quick):
    """(c) What a generation adds to the store, against the bytes that changed."""
    mib, rounds = 256, 2 if quick else 3
    rows = []
    for percent in (0, 1, 10, 100):
        added = Figure("B")
        with Run(tools, [tools.program("page_toucher"), str(mib), str(percent), "signal"]) as run:
            run.wait_round(0)
            run.checkpoint()
            for number in range(1, rounds + 1):
                run.signal(signal.SIGUSR1)
                run.wait_round(number)
                added.add(run.checkpoint()["bytes_new"])
        pages = int(mib * 256 * percent / 100 + 0.5)
        rows.append(Row(f"bytes_{percent}", f"bytes of a generation, {percent} % of {mib} MiB changed",
                        added, Figure("B", [pages * 4096]), "bytes changed"))
    return rows


def start(tools, quick):
    """(d) What it takes to run nothing."""
    rounds = 10 if quick else 40
    namespaces = ["unshare", "-Urpfmin", "--mount-proc", "true"]
    variants = [("ppdsm", [tools.ppdsm, "exec", "true"]), ("unshare", namespaces), ("true", ["true"])]
    figures = {name: Figure("ms") for name, _ in variants}
    cpu = {name: Figure("ms") for name, _ in variants}
    for _, command in variants:
        tools.time_ms(command)  # Caches, ppdsm's own included, are warm.
    for round_number in range(rounds):
        for name, command in rotated(variants, round_number):
            took_ms, cpu_ms, _ = tools.time_ms(command)
            figures[name].add(took_ms)
            cpu[name].add(cpu_ms)
    return [Row("exec_true", "ppdsm exec true", figures["ppdsm"], figures["unshare"],
                "unshare -Urpfmin --mount-proc true", limit=60),
            Row("exec_true_plain", "ppdsm exec true", figures["ppdsm"], figures["true"], "true"),
            Row("exec_true_cpu", "CPU time of ppdsm exec true", cpu["ppdsm"], cpu["unshare"],
                "unshare -Urpfmin --mount-proc true")]


STORE_NAMES = {
    "hash_pages": "XXH3-128 of pages", "compress_blocks": "LZ4 of 64-KiB blocks",
    "put_new_pages": "store: put new pages, one thread", "put_known_pages": "store: put known pages",
    "get_pages": "store: get pages", "store_new_file": "store: a new file, all cores, durable",
    "store_known_file": "store: a known file, all cores", "write_file_back": "store: write a file back",
}


def store(tools, quick):
    """Throughput of the chunk store, as times slower than memcpy of the same pages."""
    repetitions = 3 if quick else 5
    done = tools.run([tools.program("store_bench"), "--benchmark_format=json",
                      f"--benchmark_repetitions={repetitions}", "--benchmark_min_time=0.2",
                      "--benchmark_enable_random_interleaving=true"])
    speeds = {}
    for result in json.loads(done.stdout)["benchmarks"]:
        if result["run_type"] == "iteration":
            name = re.sub(r"/real_time.*", "", result["run_name"])
            speeds.setdefault(name, Figure("GB/s")).add(result["bytes_per_second"] / 1e9)
    copy = speeds.pop("copy_pages")
    kinds = {"": "", "0": ", noise", "1": ", records"}
    rows = []
    order = list(STORE_NAMES)
    for name, speed in sorted(speeds.items(), key=lambda item: order.index(item[0].split("/")[0])):
        function, _, kind = name.partition("/")
        rows.append(Row(name.replace("/", "_"), STORE_NAMES[function] + kinds[kind], speed, copy,
                        "memcpy"))
    return rows


SECTIONS = {"computation": computation, "memory": memory, "generations": generations,
            "start": start, "store": store}

"""What the benchmarks are made of: commands, runs under ppdsm, CRIU's statistics, figures."""

import contextlib
import json
import os
import pathlib
import resource
import shlex
import signal
import statistics
import subprocess
import time


class Failed(Exception):
    """A measurement that did not come about; the text is for people."""


class Figure:
    """Samples of one quantity."""

    def __init__(self, unit, samples=()):
        self.unit = unit
        self.samples = list(samples)

    def add(self, sample):
        self.samples.append(sample)

    @property
    def median(self):
        return statistics.median(self.samples)

    @property
    def relative_error(self):
        """Standard error of the median (that of a normal distribution), as a part of it."""
        if len(self.samples) < 2:
            return 0
        return 1.2533 * statistics.stdev(self.samples) / len(self.samples) ** 0.5 / self.median

    def text(self):
        """Median and spread."""
        digits = 0 if self.median >= 1000 else 1 if self.median >= 10 else 2
        if self.unit == "B":
            digits = 0
        return "{:.{d}f} {} ({:.{d}f}..{:.{d}f})".format(
            self.median, self.unit, min(self.samples), max(self.samples), d=digits)

    def as_json(self):
        return {"unit": self.unit, "median": self.median, "min": min(self.samples),
                "max": max(self.samples), "samples": self.samples}


class Tools:
    """Where everything is; a scratch home and working directory that go at the end."""

    def __init__(self, build, scratch):
        self.build = pathlib.Path(build)
        self.scratch = pathlib.Path(scratch)
        self.ppdsm = str(self.build / "cli/ppdsm")
        self.programs = self.build / "tests/bench"
        self.work = self.scratch / "files"
        self.work.mkdir()
        self.environment = dict(os.environ, PPDSM_HOME=str(self.scratch / "home"),
                                PPDSM_LIBEXEC=str(self.build / "libexec"))
        for program in (self.ppdsm, self.program("page_toucher"), self.program("stock_criu")):
            if not os.access(program, os.X_OK):
                raise Failed(f"{program} is missing; ci/build.sh makes it")
        self.doctor = json.loads(self.run([self.ppdsm, "doctor", "--json"], check=False).stdout)
        if not self.doctor["checkpoints"]:
            raise Failed("checkpoints do not work here; `ppdsm doctor` says why")

    def program(self, name):
        return str(self.programs / name)

    def has_program(self, name):
        return os.access(self.program(name), os.X_OK)

    def run(self, command, check=True, timeout=600, environment=None):
        """Runs to the end; output as text."""
        done = subprocess.run(command, cwd=self.work, env=environment or self.environment,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=timeout)
        if check and done.returncode != 0:
            raise Failed(f"{' '.join(command)}: exit {done.returncode}: "
                         f"{done.stderr.strip() or done.stdout.strip()}")
        return done

    def time_ms(self, command):
        """Wall time, start to end; CPU time of it and all that it started; what it printed."""
        def cpu():
            used = resource.getrusage(resource.RUSAGE_CHILDREN)
            return used.ru_utime + used.ru_stime
        begun, cpu_begun = time.perf_counter(), cpu()
        done = self.run(command)
        return (time.perf_counter() - begun) * 1000, (cpu() - cpu_begun) * 1000, done.stdout

    def warm_command(self, mib, copies=2):
        """What to run before a dump or restore of a program of `mib`: images, memory, and some more."""
        return [self.program("warm_memory"), str(copies * mib + mib // 4 + 64)]

    def stock_criu(self, dumps, restores, command, warm):
        """CRIU alone in ppdsm's sandbox: records of dumps, restores and gaps."""
        done = self.run([self.program("stock_criu"), str(dumps), str(restores), *command],
                        environment=dict(self.environment, BEFORE_EACH=shlex.join(warm)))
        return [json.loads(line) for line in done.stdout.splitlines()]

    def plain_criu(self, dumps, restores, command, warm):
        """CRIU by hand. The same records as stock_criu()."""
        out = self.scratch / "plain"
        out.mkdir()
        script = pathlib.Path(__file__).with_name("plain_criu.sh")
        environment = dict(os.environ, CRIU="\n".join(self.doctor["criu"]["command"]),
                           BEFORE_EACH=shlex.join(warm))
        self.run(["unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child",
                  "--mount-proc", "bash", str(script), str(out), str(dumps), str(restores),
                  *command], environment=environment)
        records = [dump_statistics((out / f"stats-dump-{i}").read_bytes()) for i in range(dumps)]
        records += [{"restore_ms": float((out / f"restore-{i}").read_text())}
                    for i in range(restores)]
        records += gaps((out / "output").read_text())
        for file in out.iterdir():
            file.unlink()
        out.rmdir()
        return records


def gaps(output):
    """What page_toucher said of its clock."""
    return [{"gap_ms": float(line.split()[1])} for line in output.splitlines()
            if line.startswith("gap_ms ")]


def dump_statistics(image):
    """Times of CRIU's stats-dump: two magic numbers, a length, then a protobuf message of which
    field 1 is the dump's: 1 freezing, 2 frozen, 3 memdump, 4 memwrite, in microseconds."""
    def varint(at):
        value = shift = 0
        while True:
            byte = image[at]
            value |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if byte < 0x80:
                return value, at

    at = 12
    if image[at] != 0x0A:
        raise Failed("stats-dump holds no dump")
    size, at = varint(at + 1)
    end, fields = at + size, {}
    while at < end:
        key, at = varint(at)
        fields[key >> 3], at = varint(at)
    return {"freezing_ms": fields[1] / 1000, "frozen_ms": fields[2] / 1000,
            "memdump_ms": fields[3] / 1000, "memwrite_ms": fields[4] / 1000}


def wait_until(what, condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"waited {seconds} s for {what}")
        time.sleep(0.005)


class Run(contextlib.AbstractContextManager):
    """A program under `ppdsm exec` that is checkpointed by request; killed at the end."""

    _count = 0

    def __init__(self, tools, command, options=(), environment=None):
        Run._count += 1
        self.tools = tools
        self.name = f"bench-{Run._count}"
        self.events_path = tools.scratch / f"{self.name}.events"
        self.output_path = tools.scratch / f"{self.name}.output"
        with open(self.output_path, "wb") as output:
            self.process = subprocess.Popen(
                [tools.ppdsm, "exec", "--name", self.name, "--checkpoint-every", "1h",
                 "--events", str(self.events_path), *options, "--", *command],
                cwd=tools.work, env=environment or tools.environment, stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT)

    def __exit__(self, *ignored):
        self.process.kill()  # Everything in its sandbox dies with it.
        self.process.wait()
        self.tools.run([self.tools.ppdsm, "rm", self.name], check=False)

    def events(self, kind):
        if not self.events_path.exists():
            return []
        lines = self.events_path.read_text().splitlines()
        return [event for event in map(json.loads, lines) if event["event"] == kind]

    def gaps(self):
        return gaps(self.output_path.read_text())

    def wait_for(self, kind, count):
        def there():
            if self.process.poll() is not None:
                raise Failed(f"ppdsm exec ended: {self.output_path.read_text().strip()}")
            return len(self.events(kind)) >= count
        wait_until(f"{kind} of {self.name}", there)
        return self.events(kind)[count - 1]

    def pid(self):
        """The program's; another one after each restore. Asked of `ppdsm ps`, since a program's first
        process may not be there yet when the run has started."""
        found = 0

        def there():
            nonlocal found
            if self.process.poll() is not None:
                raise Failed(f"ppdsm exec ended: {self.output_path.read_text().strip()}")
            runs = json.loads(self.tools.run([self.tools.ppdsm, "ps", "--json"]).stdout)
            found = next((run.get("root_pid", 0) for run in runs if run["name"] == self.name), 0)
            return found > 0
        wait_until(f"the program of {self.name}", there)
        return found

    def wait_round(self, number):
        """Until page_toucher has answered so many signals."""
        comm = pathlib.Path(f"/proc/{self.pid()}/comm")
        wait_until(f"round {number}", lambda: comm.read_text().strip() == f"round {number}")

    def signal(self, number):
        os.kill(self.pid(), number)

    def checkpoint(self):
        """The event of a checkpoint made now."""
        committed = len(self.events("checkpoint_committed"))
        self.tools.run([self.tools.ppdsm, "checkpoint", "create", self.name])
        return self.wait_for("checkpoint_committed", committed + 1)

    def kill_and_restore(self):
        """Milliseconds from the death's being noticed, and from the kill, to the return."""
        restored, started = len(self.events("restored")), len(self.events("started"))
        killed_ms = time.time() * 1000
        self.signal(signal.SIGKILL)
        died = self.wait_for("died", restored + 1)
        back = self.wait_for("restored", restored + 1)
        self.wait_for("started", started + 1)
        return back["unix_ms"] - died["unix_ms"], back["unix_ms"] - killed_ms

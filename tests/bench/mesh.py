"""Measurements of a mesh: three peers on loopback, with homes of their own."""

import contextlib
import json
import os
import pathlib
import re
import subprocess
import time

from measures import MIB, Row, pick, rotated
from runs import Failed, Figure, Run, wait_until


class Mesh(contextlib.AbstractContextManager):
    """Peers a (whose user we are), b and c; killed at the end."""

    def __init__(self, tools):
        self.tools = tools
        self.daemons = {}
        self.environment = dict(tools.environment, PPDSM_HOME=str(self.home("a")))
        for name in "abc":
            self.start(name)
        for name in "bc":
            token = self.ask("a", "invite").strip()
            self.ask(name, "join", token)
        wait_until("the mesh", lambda: all(self.ready(name) == 3 for name in "abc"))

    def __exit__(self, *ignored):
        for daemon in self.daemons.values():
            daemon.kill()
            daemon.wait()

    def home(self, name):
        return self.tools.scratch / f"peer-{name}"

    def log(self, name):
        return self.tools.scratch / f"peer-{name}.log"

    def start(self, name):
        with open(self.log(name), "ab") as log:
            self.daemons[name] = subprocess.Popen(
                [self.tools.ppdsm, "peer", "start", "--foreground", "--home", str(self.home(name)),
                 "--name", name, "--listen", "127.0.0.1:0"],
                cwd=self.tools.work, env=self.tools.environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log)
        wait_until(f"peer {name}", lambda: self.run(
            ["peer", "list", "--home", str(self.home(name))], check=False).returncode == 0)

    def run(self, arguments, check=True):
        return self.tools.run([self.tools.ppdsm, *arguments], check=check,
                              environment=self.environment)

    def ask(self, name, *arguments):
        return self.run(["peer", *arguments, "--home", str(self.home(name))]).stdout

    def ready(self, name):
        peers = json.loads(self.ask(name, "list", "--json"))
        return sum(peer["state"] == "alive" and peer["linked"] and peer.get("speed", 0) > 0
                   for peer in peers)

    def kill(self, name):
        """Returns when, in ms of the wall clock."""
        killed_ms = time.time() * 1000
        self.daemons[name].kill()
        self.daemons[name].wait()
        return killed_ms

    def noticed_ms(self, name, after_ms):
        """When `name` first said after that moment that a peer is dead."""
        stamps = []

        def there():
            for line in self.log(name).read_text().splitlines():
                if " is dead (" not in line:
                    continue
                clock, millis = line[:19], int(line[20:23])
                seconds = time.mktime(time.strptime(clock, "%Y-%m-%d %H:%M:%S"))
                if seconds * 1000 + millis >= after_ms - 1:
                    stamps.append(seconds * 1000 + millis)
            return bool(stamps)
        wait_until(f"{name} to notice", there)
        return stamps[0]


class MeshRun(Run):
    """A program on the mesh."""

    def __init__(self, mesh, command, options=()):
        super().__init__(mesh.tools, command, options, environment=mesh.environment)
        self.mesh = mesh

    def __exit__(self, *ignored):
        self.mesh.run(["kill", self.name, "--signal", "KILL"], check=False)
        self.process.wait()
        self.mesh.run(["rm", self.name], check=False)

    def wait_filled(self):
        """Until page_toucher has touched all its memory, wherever it is."""
        def filled():
            for comm in pathlib.Path("/proc").glob("[0-9]*/comm"):
                with contextlib.suppress(OSError):
                    if comm.read_text().startswith("round"):
                        return True
            return False
        wait_until("the program's memory to be filled", filled)

    def away(self, least_ms):
        """How long the program was not there, each time, by the wall clock."""
        times = re.findall(r"^away_ms ([0-9.]+)$", self.output_path.read_text(), re.MULTILINE)
        return [float(ms) for ms in times if float(ms) >= least_ms]

    def checkpoint(self):
        committed = len(self.events("checkpoint_committed"))
        self.mesh.run(["checkpoint", "create", self.name])
        return self.wait_for("checkpoint_committed", committed + 1)

    def worker(self):
        runs = json.loads(self.mesh.run(["ps", "--json"]).stdout)
        found = next((run for run in runs if run["name"] == self.name), None)
        if found is None:
            raise Failed(f"{self.name} is not there any more")
        return found["peer"][0]


def remote_start(tools, quick):
    """(f) A program at another peer that has its files already, against the same here."""
    rounds = 6 if quick else 20
    with Mesh(tools) as mesh:
        local = [tools.ppdsm, "exec", "--local", "true"]
        remote = [tools.ppdsm, "exec", "--on", "b", "true"]
        figures = {"local": Figure("ms"), "remote": Figure("ms")}
        variants = [("local", local), ("remote", remote)]
        for _, command in variants:
            tools.run(command, environment=mesh.environment)
        for round_number in range(rounds):
            for name, command in rotated(variants, round_number):
                begun = time.perf_counter()
                tools.run(command, environment=mesh.environment)
                figures[name].add((time.perf_counter() - begun) * 1000)
    extra = Figure("ms", [there - here for there, here in
                          zip(figures["remote"].samples, figures["local"].samples)])
    return [Row("remote_start", "exec --on b true, files there", figures["remote"],
                figures["local"], "exec --local true"),
            Row("remote_extra", "of it more than locally", extra, limit=100)]


def loopback_bytes():
    with open("/proc/net/dev", encoding="ascii") as table:
        for line in table:
            if line.strip().startswith("lo:"):
                return int(line.split(":")[1].split()[0])
    raise Failed("no loopback device")


def replication(tools, quick):
    """(g) What passes to one replica, against the bytes that changed."""
    mib, rows = 256, []
    for percent in (1, 10):
        moved, changed = Figure("B"), Figure("B")
        with Mesh(tools) as mesh, MeshRun(
                mesh, [tools.program("page_toucher"), str(mib), str(percent)],
                ["--on", "b", "--replicas", "1"]) as run:
            run.wait_filled()
            run.checkpoint()
            for _ in range(2 if quick else 4):
                time.sleep(1)
                before = loopback_bytes()
                event = run.checkpoint()
                moved.add(loopback_bytes() - before)
                changed.add(event["bytes_new"])
        rows.append(Row(f"replicated_{percent}",
                        f"on the wire for one replica, {percent} % of {mib} MiB a second", moved,
                        changed, "new bytes of the generation"))
    return rows


def recovery(tools, quick):
    """(h) A worker is killed: when it is known, and when its program goes on."""
    detected, back = Figure("ms"), Figure("ms")
    for _ in range(2 if quick else 5):
        with Mesh(tools) as mesh, MeshRun(mesh, [tools.program("page_toucher"), "100", "1"],
                                          ["--on", "b"]) as run:
            run.wait_filled()
            run.checkpoint()
            tools.run(tools.warm_command(100))
            killed_ms = mesh.kill("b")
            noticed_ms = mesh.noticed_ms("a", killed_ms)
            detected.add(max(0.5, noticed_ms - killed_ms))
            back.add(run.wait_for("restored", 1)["unix_ms"] - noticed_ms)
    return [Row("detected", "killed peer known dead", detected, limit=100),
            Row("recovered", "known dead to going on elsewhere, 100 MiB", back, limit=1000)]


def migration(tools, quick):
    """(i) How long a program is away when it moves, against CRIU's frozen time, and against dump, copy
    and restore by hand."""
    mib, moves, rounds = 256, 2 if quick else 4, 1 if quick else 3
    command = [tools.program("page_toucher"), str(mib), "1"]
    # Images here, images there, the program there, and what the peers read meanwhile.
    warm = tools.warm_command(mib, copies=4)
    away = Figure("ms")
    records = {"sandbox": [], "plain": []}
    for _ in range(rounds):
        with Mesh(tools) as mesh, MeshRun(mesh, command, ["--on", "b"]) as run:
            run.wait_filled()
            run.checkpoint()
            marks = len(run.away(60))
            for number in range(moves):
                tools.run(warm)
                mesh.run(["migrate", run.name, "--to", "bc"[(number + 1) % 2]])
                time.sleep(1)
            run.checkpoint()  # Releases what the program said.
            time.sleep(0.3)
            # The last checkpoint's own pause has not been said yet.
            for ms in sorted(run.away(60)[marks:])[-moves:]:
                away.add(ms)
        records["sandbox"] += tools.stock_criu(2, 2, command, warm)
        records["plain"] += tools.plain_criu(2, 2, command, warm)
    frozen = Figure("ms", pick(records["sandbox"], "frozen_ms"))
    by_hand = Figure("ms", [dump + copy + restore for dump, copy, restore in zip(
        pick(records["plain"], "frozen_ms"), pick(records["sandbox"], "copy_ms"),
        pick(records["plain"], "restore_ms"))])
    return [Row("away", f"a {mib}-MiB program that moves is away", away, frozen,
                "CRIU's frozen time in the same sandbox", 3.0),
            Row("away_by_hand", "the same", away, by_hand, "dump, copy, restore by hand")]


def links(tools, quick):
    """(j) Throughput of a link, whose TLS works on one core at each end, against raw TCP."""
    done = tools.run([tools.program("link_bench"), "512", "3" if quick else "9"])
    rounds = [json.loads(line) for line in done.stdout.splitlines()]
    return [Row("link", "a link between two peers, TLS and frames",
                Figure("GB/s", pick(rounds, "link")), Figure("GB/s", pick(rounds, "tcp")),
                "raw TCP on loopback")]


def idle(tools, quick):
    """(k) What a daemon without work costs."""
    seconds = 10 if quick else 60
    with Mesh(tools) as mesh:
        time.sleep(12)  # Past its first measurements.
        pid = mesh.daemons["b"].pid

        def cpu_seconds():
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        begun = cpu_seconds()
        time.sleep(seconds)
        share = (cpu_seconds() - begun) / seconds * 100
        resident = int(re.search(r"VmRSS:\s+(\d+)",
                                 pathlib.Path(f"/proc/{pid}/status").read_text()).group(1)) * 1024
    return [Row("idle_memory", "an idle daemon's resident memory",
                Figure("MiB", [resident / MIB]), limit=20),
            Row("idle_cpu", "an idle daemon's share of a core", Figure("%", [share]), limit=0.5)]


SECTIONS = {"remote-start": remote_start, "replication": replication, "recovery": recovery,
            "migration": migration, "links": links, "idle": idle}

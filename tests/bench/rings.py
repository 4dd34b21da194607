"""Message rings in shared memory, against MPI's and against the least that the hardware allows."""

import json

from measures import Row, rotated
from runs import Figure

UNITS = {"round_trip_ns": "ns", "messages_us": "M/s", "large_gbs": "GB/s"}
NAMES = {"round_trip_ns": "round trip of 8 bytes between processes",
         "messages_us": "messages of 8 bytes a second", "large_gbs": "messages of 1 MiB, made and read"}


def rings(tools, quick):
    """(l) Rings between two processes on two cores: every round has each variant once."""
    variants = [("ring", [tools.program("ring_bench"), "ring"]),
                ("raw", [tools.program("ring_bench"), "raw"])]
    if tools.has_program("mpi_bench"):
        # As root MPI wants to be told that this is meant. It pins its processes, as ring_bench does. In a
        # session of its own, since mpirun stops itself in the background of a terminal.
        variants.append(("mpi", ["setsid", "--wait", "mpirun", "--allow-run-as-root", "-np", "2",
                                 tools.program("mpi_bench")]))
    else:
        print("rings: NOT compared with OpenMPI: mpicc was not there when this was built "
              "(apt-get install openmpi-bin libopenmpi-dev, then build again)", flush=True)
    figures = {name: {key: Figure(unit) for key, unit in UNITS.items()} for name, _ in variants}
    for number in range(3 if quick else 15):
        for name, command in rotated(variants, number):
            for key, value in json.loads(tools.run(command, timeout=60).stdout).items():
                figures[name][key].add(value)
    rows = []
    for key, what in NAMES.items():
        for name, other in (("mpi", "OpenMPI, shared memory"), ("raw", "bare words and buffers, spinning")):
            if name in figures:
                is_latency = key == "round_trip_ns" and name == "mpi"
                rows.append(Row(f"{key}_{name}", what, figures["ring"][key], figures[name][key],
                                other, 1.0 if is_latency else None))
    return rows


SECTIONS = {"rings": rings}

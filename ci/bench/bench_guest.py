# SPDX-License-Identifier: GPL-2.0
"""Measure guests: boot to agent ready, restore to ready, reads of a tree singly and in a batch.

    python ci/bench/bench_guest.py [--kernel debian:newest] [--boots 3] [--restores 20] [--json]

Prints the figures beside the goals for emulation on two cores; does not judge them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from damon_tests.kernel.guest.guest import Guest, Guests
from damon_tests.kernel.guest.topology import Topology
from damon_tests.kernel.images import image
from damon_tests.kernel.images.image import KernelImage
from damon_tests.ports import DamonTestsError, FileOp

READ = "/sys/kernel/mm/damon/admin/kdamonds/nr_kdamonds"
BATCH = 200
GOALS = {
    "boot to agent ready": 8.0,
    "restore to ready": 0.5,
    "restore, use and close": None,
    "one read alone": 0.010,
    "one read of a batch": 0.001,
    "the clock": None,
    "dmesg": None,
}


def timed(act: Callable[[], object]) -> float:
    """Return how long ``act`` takes, in s."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def measure(kernel: KernelImage, guests: Guests, boots: int, restores: int) -> dict[str, list[float]]:
    """Return {figure: seconds of each repetition}."""
    topology = Topology()
    raw: dict[str, list[float]] = {name: [] for name in GOALS}
    for _ in range(boots):
        with guests.live(kernel, topology) as guest:
            raw["boot to agent ready"].append(float(str(guest.provenance["boot_s"])))
    guests.boot(kernel, topology)
    for seed in range(restores):
        began = time.perf_counter()
        with guests.fresh(kernel, topology, seed) as guest:
            raw["restore to ready"].append(time.perf_counter() - began)
            guest.machine.read_file(READ)
        raw["restore, use and close"].append(time.perf_counter() - began)
    with guests.fresh(kernel, topology, 0) as guest:
        measure_agent(guest, raw)
    return raw


def measure_agent(guest: Guest, raw: dict[str, list[float]]) -> None:
    machine = guest.machine
    machine.batch([FileOp("read", READ)] * BATCH)  # warm
    for _ in range(BATCH):
        raw["one read alone"].append(timed(lambda: machine.read_file(READ)))
        raw["the clock"].append(timed(machine.clock.now_ns))
    for _ in range(20):
        whole = timed(lambda: machine.batch([FileOp("read", READ)] * BATCH))
        raw["one read of a batch"].append(whole / BATCH)
        raw["dmesg"].append(timed(guest.dmesg))


def table(raw: dict[str, list[float]]) -> list[str]:
    lines = [f"{'':24} {'median':>10} {'worst':>10} {'goal':>10}   (ms)"]
    for name, values in raw.items():
        goal = GOALS[name]
        shown = f"{goal * 1e3:10.1f}" if goal else " " * 10
        lines.append(
            f"{name:24} {statistics.median(values) * 1e3:10.2f} {max(values) * 1e3:10.2f} {shown}"
            f"   n={len(values)}"
        )
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kernel", default="debian:newest")
    parser.add_argument("--boots", type=int, default=3)
    parser.add_argument("--restores", type=int, default=20)
    parser.add_argument("--json", action="store_true", help="raw seconds, for a program")
    options = parser.parse_args(arguments)
    try:
        kernel = image.resolve(options.kernel)
        with tempfile.TemporaryDirectory() as directory, Guests(Path(directory)) as guests:
            raw = measure(kernel, guests, options.boots, options.restores)
            with guests.fresh(kernel, Topology(), 0) as guest:
                facts = guest.provenance
    except DamonTestsError as error:
        print(f"bench_guest: {error}", file=sys.stderr)
        return error.exit_code
    if options.json:
        print(json.dumps({"kernel": kernel.release, "provenance": facts, "seconds": raw}))
    else:
        print(f"{kernel.release}, {facts['accel']}, QEMU {facts['qemu']}, {facts['cpus']} CPUs")
        print("\n".join(table(raw)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

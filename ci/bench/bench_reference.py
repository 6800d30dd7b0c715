# SPDX-License-Identifier: GPL-2.0
"""Measure the reference: ticks per second of the core loop, reads of its tree, memory per region.

Prints a line per figure, then all of them as a line of JSON (``--json`` prints only that).
Compare ratios only: absolute numbers depend on the machine and its load.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import tracemalloc
from collections.abc import Callable, Sequence

import numpy as np

from damon_tests.damon.client import DamonClient
from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, DamonTarget, Damos, Kdamond
from damon_tests.ports import NSEC_PER_SEC, Bools, Pages
from damon_tests.reference.core.batch import Batch
from damon_tests.reference.machine.process import Process
from damon_tests.reference.rules.ruleset import Rules
from damon_tests.reference.sysfs.system import ReferenceSystem

BASE = 1 << 40
SAMPLE_US = 5_000
GOAL_TICKS, DEFECT_TICKS = 20_000, 8_000


class QuarterHot:
    """The simplest truth: the first quarter of the memory is touched all the time."""

    def __init__(self, size: int) -> None:
        self._size = size

    def ranges(self) -> Sequence[tuple[int, int]]:
        return [(BASE, BASE + self._size)]

    def span_ns(self) -> tuple[int, int]:
        return 0, 1 << 62

    def touched(self, pages: Pages, t0_ns: int, t1_ns: int) -> Bools:
        return pages < (BASE + self._size // 4) // 4096

    def touched_each(
        self, pages: Pages, t0_ns: np.ndarray[tuple[int], np.dtype[np.int64]], t1_ns: object
    ) -> Bools:
        return self.touched(pages, 0, 1)

    def rate(self, pages: Pages, t0_ns: int, t1_ns: int, window_ns: int) -> np.ndarray[tuple[int], np.dtype]:
        return self.touched(pages, t0_ns, t1_ns).astype(np.float64)


def monitored(size: int, max_nr_regions: int, schemes: tuple[Damos, ...] = ()) -> ReferenceSystem:
    """Return a running kdamond with about ``max_nr_regions`` live regions."""
    system = ReferenceSystem(seed=1)
    pid = system.add_process([(BASE, BASE + size)], QuarterHot(size))
    attrs = DamonAttrs(max_nr_regions=max_nr_regions, min_nr_regions=max(max_nr_regions * 6 // 10, 3))
    ctx = DamonCtx(
        "fvaddr", attrs=attrs, targets=(DamonTarget(pid, ((BASE, BASE + size),)),), schemes=schemes
    )
    client = DamonClient(system.tree, system.clock)
    client.stage([Kdamond(ctx)])
    client.command(0, "on")
    system.clock.run_for(2 * NSEC_PER_SEC)
    return system


def ticks_per_second(system: ReferenceSystem, ticks: int) -> float:
    """Return the best of three runs, in CPU time: disturbances only make a run slower."""
    rates = []
    for _ in range(3):
        began = time.process_time()
        system.clock.run_for(ticks * SAMPLE_US * 1000)
        rates.append(ticks / (time.process_time() - began))
    return max(rates)


def per_second(function: Callable[[], object], count: int) -> float:
    began = time.process_time()
    for _ in range(count):
        function()
    return count / (time.process_time() - began)


def bytes_per_region() -> float:
    """Return the memory of 9,000 more regions and everything that belongs to them, per region."""
    sizes = {}
    for regions in (1_000, 10_000):
        tracemalloc.start()
        system = monitored(1 << 40, regions)
        kdamond = system.tree.slots[0].kdamond
        assert kdamond is not None
        sizes[len(kdamond.ctx.regions)] = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    (few, less), (many, more) = sizes.items()
    return (more - less) / (many - few)


def tree_reads_per_second(system: ReferenceSystem) -> float:
    """Read every readable file of the tree in turn; return reads per second."""
    admin = "/sys/kernel/mm/damon/admin"
    paths = [f"{admin}/{e.path}" for e in system.tree.walk(admin) if not e.is_dir and e.mode & 0o400]
    turns = 200_000 // len(paths)
    began = time.process_time()
    for _ in range(turns):
        for path in paths:
            system.tree.read(path)
    return turns * len(paths) / (time.process_time() - began)


def replicas_seconds(nr_replicas: int, regions: int, seconds: int) -> float:
    """Return the CPU time of computing a new oracle band, in s."""
    size = 1 << 30
    process = Process(1, [(BASE, BASE + size)], QuarterHot(size))
    attrs = DamonAttrs(max_nr_regions=regions, min_nr_regions=regions * 6 // 10)
    ctx = DamonCtx("fvaddr", attrs=attrs, targets=(DamonTarget(1, ((BASE, BASE + size),)),))
    began = time.process_time()
    rng = np.random.Generator(np.random.SFC64(1))  # as experiment.replica makes it
    batch = Batch(Rules(), ctx, [process], nr_replicas, rng)
    recording = batch.run(0, seconds * NSEC_PER_SEC)
    for replica in range(nr_replicas):
        recording.snapshots(replica)
    return time.process_time() - began


def measure(say: Callable[[str], None]) -> dict[str, float]:
    figures: dict[str, float] = {}

    def note(name: str, value: float, unit: str, remark: str = "") -> None:
        figures[name] = round(value, 4)
        say(f"{name:38} {value:12,.2f} {unit}{'  (' + remark + ')' if remark else ''}")

    for regions, ticks in ((100, 20_000), (1_000, 10_000), (10_000, 1_000)):
        rate = ticks_per_second(monitored(1 << 40, regions), ticks)
        remark = f"goal {GOAL_TICKS:,}, defect below {DEFECT_TICKS:,}" if regions == 1000 else ""
        note(f"ticks/s at {regions} regions", rate, "ticks/s", remark)
        note(f"x real time at {regions} regions", rate * SAMPLE_US / 1e6, "x")
    stat = (Damos(access_pattern=ANY),)
    note(
        "ticks/s at 1000 regions, stat scheme",
        ticks_per_second(monitored(1 << 40, 1000, stat), 5_000),
        "ticks/s",
    )
    note_sizes(note)
    note("200 replicas, 100 regions, 10 s", replicas_seconds(200, 100, 10), "s", "goal 3")
    note("memory per region", bytes_per_region(), "bytes")
    system = monitored(1 << 30, 100)
    path = "/sys/kernel/mm/damon/admin/kdamonds/0/contexts/0/monitoring_attrs/intervals/sample_us"
    note("tree reads/s", tree_reads_per_second(system), "reads/s", "goal 200,000")
    note("tree writes/s", per_second(lambda: system.tree.write(path, "5000"), 100_000), "writes/s")
    return figures


def note_sizes(note: Callable[[str, float, str, str], None]) -> None:
    """Measure equally many regions over 1 GiB, 1 TiB, 1 PiB, interleaved, so that disturbances hit all."""
    systems = {
        name: monitored(1 << shift, 1000) for name, shift in (("1 GiB", 30), ("1 TiB", 40), ("1 PiB", 50))
    }
    rates: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(5):
        for name, system in systems.items():
            rates[name].append(ticks_per_second(system, 1_000))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, rate in medians.items():
        note(f"cost per tick, {name} over 1 GiB", medians["1 GiB"] / rate, "ratio", "goal 0.9 to 1.1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON")
    options = parser.parse_args()
    figures = measure((lambda line: None) if options.json else print)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

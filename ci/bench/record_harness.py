#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Record how fast the harness is, for ``damon-tests compare`` and ``damon-tests history``.

    record_harness.py --output DIR [--rounds N] [--history FILE]
    damon-tests compare DIR-OF-OLD-COMMIT DIR-OF-NEW-COMMIT

A figure is the CPU time of an operation divided by that of an anchor, a fixed piece of Python and numpy that
runs just before and just after it. So other machines, and other work on this one, change it little. DIR gets
a ``bench.json`` as ``damon-tests bench`` writes it, with the commit in its provenance.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from damon_tests import __version__, bundle
from damon_tests.judge.cost.samples import CostSamples
from damon_tests.judge.monitoring.aggregation_windows import windows
from damon_tests.judge.monitoring.report_vs_truth import compare
from damon_tests.judge.monitoring.true_rates import spans_of
from damon_tests.patterns import load
from damon_tests.ports import NSEC_PER_SEC, DamonTestsError
from damon_tests.report import bench_history, bench_record, run_directory
from damon_tests.report.bench_record import BenchRecord
from damon_tests.workload.pattern_truth import PatternTruth

sys.path.insert(0, str(Path(__file__).parent))
import bench_metrics
import bench_reference

PROTOCOL = "harness 1"
"""Changes with what is measured: other figures then mean something else, and are not compared."""

UNIT = "anchors"
PATH = "/sys/kernel/mm/damon/admin/kdamonds/0/contexts/0/monitoring_attrs/intervals/sample_us"


def anchor() -> None:
    """Do a fixed piece of work, half of it Python's and half numpy's, as the harness's own is."""
    total = 0
    for i in range(120_000):
        total += i & 3
    values = np.arange(16_000, dtype=np.uint64)
    fractions = np.arange(16_000, dtype=np.float64) / 16_000
    for _ in range(120):
        values = values + (fractions * 4096.0).astype(np.uint64)


def cpu_seconds(act: Callable[[], object]) -> float:
    began = time.process_time()
    act()
    return time.process_time() - began


def operations() -> dict[str, Callable[[], object]]:
    """Return what is measured, by name; each is warm and takes about as long as the anchor, or longer."""
    few, many = (bench_reference.monitored(1 << 40, regions) for regions in (100, 1000))
    step_ns = bench_reference.SAMPLE_US * 1000
    tree = bench_reference.monitored(1 << 30, 100).tree
    layout = bench_metrics.layout_of(load.load("stairs"))
    recording = bench_metrics.made_up(layout, 20, 1000)
    truth = PatternTruth(load.load("stairs"), layout, 1, go_ns=0)

    def analyse() -> object:
        aggregations = windows(recording)
        return compare(recording, aggregations, spans=spans_of(truth, aggregations, recording))

    def write() -> None:
        for _ in range(5_000):
            tree.write(PATH, "5000")

    return {
        "reference.ticks.100": lambda: few.clock.run_for(1_000 * step_ns),
        "reference.ticks.1000": lambda: many.clock.run_for(500 * step_ns),
        "reference.replicas": lambda: bench_reference.replicas_seconds(200, 100, 2),
        "reference.tree.read": lambda: [tree.read(PATH) for _ in range(20_000)],
        "reference.tree.write": write,
        "judge.pieces": analyse,
    }


def measure(rounds: int) -> dict[str, CostSamples]:
    """Return the samples of all operations, taken in turn, so that a disturbance hits all alike."""
    values: dict[str, list[float]] = {}
    acts = operations()
    for act in acts.values():
        act()
    for _ in range(rounds):
        before = cpu_seconds(anchor)
        for name, act in acts.items():
            used, after = cpu_seconds(act), cpu_seconds(anchor)
            values.setdefault(name, []).append(2 * used / (before + after))
            before = after
    return {name: CostSamples(name, UNIT, tuple(v)) for name, v in values.items()}


def record(rounds: int) -> BenchRecord:
    provenance: dict[str, object] = {
        "kernel": f"damon-tests {bundle.commit()[:12]}",
        "asked_for": "harness",
        "architecture": platform.machine(),
        "config": f"Python {platform.python_version()}, numpy {np.__version__}",
        "clock": "CPU time over an anchor's",
        "bench": PROTOCOL,
        "damon_tests": __version__,
        "commit": bundle.commit(),
        "recorded_at": time.time_ns() // NSEC_PER_SEC,
    }
    metrics = measure(rounds)
    return BenchRecord(provenance, metrics, list(metrics))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--history", type=Path, metavar="FILE", help="append it to this file (SQLite), too")
    options = parser.parse_args()
    try:
        run_directory.check(options.output)
        taken = record(options.rounds)
        bench_record.save(taken, options.output)
        if options.history is not None:
            bench_history.add(options.history, taken)
    except DamonTestsError as error:
        print(f"record_harness: {error}", file=sys.stderr)
        return error.exit_code
    for m in taken.metrics.values():
        print(f"{m.metric:24} {m.median:10.3f} {m.unit}  ({min(m.values):.3f} to {max(m.values):.3f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())

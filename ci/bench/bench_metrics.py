#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Measure the metrics of a recording of an hour, 36,000 snapshots of 1,000 regions, and its truth.

    bench_metrics.py [--snapshots N] [--regions N] [--pattern NAME] [--json]

The recording is synthetic: regions with random edges, counts and ages over a pattern's memory. No regions
merge, which is the most work. The truth is the pattern's. Goal: 30 s and 1 GiB, of which the recording itself
takes 0.8. Times are CPU times, so that other work on the machine hardly changes them.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from damon_tests.damon.records import Recording, Snapshot
from damon_tests.judge.monitoring import metrics
from damon_tests.judge.monitoring.aggregation_windows import windows
from damon_tests.judge.monitoring.true_ages import age_error
from damon_tests.judge.monitoring.true_rates import busy_ranges, spans_of
from damon_tests.judge.monitoring.window_sums import WindowSums, summed
from damon_tests.patterns import load
from damon_tests.patterns.spec import Pattern
from damon_tests.ports import NSEC_PER_MSEC, page_size
from damon_tests.workload.pattern_truth import PatternTruth

SAMPLE_US, W = 5_000, 20
AGGR_NS = 100 * NSEC_PER_MSEC
BASE = 0x7F00_0000_0000
THRESHOLD = 0.5

Layout = Mapping[str, tuple[int, int]]


def layout_of(pattern: Pattern) -> Layout:
    at, layout = BASE, {}
    for region in pattern.regions:
        layout[region.name] = (at, at + region.size_bytes)
        at += region.size_bytes + pattern.gap_bytes
    return layout


def made_up(layout: Layout, snapshots: int, regions: int) -> Recording:
    rng = np.random.default_rng(1)
    pages = np.concatenate([np.arange(a, b, page_size()) for a, b in layout.values()])
    begins = np.searchsorted(pages, [a for a, _ in layout.values()])  # a DAMON region spans no gap
    recorded = []
    for number in range(snapshots):
        inner = rng.choice(len(pages) - 1, regions - len(begins), replace=False) + 1
        first = np.unique(np.concatenate([begins, inner]))
        last = np.append(first[1:], len(pages)) - 1
        recorded.append(
            Snapshot(
                time_ns=(number + 1) * AGGR_NS,
                target_idx=0,
                start=pages[first].astype(np.uint64),
                end=(pages[last] + page_size()).astype(np.uint64),
                nr_accesses=rng.integers(0, W + 1, len(first)).astype(np.uint32),
                age=rng.integers(0, 100, len(first)).astype(np.uint32),
                nr_regions=len(first),
            )
        )
    return Recording(
        source="damon_aggregated",
        operations="vaddr",
        sample_us=SAMPLE_US,
        aggr_us=SAMPLE_US * W,
        snapshots=tuple(recorded),
        started_ns=0,
        stopped_ns=(snapshots + 1) * AGGR_NS,
    )


@dataclass
class Stopwatch:
    """Measure the CPU time of each step, in s, by name."""

    seconds: dict[str, float] = field(default_factory=dict)

    def time(self, name: str, how: Callable[[], Any]) -> Any:
        began = time.process_time()
        result = how()
        self.seconds[name] = time.process_time() - began
        return result


def time_metrics(watch: Stopwatch, c: WindowSums, recording: Recording) -> None:
    change_ns = len(recording.snapshots) // 2 * AGGR_NS
    for name in ("precision", "recall", "boundary_error", "working_set", "true_working_set"):
        watch.time(name, partial(getattr(metrics, name), c, THRESHOLD))
    for name in ("rate_bias", "rate_error_of_accessed", "region_count", "coverage"):
        watch.time(name, partial(getattr(metrics, name), c))
    for name in ("aggregation_interval", "aggregation_jitter"):
        watch.time(name, partial(getattr(metrics, name), recording))
    watch.time("working_set_error", lambda: metrics.working_set_error(c, THRESHOLD, 95))
    watch.time("detection_latency", lambda: metrics.detection_latency(c, change_ns, THRESHOLD))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--snapshots", type=int, default=36_000)
    parser.add_argument("--regions", type=int, default=1_000)
    parser.add_argument("--pattern", default="stairs", help="of the library, or a file (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print only all times, as JSON")
    arguments = parser.parse_args()
    pattern = load.load(arguments.pattern)
    layout = layout_of(pattern)
    recording = made_up(layout, arguments.snapshots, arguments.regions)
    truth = PatternTruth(pattern, layout, 1, go_ns=0)
    watch, every = Stopwatch(), windows(recording)
    watch.time("touched at all", lambda: busy_ranges(truth, 0, recording.stopped_ns))
    spans = watch.time("true rates of each window", lambda: spans_of(truth, every, recording))
    c = watch.time("pieces and their sums", lambda: summed(recording, every, spans, (THRESHOLD,)))
    time_metrics(watch, c, recording)
    watch.time("age_error", lambda: age_error(recording, spans=spans))
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if arguments.json:
        print(json.dumps(watch.seconds | {"peak_mib": peak_mib}))
        return
    print(f"{len(every)} snapshots, {c.nr_regions.sum():,} regions ({pattern.name})")
    for name, seconds in watch.seconds.items():
        print(f"  {name:28} {seconds:8.3f} s")
    print(f"  {'all':28} {sum(watch.seconds.values()):8.3f} s; peak memory {peak_mib:,.0f} MiB")


if __name__ == "__main__":
    main()

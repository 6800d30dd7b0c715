#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Write suites/overhead/budgets.yaml from benchmark runs: each limit is the measured value plus headroom.

Usage: ci/bench/budgets_from_runs.py RUN… > suites/overhead/budgets.yaml

RUN: output directories of ``damon-tests bench --kernel debian:SERIES --output RUN``. Of several runs of one
series, metrics of a later one replace those of an earlier one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from damon_tests.judge.cost.samples import EXACT_UNITS, CostSamples
from damon_tests.ports import DamonTestsError, UsageError
from damon_tests.report import bench_record
from damon_tests.report.bench_record import BenchRecord

HEADROOM = 0.02
"""A change that makes an operation cost 3 % more fails; compilers of a series differ by less than 2 %."""

LEAST = 0.5
"""Instructions of the cheapest functions that are listed: what is not in the list is new, or grew to more."""
WITH_FUNCTIONS = ("check.", "aggregation.")
"""Costs of every sample and aggregation, which list their functions."""

REASONS = {
    "check": "kdamond checks every region in every sampling interval: nearly all that it executes",
    "aggregation": "every region is merged, aged and split in every aggregation",
    "update": "vaddr looks for the mappings of its processes again and again",
    "tracepoint": "recording writes every region of every aggregation",
    "action": "a scheme applies its action to each region, with DAMON's locks held",
    "command": "a user waits for a command, and kdamond works for it instead of monitoring",
    "read": "snapshots are read by users all the time",
    "memory": "regions are DAMON's memory",
    "scheme": "every region is compared with every scheme's access pattern in every pass",
    "filter": "a scheme asks its filters about every region, or every page of it",
    "quota": "a scheme with a quota gives every region a priority in every pass",
    "tuner": "DAMON tunes while it works",
}
FIXED = (
    {
        "metric": "wakeups",
        "unit": "per second",
        "reason": "kdamond sleeps from one sample to the next, and has nothing else to wake up for",
        "source": "one sample in 5 ms is 200 a second; a window may begin and end within an interval",
        "limit": 205,
    },
    {
        "metric": "slowdown.workload",
        "unit": "fraction",
        "reason": "a process that is monitored at the defaults does not become slower than users accept",
        "source": "published reports of damon-tests/perf: +1.38% in the median of 696",
        "limit": 0.02,
    },
)
"""Limits that are no measured values of a series."""


def main(names: Sequence[str]) -> int:
    if not names:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        records = by_series([bench_record.load(Path(name)) for name in names])
    except DamonTestsError as error:
        print(f"budgets_from_runs: {error}", file=sys.stderr)
        return error.exit_code
    print("# SPDX-License-Identifier: GPL-2.0")
    print("# What DAMON's operations may cost, by kernel series: made by ci/bench/budgets_from_runs.py.")
    print("budgets:")
    for metric in dict.fromkeys(m for record in records for m in record.metrics):
        rows = [(r, r.metrics[metric]) for r in records if metric in r.metrics]
        if rows[0][1].unit in EXACT_UNITS:
            _print_budget(metric, rows[0][1].unit, REASONS[metric.partition(".")[0]])
            for record, samples in rows:
                _print_limit(record, samples)
    for fixed in FIXED:
        _print_budget(fixed["metric"], fixed["unit"], fixed["reason"])
        print(f"      - {{series: any, limit: {fixed['limit']}, source: {json.dumps(fixed['source'])}}}")
    return 0


def by_series(records: Sequence[BenchRecord]) -> list[BenchRecord]:
    """Return one record for each series, with the metrics of all its runs.

    Raises UsageError for runs of different kernels of a series: the source of a limit names one.
    """
    joined: dict[object, BenchRecord] = {}
    for record in records:
        series = record.provenance["series"]
        first = joined.setdefault(series, record)
        if first.provenance["release"] != record.provenance["release"]:
            both = f"{first.provenance['release']} and {record.provenance['release']}"
            raise UsageError(f"runs of {series} are of {both}: take them again on one of them")
        first.metrics |= record.metrics
    return list(joined.values())


def _print_budget(metric: object, unit: object, reason: object) -> None:
    print(f"  - metric: {metric}")
    print(f"    unit: {unit}")
    print(f"    reason: {json.dumps(reason)}")
    print("    limits:")


def _print_limit(record: BenchRecord, samples: CostSamples) -> None:
    series, release = record.provenance["series"], record.provenance["release"]
    largest, count = max(samples.values), len(samples.values)
    source = f"at most {largest:.1f} in {count} windows on {release}, plus {HEADROOM:.0%}"
    limit = round(largest * (1 + HEADROOM), 1)
    print(f"      - series: {json.dumps(series)}")
    print(f"        limit: {limit}")
    print(f"        source: {json.dumps(source)}")
    functions = dearest(samples)
    if functions and samples.metric.startswith(WITH_FUNCTIONS):
        print(f"        functions: {json.dumps(functions)}")


def dearest(samples: CostSamples) -> str:
    """Return the dearest functions with their instructions, as ``judge.cost.budget`` reads them."""
    if samples.tree is None or not samples.tree.instructions:
        return ""
    scale = samples.values[-1] / samples.tree.instructions
    counts = {name: own * scale for name, own in samples.tree.functions().items()}
    return ", ".join(f"{name} {own:.1f}" for name, own in counts.items() if own >= LEAST)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

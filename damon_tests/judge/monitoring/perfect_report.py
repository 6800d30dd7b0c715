# SPDX-License-Identifier: GPL-2.0
"""What a DAMON would report that sees every access of every page: the truth as a recording."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from damon_tests.damon.records import Recording, Snapshot
from damon_tests.judge.monitoring.aggregation_windows import Window, windows
from damon_tests.judge.monitoring.report_vs_truth import byte_ranges
from damon_tests.judge.monitoring.true_rates import spans_of
from damon_tests.ports import Truth
from damon_tests.ports.arrays import F64, I64
from damon_tests.ports.ranges import joined, without


def perfect_report(recording: Recording, truth: Truth, target_idx: int = 0) -> Recording:
    """Return a recording like ``recording``, of the same memory at the same times, that shows the truth.

    Its regions are runs of pages with the same access rate; nr_accesses is the rate times W, rounded. Ages
    are not in it. Raises nothing; a recording without aggregations gives one without.
    """
    chosen = windows(recording, target_idx)
    spans = spans_of(truth, chosen, recording)
    snapshots = [_snapshot(recording, window, spans.of_window(i)) for i, window in enumerate(chosen)]
    return replace(recording, snapshots=tuple(snapshots), missing=("age",), lost_events=0)


def _snapshot(recording: Recording, window: Window, truth: tuple[I64, I64, F64]) -> Snapshot:
    starts, ends = byte_ranges(window.snapshot, recording.addr_unit)
    covered = joined(zip(starts.tolist(), ends.tolist(), strict=True))
    accessed = [
        (max(start, low), min(end, high), rate)
        for start, end, rate in zip(*(column.tolist() for column in truth), strict=True)
        for low, high in covered
        if start < high and low < end
    ]
    idle = without(covered, [(start, end) for start, end, _ in accessed])
    rows = sorted([*accessed, *((start, end, 0.0) for start, end in idle)])
    unit, w = recording.addr_unit, recording.samples_per_aggr
    return Snapshot(
        time_ns=window.snapshot.time_ns,
        target_idx=window.snapshot.target_idx,
        start=np.array([row[0] // unit for row in rows], np.uint64),
        end=np.array([row[1] // unit for row in rows], np.uint64),
        nr_accesses=np.array([round(row[2] * w) for row in rows], np.uint32),
        age=np.zeros(len(rows), np.uint32),
        nr_regions=len(rows),
    )

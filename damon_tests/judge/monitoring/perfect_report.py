# SPDX-License-Identifier: GPL-2.0
"""What a DAMON would report that sees every access of every page: the truth as a recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from damon_tests.damon.records import Recording, Snapshot
from damon_tests.judge.monitoring.aggregation_windows import Window, windows
from damon_tests.judge.monitoring.report_vs_truth import byte_ranges
from damon_tests.judge.monitoring.true_rates import spans_of
from damon_tests.ports import Truth
from damon_tests.ports.arrays import F64, I64
from damon_tests.ports.ranges import joined, without

Row = tuple[int, int, int, int]
"""start and end in bytes, nr_accesses, age"""

_NO_ROWS: tuple[Row, ...] = ()


def perfect_report(recording: Recording, truth: Truth, target_idx: int = 0) -> Recording:
    """Return a recording like ``recording``, of the same memory at the same times, that shows the truth.

    Its regions are runs of pages with the same access rate and age; nr_accesses is the rate times W, rounded.
    An age is counted as DAMON does (I33): since accesses began, ended, or changed by more than W / 10. Raises
    nothing; a recording without aggregations gives one without.
    """
    chosen = windows(recording, target_idx)
    spans = spans_of(truth, chosen, recording)
    snapshots, rows = [], _NO_ROWS
    for number, window in enumerate(chosen):
        counted = _counted(recording, window, spans.of_window(number))
        rows = tuple(_aged(counted, rows, recording.samples_per_aggr // 10))
        snapshots.append(_snapshot(rows, window, recording.addr_unit))
    missing = tuple(column for column in recording.missing if column not in ("age", "nr_accesses"))
    return replace(recording, snapshots=tuple(snapshots), missing=missing, lost_events=0)


def _counted(recording: Recording, window: Window, truth: tuple[I64, I64, F64]) -> list[tuple[int, int, int]]:
    """Return start, end and nr_accesses of all memory that the window's regions cover, ascending."""
    starts, ends = byte_ranges(window.snapshot, recording.addr_unit)
    covered = joined(zip(starts.tolist(), ends.tolist(), strict=True))
    w = recording.samples_per_aggr
    accessed = [
        (max(start, low), min(end, high), round(rate * w))
        for start, end, rate in zip(*(column.tolist() for column in truth), strict=True)
        for low, high in covered
        if start < high and low < end
    ]
    idle = without(covered, [(start, end) for start, end, _ in accessed])
    return sorted([*accessed, *((start, end, 0) for start, end in idle)])


def _aged(counted: Sequence[tuple[int, int, int]], before: Sequence[Row], most_change: int) -> list[Row]:
    """Return ``counted`` with ages; cut where the last window's rows (``before``) end, joined where equal."""
    rows: list[Row] = []
    first = 0
    for start, end, count in counted:
        while first < len(before) and before[first][1] <= start:
            first += 1
        at, number = start, first
        while at < end:
            until, age = end, 0
            if number < len(before) and before[number][0] < end:
                old_start, old_end, old_count, old_age = before[number]
                if at < old_start:  # this part was not monitored before
                    until = old_start
                else:
                    until, age = min(end, old_end), _next_age(old_age, count, old_count, most_change)
                    number += 1
            if rows and rows[-1][1:] == (at, count, age):
                rows[-1] = (rows[-1][0], until, count, age)
            else:
                rows.append((at, until, count, age))
            at = until
    return rows


def _next_age(age: int, count: int, old_count: int, most_change: int) -> int:
    restarts = (count == 0) != (old_count == 0) or abs(count - old_count) > most_change
    return 0 if restarts else age + 1


def _snapshot(rows: Sequence[Row], window: Window, unit: int) -> Snapshot:
    return Snapshot(
        time_ns=window.snapshot.time_ns,
        target_idx=window.snapshot.target_idx,
        start=np.array([row[0] // unit for row in rows], np.uint64),
        end=np.array([row[1] // unit for row in rows], np.uint64),
        nr_accesses=np.array([row[2] for row in rows], np.uint32),
        age=np.array([row[3] for row in rows], np.uint32),
        nr_regions=len(rows),
    )

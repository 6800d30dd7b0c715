# SPDX-License-Identifier: GPL-2.0
"""Compute the true age of memory, and the error of the reported age."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from damon_tests.damon.recording_file import TruthSpans
from damon_tests.damon.records import Recording
from damon_tests.judge.monitoring.aggregation_windows import Window, windows
from damon_tests.judge.monitoring.report_vs_truth import byte_ranges, in_order, look_up
from damon_tests.judge.monitoring.true_rates import spans_of
from damon_tests.judge.verdict import Measurement
from damon_tests.ports import Bools, Truth
from damon_tests.ports.arrays import F64, I64, distinct


def age_error(
    recording: Recording,
    truth: Truth | None = None,
    *,
    spans: TruthSpans | None = None,
    chosen: Sequence[Window] | None = None,
    target_idx: int = 0,
    tolerance: float = 0.1,
    stalls: Sequence[tuple[int, int]] = (),
) -> Measurement:
    """Return the mean absolute error of age, weighted by bytes.

    The true age of a page in window k is the number of consecutive windows, up to k, in which its access rate
    stayed within ``tolerance`` (a fraction of W; DAMON's own threshold is a tenth of the hottest region's
    rate) of the rate of the window before and on the same side of zero; 0 in the window of a change. In the
    first window rates are compared with 0, as DAMON does. Per window: Σ size·|age - true age| / Σ size over
    covered memory.

    Unit: aggregations, mean over the chosen windows (None: all; each must be one of
    ``windows(recording, target_idx)``). ``spans`` belong to all windows, not only to the chosen. ``stalls``
    as in ``judge.monitoring.true_rates.spans_of``.
    """
    every = windows(recording, target_idx)
    if spans is None:
        if truth is None:
            raise TypeError("age_error() needs truth or spans")
        spans = spans_of(truth, every, recording, stalls)
    wanted = {w.index for w in (every if chosen is None else chosen)}
    true = true_ages(spans, tolerance)
    errors = [
        _error(recording, window, true.grid, age, idle_age)
        for window, (age, idle_age) in zip(every, true.of_windows(), strict=True)
        if window.index in wanted
    ]
    value = float(np.mean(errors)) if errors else float("nan")
    return Measurement("age error", value, "aggregations", tuple(errors))


@dataclass(frozen=True, eq=False)
class TrueAges:
    """The true age of memory in each window of ``spans``, as ``age_error`` defines it.

    ``grid``: ascending bounds of cells, bytes.
    """

    spans: TruthSpans
    grid: I64
    tolerance: float

    def of_windows(self) -> Iterator[tuple[F64, float]]:
        """Return for each window the age of each cell, and that of memory outside the grid, in
        aggregations."""
        cells = max(0, len(self.grid) - 1)
        age, rate = np.zeros(cells), np.zeros(cells)
        for i in range(len(self.spans)):
            now = look_up(self.grid[:-1], *self.spans.of_window(i))[1]
            age = np.where(_changed(now, rate, self.tolerance), 0.0, age + 1)
            rate = now
            yield age, float(i + 1)


def true_ages(spans: TruthSpans, tolerance: float = 0.1) -> TrueAges:
    """Return the true ages of all windows of ``spans``."""
    return TrueAges(spans, distinct(spans.start, spans.end), tolerance)


def _changed(now: F64, before: F64, tolerance: float) -> Bools:
    changed: Bools = (np.abs(now - before) > tolerance + 1e-9) | ((now > 0) != (before > 0))
    return changed


def _error(recording: Recording, window: Window, grid: I64, age: F64, idle_age: float) -> float:
    """Return the byte-weighted mean |reported - true| age of one window over what its regions cover."""
    snapshot = in_order(window.snapshot)
    start, end = byte_ranges(snapshot, recording.addr_unit)
    edges = distinct(start, end, grid)
    low, size = edges[:-1], np.diff(edges)
    covered, reported = look_up(low, start, end, snapshot.age.astype(np.float64))
    inside, true = look_up(low, grid[:-1], grid[1:], age)
    # Memory outside the grid was never touched: it has been idle since the recording began.
    true = np.where(inside, true, idle_age)
    weight = size * covered
    total = float(weight.sum())
    return float((weight * np.abs(reported - true)).sum()) / total if total else 0.0

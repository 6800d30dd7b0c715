# SPDX-License-Identifier: GPL-2.0
"""A recording and its truth on a grid of time and address, for pictures.

Time is on the columns: each is one or more whole windows. Addresses are on the rows: each is an equal part
of a *stretch* (``report.stretches``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from damon_tests.damon.recording_file import TruthSpans
from damon_tests.damon.records import Recording, Snapshot
from damon_tests.judge.monitoring.aggregation_windows import Window, windows
from damon_tests.judge.monitoring.report_vs_truth import byte_ranges
from damon_tests.judge.monitoring.true_rates import spans_of
from damon_tests.ports import Truth
from damon_tests.ports.arrays import F64, I64
from damon_tests.ports.ranges import Range
from damon_tests.report.stretches import Stretch, busy_ranges, everything, stretches


@dataclass(frozen=True, eq=False)
class Series:
    """Figures over time, one a column, shape (columns,), means of the column's windows.

    ``seen_bytes``: memory of the shown regions in which DAMON reported any access; ``true_bytes``: that was
    really touched (None without truth). ``nr_regions``: of the whole target. ``error``: Σ bytes·|seen - true|
    / Σ bytes·true over the shown memory: 0 is perfect, 1 is what reporting nothing would score, NaN where
    nothing was touched (None without truth).
    """

    seen_bytes: F64
    nr_regions: F64
    true_bytes: F64 | None = None
    error: F64 | None = None


@dataclass(frozen=True, eq=False)
class Raster:
    """``seen``, ``true``: access rates (of W samples) 0..1, shape (rows, columns), row 0 at the lowest
    address; NaN in ``seen`` where no region covered any of the memory; ``true`` is None when nothing is
    known. ``edges_s``: column bounds, seconds since recording began, shape (columns + 1,). An empty
    recording has no columns. ``titles``: what ``seen`` and ``true`` are."""

    seen: F64
    true: F64 | None
    edges_s: F64
    stretches: tuple[Stretch, ...]
    series: Series
    titles: tuple[str, str] = ("DAMON saw", "really happened")

    @property
    def of_two(self) -> bool:
        """Return whether ``true`` is another recording, not the truth."""
        return self.titles != Raster.titles

    @property
    def difference(self) -> F64 | None:
        """seen - true; memory that no region covered counts as seen 0."""
        return None if self.true is None else np.nan_to_num(self.seen) - self.true


def raster(
    recording: Recording,
    layout: Mapping[str, Range],
    truth: Truth | None = None,
    *,
    spans: TruthSpans | None = None,
    rows: int = 64,
    columns: int = 200,
    target_idx: int = 0,
) -> Raster:
    """Give ``truth``, or ``spans`` of all windows of the target, or neither. ``layout``: byte ranges to show,
    by name; when empty, everything that was covered or touched."""
    chosen = windows(recording, target_idx)
    if spans is None and truth is not None:
        spans = spans_of(truth, chosen, recording)
    shown = dict(layout) or everything(recording, spans, target_idx)
    parts = stretches(shown, busy_ranges(recording, spans, target_idx), rows)
    low, high = _rows(parts)
    # Every column the same number of windows, else the time axis would lie.
    per_column = -(-len(chosen) // columns) or 1
    groups = [np.arange(i, min(i + per_column, len(chosen))) for i in range(0, len(chosen), per_column)]
    reported = np.empty((len(low), len(groups)))
    true = None if spans is None else np.empty((len(low), len(groups)))
    for column, group in enumerate(groups):
        of_group = [_seen(recording, chosen[i].snapshot, low, high) for i in group]
        reported[:, column] = _mean(of_group)
        if true is not None and spans is not None:
            rates = [_integral(*spans.of_window(int(i)), low, high) for i in group]
            true[:, column] = np.mean(rates, axis=0) / np.maximum(high - low, 1)
    times = [chosen[g[0]].t0_ns for g in groups] + [chosen[g[-1]].t1_ns for g in groups[-1:]]
    edges = (np.array(times, np.float64) - recording.started_ns) / 1e9
    ranges = sorted(shown.values())
    series = _series(recording, ranges, chosen, groups, spans)
    if true is not None:
        series = _with_error(series, reported, true, (high - low).astype(np.float64))
    return Raster(reported, true, edges, parts, series)


def _rows(parts: Sequence[Stretch]) -> tuple[I64, I64]:
    """Return the lower and upper bound of each row, bytes."""
    bounds = [np.linspace(s.start, s.end, s.row1 - s.row0 + 1).astype(np.int64) for s in parts]
    empty = np.empty(0, np.int64)
    low: I64 = np.concatenate([empty, *(b[:-1] for b in bounds)])
    high: I64 = np.concatenate([empty, *(b[1:] for b in bounds)])
    return low, high


def _seen(recording: Recording, snapshot: Snapshot, low: I64, high: I64) -> F64:
    """Return the reported access rate of one window on all rows."""
    start, end = byte_ranges(snapshot, recording.addr_unit)
    rate = snapshot.nr_accesses / max(1, recording.samples_per_aggr)
    covered = _integral(start, end, np.ones(len(start)), low, high)
    total = _integral(start, end, rate, low, high)
    mean: F64 = np.divide(total, covered, out=np.full(len(low), np.nan), where=covered > 0)
    return mean


def _series(
    recording: Recording,
    ranges: Sequence[Range],
    chosen: Sequence[Window],
    groups: Sequence[I64],
    spans: TruthSpans | None,
) -> Series:
    low = np.array([a for a, _ in ranges], np.int64)
    high = np.array([b for _, b in ranges], np.int64)
    seen_bytes, true_bytes = np.zeros(len(chosen)), np.zeros(len(chosen))
    for i, window in enumerate(chosen):
        start, end = byte_ranges(window.snapshot, recording.addr_unit)
        seen_bytes[i] = _integral(
            start, end, (window.snapshot.nr_accesses > 0).astype(float), low, high
        ).sum()
        if spans is not None:
            a, b, rate = spans.of_window(i)
            true_bytes[i] = _integral(a, b, np.ones(len(rate)), low, high).sum()
    counts = np.array([len(w.snapshot) for w in chosen], np.float64)
    means = [np.array([v[g].mean() for g in groups], np.float64) for v in (seen_bytes, counts, true_bytes)]
    return Series(means[0], means[1], None if spans is None else means[2])


def _with_error(series: Series, reported: F64, true: F64, size: F64) -> Series:
    wrong = size @ np.abs(np.nan_to_num(reported) - true)
    mass = size @ true
    error = np.divide(wrong, mass, out=np.full(len(mass), np.nan), where=mass > 0)
    return Series(series.seen_bytes, series.nr_regions, series.true_bytes, error)


def _integral(start: I64, end: I64, rate: F64, low: I64, high: I64) -> F64:
    """Return the sum of rate * bytes over each [low, high)."""
    if len(start) == 0:
        return np.zeros(len(low))
    before = np.append(0.0, np.cumsum((end - start) * rate))

    def below(at: I64) -> F64:
        i = np.searchsorted(start, at, side="right") - 1
        inside = np.clip(at - start[i], 0, (end - start)[i]) * rate[i]
        sums: F64 = np.where(i >= 0, before[i] + inside, 0.0)
        return sums

    total: F64 = below(high) - below(low)
    # Differences of large sums leave crumbs, which would be drawn.
    clean: F64 = np.where(np.abs(total) < 1e-9 * (high - low), 0.0, total)
    return clean


def _mean(columns: Sequence[F64]) -> F64:
    """Return the mean that leaves NaN out, NaN where nothing else is."""
    stack = np.array(columns)
    known = ~np.isnan(stack)
    count = known.sum(axis=0)
    total = np.where(known, stack, 0).sum(axis=0)
    mean: F64 = np.divide(total, count, out=np.full(stack.shape[1], np.nan), where=count > 0)
    return mean

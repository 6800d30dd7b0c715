# SPDX-License-Identifier: GPL-2.0
"""A recording and its truth on a grid of time and address, for pictures.

Time is on the columns: each is one or more whole windows. Addresses are on the rows: each is an equal part
of a *stretch*. Gaps between the pattern's regions have no row; idle parts of a large region are stretches
of their own with few rows, so that a megabyte that is hot in a 64 GiB reservation can be seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from damon_tests.damon.recording_file import F64, I64, TruthSpans
from damon_tests.damon.records import Recording, Snapshot
from damon_tests.judge.compare import byte_ranges
from damon_tests.judge.spans import spans_of
from damon_tests.judge.windows import windows
from damon_tests.ports import PAGE_SIZE, Truth

Range = tuple[int, int]

# A busy part smaller than this share of its region gets a stretch of its own.
_SMALL_SHARE = 0.25
_MOST_STRETCHES = 12


@dataclass(frozen=True)
class Stretch:
    """Rows [row0, row1) show bytes [start, end) of region ``name`` (which begins at ``origin``)."""

    name: str
    origin: int
    start: int
    end: int
    row0: int
    row1: int


@dataclass(frozen=True, eq=False)
class Raster:
    """``seen`` and ``true``: access rates 0..1, shape (rows, columns), row 0 at the lowest address; NaN in
    ``seen`` where no region covered any of the memory. ``edges_s``: column bounds, seconds since recording
    began, shape (columns + 1,). Undefined for an empty recording (no columns)."""

    seen: F64
    true: F64
    edges_s: F64
    stretches: tuple[Stretch, ...]

    @property
    def difference(self) -> F64:
        """seen - true; memory that no region covered counts as seen 0."""
        return np.nan_to_num(self.seen) - self.true


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
    """Give ``truth``, or ``spans`` of all windows of the target. ``layout``: byte ranges to show, by name;
    when empty, everything that was covered or touched."""
    chosen = windows(recording, target_idx)
    if spans is None:
        if truth is None:
            raise TypeError("raster() needs truth or spans")
        spans = spans_of(truth, chosen, recording.sample_us)
    shown = dict(layout) or _everything(recording, spans, target_idx)
    stretches = _stretches(shown, spans, rows)
    bounds = [np.linspace(s.start, s.end, s.row1 - s.row0 + 1).astype(np.int64) for s in stretches]
    low = np.concatenate([np.empty(0, np.int64), *(b[:-1] for b in bounds)])
    high = np.concatenate([np.empty(0, np.int64), *(b[1:] for b in bounds)])
    groups = np.array_split(np.arange(len(chosen)), min(columns, len(chosen))) if chosen else []
    seen, true = np.empty((len(low), len(groups))), np.empty((len(low), len(groups)))
    for column, group in enumerate(groups):
        columns_of = [_column(recording, spans, int(i), chosen[i].snapshot, low, high) for i in group]
        seen[:, column] = _mean([s for s, _ in columns_of])
        true[:, column] = np.mean([t for _, t in columns_of], axis=0)
    times = [chosen[g[0]].t0_ns for g in groups] + [chosen[g[-1]].t1_ns for g in groups[-1:]]
    edges = (np.array(times, np.float64) - recording.started_ns) / 1e9
    return Raster(seen, true, edges, stretches)


def _column(
    recording: Recording, spans: TruthSpans, index: int, snapshot: Snapshot, low: I64, high: I64
) -> tuple[F64, F64]:
    """(seen, true) rates of one window on all rows."""
    start, end = byte_ranges(snapshot, recording.addr_unit)
    rate = snapshot.nr_accesses / max(1, recording.samples_per_aggr)
    covered = _integral(start, end, np.ones(len(start)), low, high)
    seen = _integral(start, end, rate, low, high)
    size = np.maximum(high - low, 1)
    seen = np.divide(seen, covered, out=np.full(len(low), np.nan), where=covered > 0)
    return seen, _integral(*spans.of_window(index), low, high) / size


def _integral(start: I64, end: I64, rate: F64, low: I64, high: I64) -> F64:
    """Sum of rate * bytes over each [low, high)."""
    if len(start) == 0:
        return np.zeros(len(low))
    before = np.append(0.0, np.cumsum((end - start) * rate))

    def below(at: I64) -> F64:
        i = np.searchsorted(start, at, side="right") - 1
        inside = np.clip(at - start[i], 0, (end - start)[i]) * rate[i]
        found: F64 = np.where(i >= 0, before[i] + inside, 0.0)
        return found

    total: F64 = below(high) - below(low)
    return total


def _mean(columns: list[F64]) -> F64:
    """Mean that leaves NaN out, NaN where nothing else is."""
    stack = np.array(columns)
    known = ~np.isnan(stack)
    count = known.sum(axis=0)
    total = np.where(known, stack, 0).sum(axis=0)
    mean: F64 = np.divide(total, count, out=np.full(stack.shape[1], np.nan), where=count > 0)
    return mean


# --- address axis ----------------------------------------------------------------------------


def _everything(recording: Recording, spans: TruthSpans, target_idx: int) -> dict[str, Range]:
    """Covered or touched memory, merged where it touches, named by address."""
    parts = list(zip(spans.start.tolist(), spans.end.tolist(), strict=True))
    for snapshot in recording.of_target(target_idx):
        start, end = byte_ranges(snapshot, recording.addr_unit)
        parts += zip(start.tolist(), end.tolist(), strict=True)
    return {f"{a:#x}": (a, b) for a, b in _merge(parts, 0)}


def _stretches(layout: Mapping[str, Range], spans: TruthSpans, rows: int) -> tuple[Stretch, ...]:
    busy = _merge(list(zip(spans.start.tolist(), spans.end.tolist(), strict=True)), 0)
    pieces: list[tuple[str, int, int, int, float]] = []
    for name, (start, end) in sorted(layout.items(), key=lambda item: item[1]):
        for a, b, weight in _pieces(start, end, busy):
            pieces.append((name, start, a, b, weight))
    total = sum(weight for *_, weight in pieces) or 1.0
    made, row = [], 0
    for name, origin, a, b, weight in pieces:
        height = max(2, round(rows * weight / total))
        height = max(1, min(height, (b - a) // PAGE_SIZE))
        made.append(Stretch(name, origin, a, b, row, row + height))
        row += height
    return tuple(made)


def _pieces(start: int, end: int, busy: Sequence[Range]) -> list[tuple[int, int, float]]:
    """(start, end, weight) of a region: whole, or cut around busy parts too small to be seen else."""
    size = end - start
    inside = [(max(a, start), min(b, end)) for a, b in busy if a < end and b > start]
    used = sum(b - a for a, b in inside)
    if not inside or used > _SMALL_SHARE * size:
        return [(start, end, float(size) ** 0.5)]
    # Some idle memory around each busy part is shown at its scale: boundaries matter most.
    margin = max(PAGE_SIZE, used // len(inside) // 2)
    wide = [(max(start, a - margin), min(end, b + margin)) for a, b in inside]
    grown = _merge(wide, 0)
    gap = margin
    while len(grown) > _MOST_STRETCHES:
        gap *= 2
        grown = _merge(wide, gap)
    pieces, at = [], start
    full = float(size) ** 0.5
    for a, b in grown:
        if a > at:
            pieces.append((at, a, full * 0.1))
        pieces.append((a, b, full * 0.8 / len(grown)))
        at = b
    if at < end:
        pieces.append((at, end, full * 0.1))
    return pieces


def _merge(ranges: Sequence[Range], gap: int) -> list[Range]:
    """Sorted union of ranges, closing gaps of at most ``gap`` bytes."""
    merged: list[Range] = []
    for start, end in sorted(ranges):
        if merged and start <= merged[-1][1] + gap:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged

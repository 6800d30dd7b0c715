# SPDX-License-Identifier: GPL-2.0
"""Compare the report with the truth, in pieces of memory on which both are constant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from damon_tests.damon.recording_file import TruthSpans
from damon_tests.damon.records import Recording, Snapshot
from damon_tests.judge.monitoring.aggregation_windows import Window
from damon_tests.judge.monitoring.true_rates import spans_of
from damon_tests.ports import Bools, Truth
from damon_tests.ports.arrays import F64, I64, distinct

_I64_MAX = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class Comparison:
    """Pieces of all judged windows in one table, ascending by (window, address); shapes (p,).

    ``window``: index into ``windows``. ``start``, ``size``: bytes. ``seen``: nr_accesses / W of the region
    that covers the piece, 0 where none does. ``true``: the true access rate, 0 where nothing was touched.
    ``covered``: whether a region covers it. Memory that is neither covered nor touched has no piece.
    ``nr_regions``: regions of each window's snapshot, shape (windows,).
    """

    windows: tuple[Window, ...]
    window: npt.NDArray[np.int32]
    start: I64
    size: I64
    seen: F64
    true: F64
    covered: Bools
    nr_regions: I64

    def per_window(self, values: npt.NDArray[np.generic]) -> F64:
        """Return the sum of ``values`` (p,) over the pieces of each window, float64 (windows,)."""
        sums = np.bincount(self.window, weights=values.astype(np.float64), minlength=len(self.windows))
        return sums.astype(np.float64, copy=False)


def compare(
    recording: Recording,
    chosen: Sequence[Window],
    truth: Truth | None = None,
    spans: TruthSpans | None = None,
    stalls: Sequence[tuple[int, int]] = (),
) -> Comparison:
    """Cut the chosen windows of ``recording`` into pieces.

    A wrong DAMON's regions may have any order; of regions that overlap, which invariants report, only the one
    that begins last counts. ``spans``: element i for ``chosen[i]``, as
    ``judge.monitoring.true_rates.spans_of`` makes them; or ``truth`` and the ``stalls`` of its target. Raises
    TypeError without either.
    """
    if spans is None:
        if truth is None:
            raise TypeError("compare() needs truth or spans")
        spans = spans_of(truth, chosen, recording, stalls)
    w = max(1, recording.samples_per_aggr)
    parts = [
        _pieces(in_order(win.snapshot), spans.of_window(i), recording.addr_unit)
        for i, win in enumerate(chosen)
    ]
    counts = [len(part[0]) for part in parts]
    return Comparison(
        windows=tuple(chosen),
        window=np.repeat(np.arange(len(chosen), dtype=np.int32), counts),
        start=np.concatenate([np.empty(0, np.int64), *(p[0] for p in parts)]),
        size=np.concatenate([np.empty(0, np.int64), *(p[1] for p in parts)]),
        seen=np.concatenate([np.empty(0), *(p[2] for p in parts)]) / w,
        true=np.concatenate([np.empty(0), *(p[3] for p in parts)]),
        covered=np.concatenate([np.empty(0, np.bool_), *(p[4] for p in parts)]),
        nr_regions=np.array([len(win.snapshot) for win in chosen], dtype=np.int64),
    )


def in_order(snapshot: Snapshot) -> Snapshot:
    """Return the snapshot with its regions ascending by address, as a correct DAMON reports them."""
    if not len(snapshot) or (snapshot.start[1:] >= snapshot.start[:-1]).all():
        return snapshot
    order = np.argsort(snapshot.start, kind="stable")
    names = ("start", "end", "nr_accesses", "age", "probe_hits", "sz_filter_passed")
    columns = {n: getattr(snapshot, n) for n in names}
    return replace(snapshot, **{n: c[order] for n, c in columns.items() if c is not None})


def byte_ranges(snapshot: Snapshot, addr_unit: int) -> tuple[I64, I64]:
    """Return the region bounds in bytes as signed integers, (start, end), clipped to 2^63 - 1."""
    limit = np.uint64(_I64_MAX // addr_unit)
    start, end = (np.minimum(a, limit).astype(np.int64) * addr_unit for a in (snapshot.start, snapshot.end))
    return start, end


def _pieces(
    snapshot: Snapshot, truth: tuple[I64, I64, F64], addr_unit: int
) -> tuple[I64, I64, F64, F64, Bools]:
    """Return (start, size, nr_accesses, true rate, covered) of one window."""
    start, end = byte_ranges(snapshot, addr_unit)
    edges = distinct(start, end, truth[0], truth[1])
    if len(edges) < 2:
        empty = np.empty(0, np.int64)
        return empty, empty, empty.astype(np.float64), empty.astype(np.float64), empty.astype(np.bool_)
    low = edges[:-1]
    covered, nr = look_up(low, start, end, snapshot.nr_accesses.astype(np.float64))
    touched, rate = look_up(low, *truth)
    keep = covered | touched
    return low[keep], np.diff(edges)[keep], nr[keep], rate[keep], covered[keep]


def look_up(at: I64, start: I64, end: I64, value: F64) -> tuple[Bools, F64]:
    """Return whether each address is inside one of the ascending ranges, and that range's value (else 0)."""
    if len(start) == 0:
        return np.zeros(len(at), np.bool_), np.zeros(len(at))
    i = np.searchsorted(start, at, side="right") - 1
    inside = (i >= 0) & (at < end[i])
    return inside, np.where(inside, value[i], 0.0)

# SPDX-License-Identifier: GPL-2.0
"""Sums over the pieces of each window, which is all that the metrics need of a comparison.

The pieces of an hour do not fit into memory beside its recording; their sums do, so ``summed`` compares
block by block of windows, and keeps only these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import TypeVar

import numpy as np

from damon_tests.damon.recording_file import TruthSpans
from damon_tests.damon.records import Recording
from damon_tests.judge.monitoring.aggregation_windows import Window
from damon_tests.judge.monitoring.judged_windows import clip
from damon_tests.judge.monitoring.report_vs_truth import Comparison, compare
from damon_tests.ports import Bools
from damon_tests.ports.arrays import F64, I64
from damon_tests.ports.ranges import Range

_BLOCK_REGIONS = 1 << 17
"""Comparing so many regions at once takes 20 MB, and no longer than all at once."""


@dataclass(frozen=True, eq=False)
class HotBytes:
    """Hot bytes of each window, float64 (windows,): in report and truth, only reported, only in truth."""

    both: F64
    only_seen: F64
    only_true: F64

    @property
    def seen(self) -> F64:
        """Return the bytes reported hot."""
        return self.both + self.only_seen

    @property
    def true(self) -> F64:
        """Return the bytes truly hot."""
        return self.both + self.only_true


@dataclass(frozen=True, eq=False)
class RateSums:
    """Per window, float64 (windows,): Σ size, Σ size·(seen - true), Σ size·|seen - true|, Σ size·true."""

    size: F64
    error: F64
    absolute_error: F64
    true: F64


@dataclass(frozen=True, eq=False)
class TouchedBytes:
    """Bytes of each window, float64 (windows,): touched, and those of them that a region covers."""

    all: F64
    covered: F64


@dataclass(frozen=True, eq=False)
class WindowSums:
    """The sums of the judged windows.

    ``nr_regions``: regions of each window's snapshot. ``hot`` and ``edge_distances``: by threshold, those
    that were asked for.
    """

    windows: tuple[Window, ...]
    nr_regions: I64
    rates: RateSums
    touched: TouchedBytes
    hot: Mapping[float, HotBytes]
    edge_distances: Mapping[float, F64]


Sums = Comparison | WindowSums
"""What metrics are computed from: the pieces themselves, or the sums of a long recording."""


def summed(
    recording: Recording,
    chosen: Sequence[Window],
    spans: TruthSpans,
    thresholds: Sequence[float],
    ranges: Sequence[Range] | None = None,
) -> WindowSums:
    """Return the sums of the chosen windows, in memory that does not grow with the recording.

    ``spans``: element i for ``chosen[i]``. ``thresholds``: those of hot memory that metrics will ask for.
    ``ranges``: sorted, disjoint byte ranges; only memory in them counts. None: all memory.
    """
    parts = []
    for first, last in _blocks(chosen) or [(0, 0)]:
        c = compare(recording, chosen[first:last], spans=_part(spans, first, last))
        parts.append(_sums(c if ranges is None else clip(c, ranges), thresholds))
    return WindowSums(
        windows=tuple(chosen),
        nr_regions=np.concatenate([part.nr_regions for part in parts]),
        rates=_joined([part.rates for part in parts]),
        touched=_joined([part.touched for part in parts]),
        hot={t: _joined([part.hot[t] for part in parts]) for t in thresholds},
        edge_distances={t: np.concatenate([part.edge_distances[t] for part in parts]) for t in thresholds},
    )


def _blocks(chosen: Sequence[Window]) -> list[tuple[int, int]]:
    """Return index ranges of windows in a row, of about _BLOCK_REGIONS regions each."""
    before = np.cumsum([0, *(len(window.snapshot) for window in chosen)])[:-1]
    first = np.flatnonzero(np.diff(before // _BLOCK_REGIONS, prepend=-1)).tolist()
    return list(pairwise([*first, len(chosen)]))


def _part(spans: TruthSpans, first: int, last: int) -> TruthSpans:
    return replace(
        spans,
        t0_ns=spans.t0_ns[first:last],
        t1_ns=spans.t1_ns[first:last],
        offset=spans.offset[first : last + 1],
    )


def _sums(c: Comparison, thresholds: Sequence[float]) -> WindowSums:
    return WindowSums(
        windows=c.windows,
        nr_regions=c.nr_regions,
        rates=rate_sums(c),
        touched=touched_bytes(c),
        hot={threshold: hot_bytes(c, threshold) for threshold in thresholds},
        edge_distances={threshold: edge_distances(c, threshold) for threshold in thresholds},
    )


_Part = TypeVar("_Part", HotBytes, RateSums, TouchedBytes)


def _joined(parts: Sequence[_Part]) -> _Part:
    """Return the sums of all blocks in a row."""
    names = [field.name for field in fields(parts[0])]
    return replace(parts[0], **{n: np.concatenate([getattr(part, n) for part in parts]) for n in names})


# --- one sum -------------------------------------------------------------------------------------


def hot(rate: F64, threshold: float) -> Bools:
    """Return rate >= threshold, and rate > 0 for a threshold of 0."""
    # nr / W and k / n are rounded: an exact hit of the threshold must not be lost to the last bit.
    return rate >= threshold - 1e-9 if threshold > 0 else rate > 0


def hot_bytes(c: Sums, threshold: float) -> HotBytes:
    """Return the hot bytes of each window. Raises KeyError for a threshold that was not summed."""
    if isinstance(c, WindowSums):
        return c.hot[threshold]
    seen, true = hot(c.seen, threshold), hot(c.true, threshold)
    return HotBytes(
        both=c.per_window(c.size * (seen & true)),
        only_seen=c.per_window(c.size * (seen & ~true)),
        only_true=c.per_window(c.size * (~seen & true)),
    )


def rate_sums(c: Sums) -> RateSums:
    """Return the sums of access rates and of their errors."""
    if isinstance(c, WindowSums):
        return c.rates
    error = c.seen - c.true
    return RateSums(
        size=c.per_window(c.size),
        error=c.per_window(c.size * error),
        absolute_error=c.per_window(c.size * np.abs(error)),
        true=c.per_window(c.size * c.true),
    )


def touched_bytes(c: Sums) -> TouchedBytes:
    """Return the touched bytes of each window."""
    if isinstance(c, WindowSums):
        return c.touched
    touched = c.true > 0
    return TouchedBytes(c.per_window(c.size * touched), c.per_window(c.size * (touched & c.covered)))


def edge_distances(c: Sums, threshold: float) -> F64:
    """Return for each window the mean distance, in bytes, of the edges of truly hot intervals to the nearest
    edge of an interval reported hot; the truly hot bytes when nothing was reported hot; NaN when nothing
    was hot. Shape (windows,). Raises KeyError for a threshold that was not summed.
    """
    if isinstance(c, WindowSums):
        return c.edge_distances[threshold]
    true_w, true_at = _edges(c, hot(c.true, threshold))
    seen_w, seen_at = _edges(c, hot(c.seen, threshold))
    distance = _nearest(true_w, true_at, seen_w, seen_at, hot_bytes(c, threshold).true)
    n = len(c.windows)
    edges = np.bincount(true_w, minlength=n)
    total = np.bincount(true_w, weights=distance, minlength=n)
    mean: F64 = np.divide(total, edges, out=np.full(n, np.nan), where=edges > 0)
    return mean


def _edges(c: Comparison, chosen: Bools) -> tuple[I64, I64]:
    """Return (window, address) of the edges of maximal runs of chosen, adjacent pieces; ascending."""
    if len(c.start) == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    end = c.start + c.size
    joined = np.zeros(len(c.start) + 1, np.bool_)
    joined[1:-1] = (c.window[1:] == c.window[:-1]) & (c.start[1:] == end[:-1]) & chosen[1:] & chosen[:-1]
    first = chosen & ~joined[:-1]
    last = chosen & ~joined[1:]
    window = np.concatenate([c.window[first], c.window[last]]).astype(np.int64)
    address = np.concatenate([c.start[first], end[last]])
    order = np.lexsort((address, window))
    return window[order], address[order]


def _nearest(true_w: I64, true_at: I64, seen_w: I64, seen_at: I64, otherwise: F64) -> F64:
    """Return the distance of each true edge to the nearest reported edge of its window, else
    ``otherwise[window]``."""
    distance = otherwise[true_w]
    for w, mine in _of_each(true_w):
        a, b = np.searchsorted(seen_w, [w, w + 1])
        if a == b:
            continue
        at, edges = true_at[mine], seen_at[a:b]
        right = np.clip(np.searchsorted(edges, at), 0, len(edges) - 1)
        left = np.clip(right - 1, 0, None)
        distance[mine] = np.minimum(np.abs(edges[left] - at), np.abs(edges[right] - at))
    return distance


def _of_each(window: I64) -> Iterator[tuple[int, slice]]:
    """Return each window of an ascending array, and where its elements are."""
    first = np.flatnonzero(np.diff(window, prepend=-1)).tolist()
    for a, b in pairwise([*first, len(window)]):
        yield int(window[a]), slice(a, b)

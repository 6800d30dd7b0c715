# SPDX-License-Identifier: GPL-2.0
"""Compute the true access rate in each window, as spans of equal rate.

One query over the whole time finds the pages that were touched at all, and only these are queried in each
window. So a 1 TiB reservation of which a megabyte is used costs as much as a megabyte.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from damon_tests.damon.recording_file import TruthSpans
from damon_tests.damon.records import Recording
from damon_tests.judge.monitoring.aggregation_windows import Window
from damon_tests.ports import NSEC_PER_USEC, Pages, Truth, page_size
from damon_tests.ports.arrays import F64, I64
from damon_tests.ports.ranges import Range, joined, page_ranges
from damon_tests.ports.truth import Reaching

Spans = tuple[I64, I64, F64]

_CHUNK_PAGES = 1 << 20


def busy_ranges(truth: Truth, t0_ns: int, t1_ns: int) -> tuple[Range, ...]:
    """Return the byte ranges [start, end) of all pages touched within [t0_ns, t1_ns), sorted."""
    busy: list[Range] = []
    for pages in _chunks(truth.reach() if isinstance(truth, Reaching) else truth.ranges()):
        busy += page_ranges(pages[truth.touched(pages, t0_ns, t1_ns)])
    return tuple(joined(busy))


def rasterise(truth: Truth, windows: Sequence[tuple[int, int]], sample_us: int) -> TruthSpans:
    """Return the spans of equal access rate for each window (t0_ns, t1_ns).

    The rate is ``truth.rate`` with the sampling interval: what nr_accesses / W of a perfect DAMON
    would be. A window shorter than the sampling interval has rate 1 where it was touched.
    """
    sample_ns = max(1, sample_us * NSEC_PER_USEC)
    return _encode(windows, [_compress(p, _rate(truth, p, w, sample_ns)) for p, w in _asked(truth, windows)])


def touched_spans(truth: Truth, windows: Sequence[tuple[int, int]]) -> TruthSpans:
    """Return the spans touched at least once in each window (t0_ns, t1_ns), with rate 1."""
    return _encode(
        windows, [_compress(p, truth.touched(p, *w).astype(float)) for p, w in _asked(truth, windows)]
    )


def spans_of(
    truth: Truth, chosen: Sequence[Window], recording: Recording, stalls: Sequence[Range] = ()
) -> TruthSpans:
    """Return the spans of equal access rate for windows of ``recording``; element i belongs to ``chosen[i]``.

    A window has W samples however long it took: on a slow machine each sample covers more than the requested
    sampling interval, in which more is touched. So the rate is the fraction of the W real intervals.
    ``stalls``: sorted times in which the machine may have stopped (a target's disturbances); the excess of a
    window over the requested length is placed there first, because the kdamond did not sample then either.
    """
    return _rates(
        _Same(truth),
        truth.span_ns(),
        tuple((w.t0_ns, w.t1_ns) for w in chosen),
        tuple(tuple(sampling_steps(w, recording, stalls)) for w in chosen),
        max(1, recording.samples_per_aggr),
    )


def spans_at(truth: Truth, chosen: Sequence[Window], interval_ns: int) -> TruthSpans:
    """Return the spans like ``spans_of``, but with rates as the fraction of intervals of ``interval_ns``,
    however often DAMON sampled: the same truth for recordings with different sampling intervals."""
    times = [(w.t0_ns, w.t1_ns) for w in chosen]
    parts = [
        _compress(pages, _rate(truth, pages, window, interval_ns)) for pages, window in _asked(truth, times)
    ]
    return _encode(times, parts)


class _Same:
    """A key of ``_rates`` that is equal only for the same truth object."""

    def __init__(self, truth: Truth) -> None:
        self.truth = truth

    def __hash__(self) -> int:
        return id(self.truth)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.truth is other.truth


@lru_cache(maxsize=4)
def _rates(
    same: _Same,
    known_ns: Range,
    times: tuple[Range, ...],
    steps: tuple[tuple[tuple[int, int, float], ...], ...],
    samples: int,
) -> TruthSpans:
    """Return the rates; cached for the replicas of one attempt. ``known_ns``: a truth may still grow."""
    parts = []
    for (pages, _), stretches in zip(_asked(same.truth, times), steps, strict=True):
        rate = np.zeros(len(pages))
        for t0_ns, t1_ns, count in stretches:
            rate += count * _rate(same.truth, pages, (t0_ns, t1_ns), max(1, int((t1_ns - t0_ns) / count)))
        parts.append(_compress(pages, rate / samples))
    return _encode(times, parts)


def sampling_steps(
    window: Window, recording: Recording, stalls: Sequence[Range] = ()
) -> list[tuple[int, int, float]]:
    """Return ascending stretches (from_ns, to_ns, number of the window's W samples in it).

    A window of the requested length is one stretch. From a longer one the excess is cut out within the
    stalls; the samples are equally far apart in all stretches. The first window is less certain, because the
    kdamond starts some time after the recording: its W samples end it.
    """
    w = max(1, recording.samples_per_aggr)
    asked_ns = w * max(1, recording.sample_us) * NSEC_PER_USEC
    excess = window.duration_ns - asked_ns
    if window.index == 0 and excess > 0:
        return [(window.t1_ns - asked_ns, window.t1_ns, float(w))]
    if excess <= 0 or recording.intervals:
        return [(window.t0_ns, window.t1_ns, float(w))]
    kept, at = [], window.t0_ns
    for start, end in stalls:
        low, high = max(start, at), min(end, window.t1_ns, max(start, at) + excess)
        if low < high:
            excess -= high - low
            kept.append((at, low))
            at = high
    kept = [(a, b) for a, b in [*kept, (at, window.t1_ns)] if a < b]
    total = sum(b - a for a, b in kept)
    return [(a, b, w * (b - a) / total) for a, b in kept]


def _encode(windows: Sequence[tuple[int, int]], parts: Sequence[Spans]) -> TruthSpans:
    lengths = np.array([len(start) for start, _, _ in parts], dtype=np.int64)
    empty = np.empty(0, np.int64)
    return TruthSpans(
        t0_ns=np.array([w[0] for w in windows], dtype=np.int64),
        t1_ns=np.array([w[1] for w in windows], dtype=np.int64),
        offset=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
        start=np.concatenate([empty, *(start for start, _, _ in parts)]),
        end=np.concatenate([empty, *(end for _, end, _ in parts)]),
        rate=np.concatenate([empty.astype(np.float64), *(rate for _, _, rate in parts)]),
    )


def _asked(truth: Truth, windows: Sequence[Range]) -> Iterator[tuple[Pages, Range]]:
    if not windows:
        return
    busy = busy_ranges(truth, min(t0 for t0, _ in windows), max(t1 for _, t1 in windows))
    pages = np.concatenate([np.empty(0, np.int64), *_chunks(busy)])
    for window in windows:
        yield pages, window


def _rate(truth: Truth, pages: Pages, window: Range, sample_ns: int) -> F64:
    """Return the fraction of the window's sampling intervals that touched each page, float64 (pages,)."""
    t0_ns, t1_ns = window
    if t1_ns - t0_ns < sample_ns:
        return truth.touched(pages, t0_ns, t1_ns).astype(np.float64)
    return np.asarray(truth.rate(pages, t0_ns, t1_ns, sample_ns), dtype=np.float64)


def _compress(pages: Pages, rate: F64) -> Spans:
    """Return (start, end, rate) of runs of neighbouring pages with the same rate above 0."""
    touched = rate > 0
    p, r = pages[touched], rate[touched]
    if len(p) == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64)
    new = np.ones(len(p), dtype=np.bool_)
    new[1:] = (np.diff(p) != 1) | (np.diff(r) != 0)
    first = np.flatnonzero(new)
    last = np.append(first[1:], len(p)) - 1
    return p[first] * page_size(), (p[last] + 1) * page_size(), r[first]


def _chunks(ranges: Sequence[Range]) -> Iterator[Pages]:
    """Yield the page numbers of the byte ranges, in bounded pieces."""
    for start, end in ranges:
        last = -(-end // page_size())
        for page in range(start // page_size(), last, _CHUNK_PAGES):
            yield np.arange(page, min(page + _CHUNK_PAGES, last), dtype=np.int64)

# SPDX-License-Identifier: GPL-2.0
"""Whether schemes choose the right memory of a real program, by what it really accesses afterwards."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from damon_tests.damon.trace import BeforeApplyEvent
from damon_tests.judge.monitoring.true_rates import busy_ranges
from damon_tests.judge.verdict import Measurement
from damon_tests.ports import Pages, Truth, page_size
from damon_tests.ports.arrays import F64


def needed_again(truth: Truth, tried: Sequence[BeforeApplyEvent], within_ns: int) -> Measurement:
    """Return which share of the tried pages the program accesses within ``within_ns``: refaults, if the
    action was to reclaim them.

    Only pages count that the program accesses at any recorded time. ``samples``: one share for each tried
    region that has such a page, and whose ``within_ns`` are recorded. NaN without any.
    """
    known, end_ns = _accessed(truth), truth.span_ns()[1]
    shares, counts = [], []
    for event in tried:
        low, high = np.searchsorted(known, [event.start // page_size(), -(-event.end // page_size())])
        if low == high or event.time_ns + within_ns > end_ns:
            continue
        again = truth.touched(known[low:high], event.time_ns, event.time_ns + within_ns)
        shares.append(float(again.mean()))
        counts.append(int(high - low))
    return _weighted("tried memory that is accessed again", shares, counts)


def needed_by_chance(truth: Truth, tried: Sequence[BeforeApplyEvent], within_ns: int) -> Measurement:
    """Return the same share of all memory at the same times: what a scheme gets that chooses at random."""
    known, end_ns = _accessed(truth), truth.span_ns()[1]
    times = sorted({event.time_ns for event in tried if event.time_ns + within_ns <= end_ns})
    shares = (
        [float(truth.touched(known, time, time + within_ns).mean()) for time in times] if len(known) else []
    )
    return _weighted("all memory that is accessed again", shares, [1] * len(shares))


def _weighted(name: str, shares: Sequence[float], counts: Sequence[int]) -> Measurement:
    values: F64 = np.asarray(shares, np.float64)
    value = float(np.average(values, weights=counts)) if len(values) else float("nan")
    return Measurement(name, value, "fraction", tuple(shares))


def _accessed(truth: Truth) -> Pages:
    """Return the pages that are accessed at any recorded time, ascending."""
    ranges = busy_ranges(truth, *truth.span_ns())
    pages = [np.arange(start // page_size(), end // page_size()) for start, end in ranges]
    return np.concatenate([np.empty(0, np.int64), *pages])

# SPDX-License-Identifier: GPL-2.0
"""A truth that needs no workload: nothing is touched, or ranges are touched periodically."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from damon_tests.ports import Bools, Pages, page_size
from damon_tests.ports.arrays import F64, I64
from damon_tests.ports.ranges import Range

FOREVER_NS = 1 << 62


@dataclass(frozen=True)
class PeriodicAccess:
    """Every page of the bytes [start, end) is touched once in ``period_ns``, all at the same moment."""

    start: int
    end: int
    period_ns: int


class PeriodicTruth:
    """``ports.Truth``: ``memory`` are the byte ranges that exist, ``accesses`` what is touched in them."""

    def __init__(self, memory: Sequence[Range] = (), accesses: Sequence[PeriodicAccess] = ()) -> None:
        self._memory = tuple(sorted(memory))
        self._accesses = tuple(accesses)

    def ranges(self) -> Sequence[Range]:
        return self._memory

    def span_ns(self) -> tuple[int, int]:
        return 0, FOREVER_NS

    def touched(self, pages: Pages, t0_ns: int, t1_ns: int) -> Bools:
        every = np.full(len(pages), t0_ns, np.int64), np.full(len(pages), t1_ns, np.int64)
        return self.touched_each(pages, *every)

    def touched_each(self, pages: Pages, t0_ns: I64, t1_ns: I64) -> Bools:
        hits = np.zeros(len(pages), np.bool_)
        for access in self._accesses:
            inside = (pages >= access.start // page_size()) & (pages < access.end // page_size())
            # An access at each multiple of the period: is one of them in [t0, t1)?
            hits |= inside & (-(-t0_ns // access.period_ns) * access.period_ns < t1_ns)
        return hits

    def rate(self, pages: Pages, t0_ns: int, t1_ns: int, window_ns: int) -> F64:
        starts = range(t0_ns, t1_ns - window_ns + 1, window_ns)
        if not starts:
            raise ValueError(f"[{t0_ns}, {t1_ns}) is shorter than one window of {window_ns} ns")
        counts = sum(self.touched(pages, start, start + window_ns).astype(np.int64) for start in starts)
        return np.asarray(counts / len(starts), np.float64)

# SPDX-License-Identifier: GPL-2.0
"""An upper bound of the accesses to a target's memory, including memory outside its pattern's regions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from damon_tests.ports import Bools, Pages, Truth, page_size
from damon_tests.ports.arrays import I64
from damon_tests.ports.ranges import joined, without
from damon_tests.ports.truth import Reaching


class MaybeTouched:
    """``truth``, with every other mapping of the process counted as touched all the time.

    A real process has text, heap, stack and the engine's own data, whose accesses are not recorded. Only
    memory outside them is known to be idle, so this is the upper bound of what was touched. Unmapped
    memory stays untouched.

    ``stalls``: times [from, to) within which the target was disturbed. The exact times of touches in a stall
    are unknown: each counts as touched during the whole stall.
    """

    def __init__(
        self, truth: Truth, vmas: Sequence[tuple[int, int]], stalls: Sequence[tuple[int, int]] = ()
    ) -> None:
        self._truth = truth
        merged = np.array(joined(stalls), dtype=np.int64).reshape(-1, 2)
        self._stall_starts, self._stall_ends = merged[:, 0], merged[:, 1]
        self._ranges = joined([*truth.ranges(), *vmas])
        self._known = np.array(truth.ranges(), dtype=np.int64).reshape(-1, 2) // page_size()
        self._mapped = np.array(self._ranges, dtype=np.int64).reshape(-1, 2) // page_size()

    def ranges(self) -> Sequence[tuple[int, int]]:
        return self._ranges

    def reach(self) -> Sequence[tuple[int, int]]:
        """Return the byte ranges that may have been touched: ``ranges`` without what is known to be idle."""
        known = self._truth.reach() if isinstance(self._truth, Reaching) else self._truth.ranges()
        return joined([*known, *without(self._ranges, self._truth.ranges())])

    def span_ns(self) -> tuple[int, int]:
        return self._truth.span_ns()

    def touched(self, pages: Pages, t0_ns: int, t1_ns: int) -> Bools:
        t0, t1 = self._widened(np.array([t0_ns], np.int64), np.array([t1_ns], np.int64))
        return self._truth.touched(pages, int(t0[0]), int(t1[0])) | self._unknown(pages)

    def touched_each(self, pages: Pages, t0_ns: I64, t1_ns: I64) -> Bools:
        return self._truth.touched_each(pages, *self._widened(t0_ns, t1_ns)) | self._unknown(pages)

    def rate(self, pages: Pages, t0_ns: int, t1_ns: int, window_ns: int) -> npt.NDArray[Any]:
        rate = self._truth.rate(pages, t0_ns, t1_ns, window_ns)
        return np.where(self._unknown(pages), 1.0, rate)

    def _widened(self, t0_ns: I64, t1_ns: I64) -> tuple[I64, I64]:
        """Return the times [t0, t1), widened by all stalls that they overlap."""
        if not len(self._stall_starts):
            return t0_ns, t1_ns
        at = np.maximum(np.searchsorted(self._stall_starts, t0_ns, side="right") - 1, 0)
        inside = (self._stall_starts[at] <= t0_ns) & (t0_ns < self._stall_ends[at])
        t0 = np.where(inside, self._stall_starts[at], t0_ns)
        at = np.maximum(np.searchsorted(self._stall_starts, t1_ns, side="left") - 1, 0)
        inside = (self._stall_starts[at] < t1_ns) & (t1_ns < self._stall_ends[at])
        return t0, np.where(inside, self._stall_ends[at], t1_ns)

    def _unknown(self, pages: Pages) -> Bools:
        return _in(pages, self._mapped) & ~_in(pages, self._known)


def _in(pages: Pages, ranges: npt.NDArray[np.int64]) -> Bools:
    """Return whether each page lies in one of the sorted, disjoint page ranges (k, 2)."""
    if len(ranges) == 0:
        return np.zeros(len(pages), np.bool_)
    at = np.searchsorted(ranges[:, 0], pages, side="right") - 1
    inside: Bools = (at >= 0) & (pages < ranges[np.maximum(at, 0), 1])
    return inside

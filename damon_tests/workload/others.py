# SPDX-License-Identifier: GPL-2.0
"""What is not known: memory of a target beside its pattern's regions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from damon_tests.ports import PAGE_SIZE, Bools, Pages, Truth


class MaybeTouched:
    """``truth``, with every other mapping of the process as touched all the time.

    A real process has text, heap, stack and the engine's own books, about whose accesses nobody
    keeps a record. "Nobody touched this" may only be said of memory outside them: this is
    the upper bound of what was touched. Unmapped memory stays untouched.
    """

    def __init__(self, truth: Truth, vmas: Sequence[tuple[int, int]]) -> None:
        self._truth = truth
        self._ranges = _union([*truth.ranges(), *vmas])
        self._known = np.array(truth.ranges(), dtype=np.int64).reshape(-1, 2) // PAGE_SIZE
        self._mapped = np.array(self._ranges, dtype=np.int64).reshape(-1, 2) // PAGE_SIZE

    def ranges(self) -> Sequence[tuple[int, int]]:
        return self._ranges

    def span_ns(self) -> tuple[int, int]:
        return self._truth.span_ns()

    def touched(self, pages: Pages, t0_ns: int, t1_ns: int) -> Bools:
        return self._truth.touched(pages, t0_ns, t1_ns) | self._unknown(pages)

    def touched_each(self, pages: Pages, t0_ns: npt.NDArray[np.int64], t1_ns: npt.NDArray[np.int64]) -> Bools:
        return self._truth.touched_each(pages, t0_ns, t1_ns) | self._unknown(pages)

    def rate(self, pages: Pages, t0_ns: int, t1_ns: int, window_ns: int) -> npt.NDArray[Any]:
        rate = self._truth.rate(pages, t0_ns, t1_ns, window_ns)
        return np.where(self._unknown(pages), 1.0, rate)

    def _unknown(self, pages: Pages) -> Bools:
        return _in(pages, self._mapped) & ~_in(pages, self._known)


def _in(pages: Pages, ranges: npt.NDArray[np.int64]) -> Bools:
    """Whether each page lies in one of the sorted, disjoint page ranges (k, 2)."""
    if len(ranges) == 0:
        return np.zeros(len(pages), np.bool_)
    at = np.searchsorted(ranges[:, 0], pages, side="right") - 1
    inside: Bools = (at >= 0) & (pages < ranges[np.maximum(at, 0), 1])
    return inside


def _union(ranges: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)

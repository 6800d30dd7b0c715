# SPDX-License-Identifier: GPL-2.0
"""Accesses as the accessed bits of huge pages show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from damon_tests.ports import PAGE_SIZE, Bools, Pages, Truth

PAGES_PER_HUGE = (2 << 20) // PAGE_SIZE


class HugePages:
    """``truth``, with one accessed bit for each 2 MiB block that lies wholly in one of ``ranges``.

    A page of such a block counts as touched when any page of the block was. ``ranges``: byte ranges
    [start, end) that are mapped with huge pages, sorted; a caller knows them from
    /proc/PID/smaps, or asked for them.
    """

    def __init__(self, truth: Truth, ranges: Sequence[tuple[int, int]]) -> None:
        self._truth = truth
        size = PAGES_PER_HUGE * PAGE_SIZE
        self._first = np.array([-(-start // size) for start, _ in ranges], dtype=np.int64)
        self._end = np.array([end // size for _, end in ranges], dtype=np.int64)

    def ranges(self) -> Sequence[tuple[int, int]]:
        return self._truth.ranges()

    def span_ns(self) -> tuple[int, int]:
        return self._truth.span_ns()

    def _is_huge(self, blocks: npt.NDArray[np.int64]) -> Bools:
        if not len(self._first):
            return np.zeros(len(blocks), np.bool_)
        at = np.searchsorted(self._first, blocks, side="right") - 1
        inside: Bools = (at >= 0) & (blocks < self._end[np.maximum(at, 0)])
        return inside

    def touched(self, pages: Pages, t0_ns: int, t1_ns: int) -> Bools:
        """See ``Truth.touched``."""
        touched: Bools = np.array(self._truth.touched(pages, t0_ns, t1_ns))
        blocks = pages // PAGES_PER_HUGE
        asked = np.flatnonzero(self._is_huge(blocks) & ~touched)
        if len(asked):
            unique, back = np.unique(blocks[asked], return_inverse=True)
            every = (unique[:, None] * PAGES_PER_HUGE + np.arange(PAGES_PER_HUGE)).ravel()
            hit: Bools = self._truth.touched(every, t0_ns, t1_ns).reshape(-1, PAGES_PER_HUGE)
            touched[asked] = np.logical_or.reduce(hit, axis=1)[back]
        return touched

    def touched_each(self, pages: Pages, t0_ns: npt.NDArray[np.int64], t1_ns: npt.NDArray[np.int64]) -> Bools:
        """See ``Truth.touched_each``."""
        touched: Bools = np.array(self._truth.touched_each(pages, t0_ns, t1_ns))
        blocks = pages // PAGES_PER_HUGE
        asked = np.flatnonzero(self._is_huge(blocks) & ~touched)
        if len(asked):
            every = (blocks[asked][:, None] * PAGES_PER_HUGE + np.arange(PAGES_PER_HUGE)).ravel()
            begins, ends = (np.repeat(t[asked], PAGES_PER_HUGE) for t in (t0_ns, t1_ns))
            hits = self._truth.touched_each(every, begins, ends)
            touched[asked] = hits.reshape(-1, PAGES_PER_HUGE).any(axis=1)
        return touched

    def rate(self, pages: Pages, t0_ns: int, t1_ns: int, window_ns: int) -> npt.NDArray[Any]:
        """See ``Truth.rate``; the rest of [t0, t1) that is shorter than a window is left out."""
        windows = (t1_ns - t0_ns) // window_ns
        if windows <= 0:
            raise ValueError(f"[{t0_ns}, {t1_ns}) is shorter than one window of {window_ns} ns")
        starts = range(t0_ns, t0_ns + windows * window_ns, window_ns)
        hits = sum(self.touched(pages, start, start + window_ns).astype(np.int64) for start in starts)
        return np.asarray(hits) / windows

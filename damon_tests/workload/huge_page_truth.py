# SPDX-License-Identifier: GPL-2.0
"""The truth as the accessed bits of huge pages show it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from damon_tests.ports import Bools, Pages, Truth, huge_page_size, pages_per_huge
from damon_tests.reference.machine.accessed_bits import AccessedBits


class HugePages(AccessedBits):
    """``truth``, with one accessed bit for each huge page that lies wholly in one of ``ranges``.

    A page of such a block counts as touched if any page of the block was touched. ``ranges``: sorted byte
    ranges [start, end) that are mapped with huge pages; the caller reads them from /proc/PID/smaps, or
    requested huge pages for them.
    """

    def __init__(self, truth: Truth, ranges: Sequence[tuple[int, int]]) -> None:
        super().__init__(truth, self._lie_in_ranges)
        self._whole = truth
        self._first = np.array([-(-start // huge_page_size()) for start, _ in ranges], dtype=np.int64)
        self._end = np.array([end // huge_page_size() for _, end in ranges], dtype=np.int64)

    def _lie_in_ranges(self, pages: Pages) -> Bools:
        if not len(self._first):
            return np.zeros(len(pages), np.bool_)
        blocks = pages // pages_per_huge()
        at = np.searchsorted(self._first, blocks, side="right") - 1
        inside: Bools = (at >= 0) & (blocks < self._end[np.maximum(at, 0)])
        return inside

    def ranges(self) -> Sequence[tuple[int, int]]:
        return self._whole.ranges()

    def span_ns(self) -> tuple[int, int]:
        return self._whole.span_ns()

    def rate(self, pages: Pages, t0_ns: int, t1_ns: int, window_ns: int) -> npt.NDArray[Any]:
        """See ``Truth.rate``; ignore the rest of [t0, t1) that is shorter than a window."""
        windows = (t1_ns - t0_ns) // window_ns
        if windows <= 0:
            raise ValueError(f"[{t0_ns}, {t1_ns}) is shorter than one window of {window_ns} ns")
        starts = range(t0_ns, t0_ns + windows * window_ns, window_ns)
        hits = sum(self.touched(pages, start, start + window_ns).astype(np.int64) for start in starts)
        return np.asarray(hits) / windows

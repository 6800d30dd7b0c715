# SPDX-License-Identifier: GPL-2.0
"""The truth of touched-page slices, in which the engine marks each touch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from damon_tests.ports import Bools, Pages
from damon_tests.ports.arrays import I64
from damon_tests.ports.truth import rate_in_windows


@dataclass(frozen=True)
class SliceWindow:
    """The pages that have bits in a slice: ``pages`` pages from page number ``first_page``, whose bits start
    at bit ``first_bit`` of the slice. The pattern never touches other pages of the region."""

    first_page: int
    pages: int
    first_bit: int


@dataclass(frozen=True, eq=False)
class Slices:
    """The slices of one worker: each is [start, end), in order, without gaps.

    ``starts_ns``, ``ends_ns``: int64 (n,). ``bitmaps``: uint8 (n, bytes), bit ``b`` of a slice is bit
    ``b % 8`` of byte ``b // 8``.
    """

    starts_ns: I64
    ends_ns: I64
    bitmaps: npt.NDArray[np.uint8]

    def overlapping(self, t0_ns: I64, t1_ns: I64) -> tuple[I64, I64]:
        """Return, for each time [t0, t1), the first slice that overlaps it, and the slice after the last."""
        first = np.searchsorted(self.ends_ns, t0_ns, side="right")
        return first, np.searchsorted(self.starts_ns, t1_ns)

    def marked(self, first: int, last: int, bits: I64) -> Bools:
        """Return which bits are set in any slice of [first, last). A target without accesses has none."""
        if first >= last or not self.bitmaps.shape[1]:
            return np.zeros(len(bits), dtype=np.bool_)
        row = np.bitwise_or.reduce(self.bitmaps[first:last], axis=0)
        set_bits: Bools = (row[bits >> 3] >> (bits & 7) & 1).astype(np.bool_)
        return set_bits


class SliceTruth:
    """``damon_tests.ports.Truth`` from touched-page bitmaps, of one or several workers.

    Workers end their slices independently; an answer about [t0, t1) is exact if slices end at t0 and t1.
    """

    def __init__(
        self, ranges: Sequence[tuple[int, int]], windows: Sequence[SliceWindow], workers: Sequence[Slices]
    ) -> None:
        self._ranges = tuple(sorted(ranges))
        self._windows = sorted(windows, key=lambda window: window.first_page)
        self.workers = tuple(workers)

    def ranges(self) -> Sequence[tuple[int, int]]:
        return self._ranges

    def span_ns(self) -> tuple[int, int]:
        """Return [go, the end of the slices that all workers have)."""
        if not all(len(slices.starts_ns) for slices in self.workers):
            return 0, 0
        start = min(int(slices.starts_ns[0]) for slices in self.workers)
        return start, min(int(slices.ends_ns[-1]) for slices in self.workers)

    def _bits(self, pages: Pages) -> tuple[Bools, I64]:
        """Return whether each page has a bit, and its number (0 without a bit)."""
        known = np.zeros(len(pages), dtype=np.bool_)
        bits = np.zeros(len(pages), dtype=np.int64)
        for window in self._windows:
            inside = (pages >= window.first_page) & (pages < window.first_page + window.pages)
            known |= inside
            bits[inside] = pages[inside] - window.first_page + window.first_bit
        return known, bits

    def touched(self, pages: Pages, t0_ns: int, t1_ns: int) -> Bools:
        """See ``Truth.touched``: in any slice that overlaps [t0, t1)."""
        known, bits = self._bits(pages)
        result = np.zeros(len(pages), dtype=np.bool_)
        for slices in self.workers:
            first, last = slices.overlapping(np.array([t0_ns]), np.array([t1_ns]))
            result |= slices.marked(int(first[0]), int(last[0]), bits)
        return result & known

    def touched_each(self, pages: Pages, t0_ns: I64, t1_ns: I64) -> Bools:
        """See ``Truth.touched_each``."""
        known, bits = self._bits(pages)
        result = np.zeros(len(pages), dtype=np.bool_)
        for slices in self.workers:
            spans = np.stack(slices.overlapping(t0_ns, t1_ns), axis=1)
            unique, which = np.unique(spans, axis=0, return_inverse=True)
            for number, (first, last) in enumerate(unique.tolist()):
                mine = which.reshape(-1) == number
                result[mine] |= slices.marked(first, last, bits[mine])
        return result & known

    def rate(self, pages: Pages, t0_ns: int, t1_ns: int, window_ns: int) -> npt.NDArray[np.float64]:
        """See ``Truth.rate``; ignore the rest of [t0, t1) that is shorter than a window."""
        return rate_in_windows(self, pages, t0_ns, t1_ns, window_ns)

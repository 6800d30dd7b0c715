# SPDX-License-Identifier: GPL-2.0
"""What was touched in physical memory, of pattern regions whose pages are all alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from damon_tests.ports import PAGE_SIZE, Bools, Pages, Truth

Range = tuple[int, int]


class UniformPhysicalTruth:
    """Physical frames of regions that are touched as a whole or not at all.

    ``layout`` are the regions' virtual byte ranges, ``frames`` the physical ones that hold them. Which frame
    holds which page is not known and need not be: a frame counts as touched in a time in which
    both the first and the last page of its region were.
    """

    def __init__(
        self, truth: Truth, layout: Mapping[str, Range], frames: Mapping[str, Sequence[Range]]
    ) -> None:
        self._truth = truth
        self._edges = {name: (s // PAGE_SIZE, e // PAGE_SIZE - 1) for name, (s, e) in layout.items()}
        self._frames = sorted((s, e, name) for name, ranges in frames.items() for s, e in ranges)

    def ranges(self) -> Sequence[Range]:
        return [(start, end) for start, end, _ in self._frames]

    def span_ns(self) -> Range:
        return self._truth.span_ns()

    def touched(self, pages: Pages, t0_ns: int, t1_ns: int) -> Bools:
        values = {n: self._truth.touched(self._of(n), t0_ns, t1_ns).all() for n in self._edges}
        found: Bools = self._spread(pages, values).astype(np.bool_)
        return found

    def touched_each(self, pages: Pages, t0_ns: npt.NDArray[np.int64], t1_ns: npt.NDArray[np.int64]) -> Bools:
        each = [self.touched(pages[i : i + 1], int(t0_ns[i]), int(t1_ns[i]))[0] for i in range(len(pages))]
        return np.array(each, dtype=np.bool_)

    def rate(self, pages: Pages, t0_ns: int, t1_ns: int, window_ns: int) -> npt.NDArray[Any]:
        values = {n: self._truth.rate(self._of(n), t0_ns, t1_ns, window_ns).min() for n in self._edges}
        return self._spread(pages, values)

    def _of(self, name: str) -> Pages:
        return np.array(self._edges[name], dtype=np.int64)

    def _spread(self, pages: Pages, values: Mapping[str, Any]) -> npt.NDArray[np.float64]:
        found = np.zeros(len(pages))
        for start, end, name in self._frames:
            found[(pages >= start // PAGE_SIZE) & (pages < end // PAGE_SIZE)] = values[name]
        return found

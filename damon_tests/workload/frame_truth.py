# SPDX-License-Identifier: GPL-2.0
"""The truth about physical memory: a process's truth, looked up by page frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from damon_tests.ports import Bools, Pages, Truth, page_size
from damon_tests.ports.arrays import I64
from damon_tests.ports.ranges import Range, page_ranges

UNKNOWN = -1


class FrameTruth:
    """``truth`` by physical address. ``frames``: the frame number of each page by region, in order, UNKNOWN
    where it is unknown; ``layout``: the regions' virtual byte ranges.

    Only accesses through this process's mappings are known; frames of other memory count as untouched
    (``workload.maybe_touched.MaybeTouched`` gives an upper bound).
    """

    def __init__(self, truth: Truth, layout: Mapping[str, Range], frames: Mapping[str, I64]) -> None:
        self._truth = truth
        known = [(frames[name], layout[name][0] // page_size()) for name in frames]
        frame = np.concatenate([np.zeros(0, np.int64), *(f for f, _ in known)])
        page = np.concatenate([np.zeros(0, np.int64), *(first + np.arange(len(f)) for f, first in known)])
        order = np.argsort(frame, kind="stable")
        order = order[frame[order] != UNKNOWN]
        self._frame, self._page = frame[order], page[order]
        self._ranges = frame_ranges(self._frame)

    def ranges(self) -> Sequence[Range]:
        return self._ranges

    def span_ns(self) -> Range:
        return self._truth.span_ns()

    def touched(self, pages: Pages, t0_ns: int, t1_ns: int) -> Bools:
        known, virtual = self._look_up(pages)
        touched = np.zeros(len(pages), np.bool_)
        touched[known] = self._truth.touched(virtual, t0_ns, t1_ns)
        return touched

    def touched_each(self, pages: Pages, t0_ns: I64, t1_ns: I64) -> Bools:
        known, virtual = self._look_up(pages)
        touched = np.zeros(len(pages), np.bool_)
        touched[known] = self._truth.touched_each(virtual, t0_ns[known], t1_ns[known])
        return touched

    def rate(self, pages: Pages, t0_ns: int, t1_ns: int, window_ns: int) -> npt.NDArray[Any]:
        known, virtual = self._look_up(pages)
        rates = np.zeros(len(pages))
        rates[known] = self._truth.rate(virtual, t0_ns, t1_ns, window_ns)
        return rates

    def _look_up(self, frames: Pages) -> tuple[Bools, Pages]:
        """Return which frames are known, and their virtual pages."""
        if not len(self._frame):
            return np.zeros(len(frames), np.bool_), np.zeros(0, np.int64)
        at = np.minimum(np.searchsorted(self._frame, frames), len(self._frame) - 1)
        known: Bools = self._frame[at] == frames
        return known, self._page[at[known]]


def frame_ranges(frames: I64) -> tuple[Range, ...]:
    """Return the byte ranges [start, end) of the known frames, ascending."""
    return tuple(page_ranges(np.unique(frames[frames != UNKNOWN])))

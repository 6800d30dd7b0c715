# SPDX-License-Identifier: GPL-2.0
"""Accesses through one mapping, as accesses to another mapping of the same memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from damon_tests.ports import Bools, Pages, Truth, page_size
from damon_tests.ports.arrays import I64
from damon_tests.ports.ranges import Range


class MovedTruth:
    """``truth`` with each page looked up ``offset_bytes`` further on, a multiple of the page size."""

    def __init__(self, truth: Truth, offset_bytes: int) -> None:
        self._truth, self._pages = truth, offset_bytes // page_size()
        self._offset_bytes = offset_bytes

    def ranges(self) -> Sequence[Range]:
        return [(start - self._offset_bytes, end - self._offset_bytes) for start, end in self._truth.ranges()]

    def span_ns(self) -> Range:
        return self._truth.span_ns()

    def touched(self, pages: Pages, t0_ns: int, t1_ns: int) -> Bools:
        return self._truth.touched(pages + self._pages, t0_ns, t1_ns)

    def touched_each(self, pages: Pages, t0_ns: I64, t1_ns: I64) -> Bools:
        return self._truth.touched_each(pages + self._pages, t0_ns, t1_ns)

    def rate(self, pages: Pages, t0_ns: int, t1_ns: int, window_ns: int) -> npt.NDArray[Any]:
        return self._truth.rate(pages + self._pages, t0_ns, t1_ns, window_ns)

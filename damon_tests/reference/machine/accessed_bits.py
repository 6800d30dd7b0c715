# SPDX-License-Identifier: GPL-2.0
"""What accessed bits show of accesses: there is one for each small page, and one for a whole huge page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from damon_tests.ports import Bools, Pages, pages_per_huge
from damon_tests.ports.arrays import I64


class Touches(Protocol):
    """The part of ``ports.Truth`` that says what was touched when."""

    def touched(self, pages: Pages, t0_ns: int, t1_ns: int) -> Bools: ...

    def touched_each(self, pages: Pages, t0_ns: I64, t1_ns: I64) -> Bools: ...


class AccessedBits:
    """``truth`` by accessed bit (specification §3.4): one access to a huge page marks all of its pages.

    ``is_huge(pages)``: which pages are part of a huge page, aligned to its size.
    """

    def __init__(self, truth: Touches, is_huge: Callable[[Pages], Bools]) -> None:
        self.truth = truth
        self._is_huge = is_huge

    def bit_of(self, pages: Pages) -> Pages:
        """Return the page whose entry holds each page's accessed bit: the first of a huge page, or itself."""
        return np.where(self._is_huge(pages), pages // pages_per_huge() * pages_per_huge(), pages)

    def touched(self, pages: Pages, t0_ns: int, t1_ns: int) -> Bools:
        """Whether an access within [t0, t1) set each page's bit."""
        marked: Bools = np.array(self.truth.touched(pages, t0_ns, t1_ns))
        asked = np.flatnonzero(self._is_huge(pages) & ~marked)
        if len(asked):
            # Several samples may lie in one huge page: look through its pages once.
            blocks, back = np.unique(pages[asked] // pages_per_huge(), return_inverse=True)
            marked[asked] = _any_of_block(self.truth.touched(pages_of(blocks), t0_ns, t1_ns))[back]
        return marked

    def touched_each(self, pages: Pages, t0_ns: I64, t1_ns: I64) -> Bools:
        """``touched`` with a time of its own for each page."""
        marked: Bools = np.array(self.truth.touched_each(pages, t0_ns, t1_ns))
        asked = np.flatnonzero(self._is_huge(pages) & ~marked)
        if len(asked):
            begins, ends = (np.repeat(times[asked], pages_per_huge()) for times in (t0_ns, t1_ns))
            every = pages_of(pages[asked] // pages_per_huge())
            marked[asked] = _any_of_block(self.truth.touched_each(every, begins, ends))
        return marked


def pages_of(blocks: Pages) -> Pages:
    """Return all pages of blocks of a huge page, block by block."""
    return (blocks[:, None] * pages_per_huge() + np.arange(pages_per_huge())).ravel()


def _any_of_block(hits: Bools) -> Bools:
    """Return for each block whether one of its pages was hit."""
    accessed: Bools = np.logical_or.reduce(hits.reshape(-1, pages_per_huge()), axis=1)
    return accessed

# SPDX-License-Identifier: GPL-2.0
"""Where the slots of an access term are: from slots to pages and back.

Everything is arithmetic over the term's definition, so that a term over a tebibyte costs no
more than one over a mebibyte. A phase whose terms lie close together also gets tables, which
answer much faster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from damon_tests.patterns.spec import Access, Phase
from damon_tests.ports import PAGE_SIZE, Bools, Pages
from damon_tests.workload.generator import Slots

# Up to this many pages (16 GiB), a phase is answered from tables of one byte a page.
MAX_TABLE_PAGES = 1 << 22
# Tables kept for each phase, one for each set of terms that a window was found to touch.
MAX_TABLES = 64


class TermPages:
    """One access term at its place in memory. Pages are absolute page numbers."""

    def __init__(self, access: Access, region_start: int) -> None:
        self.access = access
        self.random = access.order == "random"
        self.slots = access.slots
        self.touches = access.touches_per_pass
        self._start = region_start + access.start_bytes
        self._per_island = access.slots_per_island
        # With one island any distance will do that is longer than it.
        self._every = access.every_bytes or access.end_bytes - access.start_bytes
        last = (self._per_island - 1) * access.stride_bytes
        self.first_page = self._start // PAGE_SIZE
        self.last_page = (self._start + (access.islands - 1) * self._every + last) // PAGE_SIZE

    def pages_of(self, slots: Slots) -> Pages:
        """The page of each slot, same shape."""
        island, within = np.divmod(slots, self._per_island)
        address: Pages = self._start + island * self._every + within * self.access.stride_bytes
        return address // PAGE_SIZE

    def slots_of(self, pages: Pages) -> tuple[Bools, Slots, Slots]:
        """Whether each page has a slot, and its first and last slot (meaningless where it has none)."""
        stride, per = self.access.stride_bytes, self._per_island
        island, rest = np.divmod(pages * PAGE_SIZE - self._start, self._every)
        first = -(-rest // stride)
        last = np.minimum((rest + (PAGE_SIZE - 1)) // stride, per - 1)
        covered = (first <= last) & (island >= 0) & (island < self.access.islands)
        return covered, island * per + first, island * per + last

    def covers(self, pages: Pages) -> Bools:
        """Whether each page has a slot."""
        return self.slots_of(pages)[0]

    def all_pages(self) -> Pages:
        """Every page with a slot, ascending. Only for terms of a moderate size."""
        pages = np.arange(self.first_page, self.last_page + 1, dtype=np.int64)
        return pages[self.covers(pages)]


class PhaseGeometry:
    """The terms of one phase of a pattern.

    ``index_of(pages)`` turns pages into indexes of its tables: tables start one page
    before the first page and end one after the last, so that clipping the index
    finds False for everything outside. ``tables`` is False when the terms are too far apart.
    """

    def __init__(self, phase: Phase, layout: Mapping[str, tuple[int, int]]) -> None:
        self.terms: Sequence[TermPages] = tuple(
            TermPages(access, layout[access.region][0]) for access in phase.accesses
        )
        first = min((term.first_page for term in self.terms), default=0)
        last = max((term.last_page for term in self.terms), default=0)
        self._origin = first - 1
        self._table_size = last - first + 3
        self.tables = self._table_size <= MAX_TABLE_PAGES
        self._by_mask: dict[int, Bools] = {}
        self._scratch: Bools | None = None

    def index_of(self, pages: Pages) -> Pages:
        return pages - self._origin

    def sequential(self, mask: int) -> Bools:
        """The table of pages with a slot of any sequential term whose bit is set in ``mask``."""
        table = self._by_mask.get(mask)
        if table is None:
            table = np.zeros(self._table_size, dtype=np.bool_)
            for number, term in enumerate(self.terms):
                if mask >> number & 1:
                    table[self.index_of(term.all_pages())] = True
            if len(self._by_mask) >= MAX_TABLES:
                self._by_mask.clear()
            self._by_mask[mask] = table
        return table

    def scratch(self) -> Bools:
        """A table that is False everywhere; who sets entries resets them."""
        if self._scratch is None:
            self._scratch = np.zeros(self._table_size, dtype=np.bool_)
        return self._scratch

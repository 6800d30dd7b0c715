# SPDX-License-Identifier: GPL-2.0
"""Map the slots of an access term to pages and back.

The mapping is arithmetic over the term's definition, so a term over a tebibyte costs no
more than a term over a mebibyte. A phase whose terms lie close together also has lookup tables, which
are much faster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from damon_tests.patterns.spec import Access, Action, Phase
from damon_tests.ports import Bools, Pages, page_size
from damon_tests.ports.arrays import I64
from damon_tests.workload.chase_order import way
from damon_tests.workload.random_order import Slots, draw_bits, draw_passes
from damon_tests.workload.weighted_order import buckets_of

# Phases of up to this many pages (16 GiB) have tables of one byte per page.
MAX_TABLE_PAGES = 1 << 22
# How many tables to keep per phase: one for each set of terms that some window touched.
MAX_TABLES = 64


class TermPages:
    """An access term at its place in memory. Pages are absolute page numbers.

    ``drawn``: the generator draws the slots of each pass. ``moving``: a pass touches consecutive slots, which
    differ between passes. Neither: every pass touches every slot. ``region`` is the region's index.
    """

    def __init__(self, access: Access, region_start: int, region: int = 0) -> None:
        self.access = access
        self.drawn = access.order != "sequential"
        self.moving = not self.drawn and (access.touches > 0 or access.drift_bytes > 0)
        self.process = access.process
        self._region = region
        self.slots = access.slots
        self.touches = access.touches_per_pass
        self._start = region_start + access.start_bytes
        self._per_island = access.slots_per_island
        # With a single island, any distance longer than the island works.
        self._every = access.every_bytes or access.end_bytes - access.start_bytes
        last = (self._per_island - 1) * access.stride_bytes
        self.first_page = self._start // page_size()
        drift = (access.drift_positions - 1) * access.drift_bytes
        self.last_page = (self._start + (access.islands - 1) * self._every + last + drift) // page_size()

    def pages_of(self, slots: Slots) -> Pages:
        """Return the page of each slot, same shape."""
        island, within = np.divmod(slots, self._per_island)
        address: Pages = self._start + island * self._every + within * self.access.stride_bytes
        return address // page_size()

    def slots_of(self, pages: Pages) -> tuple[Bools, Slots, Slots]:
        """Return whether each page has a slot, and its first and last slot (meaningless without a slot)."""
        stride, per = self.access.stride_bytes, self._per_island
        island, rest = np.divmod(pages * page_size() - self._start, self._every)
        first = -(-rest // stride)
        last = np.minimum((rest + (page_size() - 1)) // stride, per - 1)
        covered = (first <= last) & (island >= 0) & (island < self.access.islands)
        return covered, island * per + first, island * per + last

    def covers(self, pages: Pages) -> Bools:
        """Return whether each page has a slot."""
        return self.slots_of(pages)[0]

    def drawn_pages(self, seed: int, phase: int, term: int, passes: I64) -> Pages:
        """Return the pages that these passes of a drawn term touch, in order, (len(passes), touches)."""
        access = self.access
        if access.order == "random":
            slots = draw_passes(seed, phase, term, passes, touches=self.touches, slots=self.slots)
        elif access.order == "chase":
            steps = passes[:, None] * self.touches + np.arange(self.touches, dtype=np.int64)
            slots = way(seed, self._region, access.start_bytes, self.slots, steps)
        else:
            slots = buckets_of(access).slots_of(draw_bits(seed, phase, term, passes, self.touches))
        pages = self.pages_of(slots)
        if access.drift_bytes:
            places = passes // access.drift_passes % access.drift_positions
            pages += (places * (access.drift_bytes // page_size()))[:, None]
        return pages

    def displacement(self, pass_index: int) -> int:
        """Return by how many pages a drifting term has moved in this pass."""
        place = pass_index // self.access.drift_passes % self.access.drift_positions
        return place * self.access.drift_bytes // page_size()

    def covers_touches(self, pages: Pages, pass_index: int, a: int, b: int) -> Bools:
        """Return whether the touches [a, b) of a sequential pass hit each page."""
        covered, first, last = self.slots_of(pages - self.displacement(pass_index))
        if b - a >= self.slots:
            return covered
        low = (pass_index * self.touches + a) % self.slots
        high = low + b - a
        touched: Bools = covered & (last >= low) & (first < high)
        if high > self.slots:
            touched |= covered & (first < high - self.slots)
        return touched

    def next_touch(self, first: Slots, last: Slots, pass_index: int, touch: Slots) -> Slots:
        """Return the first touch of a sequential pass from ``touch`` on that hits a slot of [first, last]."""
        at = (pass_index * self.touches + touch) % self.slots
        inside = (first <= at) & (at <= last)
        return np.where(inside, touch, touch + (first - at) % self.slots)

    def all_pages(self) -> Pages:
        """Return every page with a slot, ascending. Only for terms of a moderate size."""
        pages = np.arange(self.first_page, self.last_page + 1, dtype=np.int64)
        return pages[self.covers(pages)]


class PhaseGeometry:
    """The terms of one phase of a pattern.

    ``index_of(pages)`` turns pages into indexes of its tables: tables start one page
    before the first page and end one after the last, so that clipping the index
    finds False for everything outside. ``tables`` is False when the terms are too far apart.
    After the accesses, the phase's actions are terms that touch their range (or no page).
    """

    def __init__(self, phase: Phase, layout: Mapping[str, tuple[int, int]]) -> None:
        numbers = {name: number for number, name in enumerate(layout)}
        accesses = [*phase.accesses, *(_as_access(action, layout) for action in phase.actions)]
        self.touching = (*(True for _ in phase.accesses), *(action.touches for action in phase.actions))
        self.terms: Sequence[TermPages] = tuple(
            TermPages(access, layout[access.region][0], numbers[access.region]) for access in accesses
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
        """Return the table of pages with a slot of any sequential term whose bit is set in ``mask``."""
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
        """Return a table that is False everywhere; the caller resets the entries that it sets."""
        if self._scratch is None:
            self._scratch = np.zeros(self._table_size, dtype=np.bool_)
        return self._scratch


def _as_access(action: Action, layout: Mapping[str, tuple[int, int]]) -> Access:
    region = action.region or next(iter(layout))
    return Access(region, action.start_bytes, max(action.end_bytes, action.start_bytes + page_size()))

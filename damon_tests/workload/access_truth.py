# SPDX-License-Identifier: GPL-2.0
"""The truth about real programs, from the accesses that an emulator recorded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from damon_tests.ports import Bools, Pages, page_size
from damon_tests.ports.accesses import AccessRuns
from damon_tests.ports.arrays import I64
from damon_tests.ports.ranges import Range, joined, page_ranges
from damon_tests.ports.truth import rate_in_windows

_TIME_BITS = 42  # 73 minutes of ns; the other bits of a key number the page


class AccessTruth:
    """``damon_tests.ports.Truth`` of runs of accesses.

    ``pages``, ``first_ns``, ``last_ns``: the runs, as in ``ports.accesses.AccessRuns``, any order. Answers
    about at least ``gap_ns`` are exact; about a shorter time, a page counts as touched if it was touched
    before and after it with less than ``gap_ns`` in between. ``mapped``: byte ranges that exist besides the
    touched pages.
    """

    def __init__(
        self,
        pages: Pages,
        first_ns: I64,
        last_ns: I64,
        *,
        span_ns: Range,
        gap_ns: int,
        mapped: Sequence[Range] = (),
    ) -> None:
        self.gap_ns = gap_ns
        self._span = span_ns
        self.pages, self.first_ns, self.last_ns = _merged(pages, first_ns, last_ns, gap_ns)
        self._known, number = np.unique(self.pages, return_inverse=True)
        self._origin = int(self.first_ns.min()) if len(self.pages) else 0
        if len(self.pages) and int(self.last_ns.max()) - self._origin >= 1 << _TIME_BITS:
            raise ValueError("a truth lasts at most 73 minutes")
        # Ascending: the runs of a page follow each other, and do not overlap.
        self._keys = (number.astype(np.int64) << _TIME_BITS) + (self.first_ns - self._origin)
        self._ranges = tuple(joined([*page_ranges(self._known), *mapped]))

    def __len__(self) -> int:
        """Return the number of runs."""
        return len(self.pages)

    def ranges(self) -> Sequence[Range]:
        return self._ranges

    def span_ns(self) -> Range:
        return self._span

    def touched(self, pages: Pages, t0_ns: int, t1_ns: int) -> Bools:
        shape = len(pages)
        return self.touched_each(pages, np.full(shape, t0_ns, np.int64), np.full(shape, t1_ns, np.int64))

    def touched_each(self, pages: Pages, t0_ns: I64, t1_ns: I64) -> Bools:
        touched = np.zeros(len(pages), np.bool_)
        if not len(self._known):
            return touched
        number = np.minimum(np.searchsorted(self._known, pages), len(self._known) - 1)
        end = np.clip(t1_ns - self._origin, 0, (1 << _TIME_BITS) - 1)
        # The last run of the page that begins before t1, if there is any: no other one lasts longer.
        at = np.searchsorted(self._keys, (number.astype(np.int64) << _TIME_BITS) + end) - 1
        run = np.maximum(at, 0)
        touched[:] = (at >= 0) & (self.pages[run] == pages) & (self.last_ns[run] >= t0_ns) & (t0_ns < t1_ns)
        return touched

    def rate(self, pages: Pages, t0_ns: int, t1_ns: int, window_ns: int) -> npt.NDArray[Any]:
        """See ``Truth.rate``; ignore the rest of [t0, t1) that is shorter than a window."""
        return rate_in_windows(self, pages, t0_ns, t1_ns, window_ns)

    def coarser(self, gap_ns: int) -> AccessTruth:
        """Return the same truth in fewer runs, exact for times of at least ``gap_ns``, which is larger."""
        return AccessTruth(
            self.pages,
            self.first_ns,
            self.last_ns,
            span_ns=self._span,
            gap_ns=gap_ns,
            mapped=self._ranges,
        )

    def within(self, ranges: Sequence[Range]) -> AccessTruth:
        """Return the truth about these byte ranges only."""
        inside = np.zeros(len(self.pages), np.bool_)
        for start, end in ranges:
            inside |= (self.pages >= start // page_size()) & (self.pages < -(-end // page_size()))
        return AccessTruth(
            self.pages[inside],
            self.first_ns[inside],
            self.last_ns[inside],
            span_ns=self._span,
            gap_ns=self.gap_ns,
            mapped=ranges,
        )


def of_pages(runs: AccessRuns, mapped: Sequence[Range] = ()) -> AccessTruth:
    """Return the truth by virtual address; choose the rows of one process before."""
    return AccessTruth(
        runs.page, runs.first_ns, runs.last_ns, span_ns=runs.span_ns, gap_ns=runs.gap_ns, mapped=mapped
    )


def of_frames(runs: AccessRuns, mapped: Sequence[Range] = ()) -> AccessTruth:
    """Return the truth by physical address: the accesses of all chosen rows whose frame is known."""
    known = runs.chosen(runs.frame >= 0)
    return AccessTruth(
        known.frame, known.first_ns, known.last_ns, span_ns=runs.span_ns, gap_ns=runs.gap_ns, mapped=mapped
    )


def _merged(pages: Pages, first_ns: I64, last_ns: I64, gap_ns: int) -> tuple[Pages, I64, I64]:
    """Return the union of runs, ascending by page and time; join those of a page at most ``gap_ns`` apart."""
    order = np.lexsort((first_ns, pages))
    page, first, last = pages[order], first_ns[order], last_ns[order]
    if not len(page):
        return page, first, last
    # The latest end among the earlier runs of the same page: ends ascend within a page once this is done.
    number = np.cumsum(np.diff(page, prepend=page[0]) != 0)
    low = int(last.min())
    length = int(last.max()) - low + 1
    latest = np.maximum.accumulate((last - low) + number * length) - number * length + low
    begins = np.ones(len(page), np.bool_)
    begins[1:] = (page[1:] != page[:-1]) | (first[1:] - latest[:-1] > gap_ns)
    at = np.flatnonzero(begins)
    ends = np.append(at[1:], len(page)) - 1
    return page[at], first[at], latest[ends]

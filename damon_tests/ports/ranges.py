# SPDX-License-Identifier: GPL-2.0
"""Join and cut half-open ranges [start, end) of bytes, frames or time.

Lists of ranges are ascending and disjoint unless a function says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from damon_tests.ports.arrays import I64
from damon_tests.ports.paging import page_size

Range = tuple[int, int]


def joined(ranges: Iterable[Range], gap: int = 0) -> list[Range]:
    """Return the union of any ranges, ascending. Neighbours at most ``gap`` apart become one range."""
    union: list[Range] = []
    for start, end in sorted(ranges):
        if union and start <= union[-1][1] + gap:
            union[-1] = (union[-1][0], max(union[-1][1], end))
        else:
            union.append((start, end))
    return union


def clip(ranges: Iterable[Range], within: Sequence[Range]) -> list[Range]:
    """Return the parts of ``ranges`` inside ``within``; touching parts are joined."""
    parts = [(max(start, low), min(end, high)) for start, end in ranges for low, high in within]
    return joined(part for part in parts if part[0] < part[1])


def without(ranges: Iterable[Range], holes: Sequence[Range]) -> list[Range]:
    """Return the parts of ``ranges`` outside ``holes``."""
    left: list[Range] = []
    for start, end in ranges:
        at = start
        for low, high in holes:
            if high <= at:
                continue
            if low >= end:
                break
            if at < low:
                left.append((at, low))
            at = high
        if at < end:
            left.append((at, end))
    return left


def page_ranges(pages: I64) -> list[Range]:
    """Return the byte ranges of ascending page or frame numbers; consecutive numbers form one range."""
    if len(pages) == 0:
        return []
    cuts = np.flatnonzero(np.diff(pages) != 1) + 1
    first, last = pages[np.append(0, cuts)], pages[np.append(cuts - 1, len(pages) - 1)]
    return [(int(a) * page_size(), (int(b) + 1) * page_size()) for a, b in zip(first, last, strict=True)]

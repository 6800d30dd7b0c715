# SPDX-License-Identifier: GPL-2.0
"""Regions of one target as a list, for the passes of schemes that split and merge one by one."""

from __future__ import annotations

import numpy as np

from damon_tests.ports.arrays import I64
from damon_tests.reference.core.context import Context
from damon_tests.reference.core.regions import Regions


class Row:
    """One region during a pass. ``origin`` is its row in the context's arrays when the pass began."""

    __slots__ = ("age", "end", "last", "nr", "origin", "rows", "start", "value")

    def __init__(
        self, rows: list[Row], start: int, end: int, nr: int, last: int, age: int, value: int, origin: int
    ) -> None:
        self.rows = rows
        self.start, self.end = start, end
        self.nr, self.last, self.age = nr, last, age
        self.value = value  # access frequency as schemes see it
        self.origin = origin

    @property
    def size(self) -> int:
        return self.end - self.start

    def split_at(self, address: int) -> None:
        """Cut at ``address``; the right part becomes the next row, to be visited later in this pass."""
        right = Row(self.rows, address, self.end, self.nr, self.last, self.age, self.value, self.origin)
        self.rows.insert(self.rows.index(self) + 1, right)
        self.end = address


def rows_of_target(ctx: Context, target_idx: int, values: I64) -> list[Row]:
    """The regions of one target; ``values``: access frequencies of all regions of the context."""
    regions = ctx.regions
    bounds = regions.bounds(len(ctx.targets))
    low, high = bounds[target_idx], bounds[target_idx + 1]
    rows: list[Row] = []
    columns = zip(
        regions.start[low:high].tolist(),
        regions.end[low:high].tolist(),
        regions.nr_accesses[low:high].tolist(),
        regions.last_nr_accesses[low:high].tolist(),
        regions.age[low:high].tolist(),
        values[low:high].tolist(),
        strict=True,
    )
    for origin, (start, end, nr, last, age, value) in enumerate(columns, low):
        rows.append(Row(rows, start, end, nr, last, age, value, origin))
    return rows


def store_rows(ctx: Context, target_idx: int, rows: list[Row]) -> bool:
    """Write the rows back; returns whether the layout changed (else only ages may have)."""
    bounds = ctx.regions.bounds(len(ctx.targets))
    low, high = bounds[target_idx], bounds[target_idx + 1]
    old = ctx.regions
    ages = np.array([row.age for row in rows], np.int64)
    if len(rows) == high - low and [row.start for row in rows] == old.start[low:high].tolist():
        old.age[low:high] = ages
        return False
    new = old.take(np.array([row.origin for row in rows], np.intp))
    new.start = np.array([row.start for row in rows], np.uint64)
    new.end = np.array([row.end for row in rows], np.uint64)
    new.age = ages
    ctx.regions = Regions.concat([old.take(slice(0, low)), new, old.take(slice(high, None))])
    return True

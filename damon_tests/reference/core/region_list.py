# SPDX-License-Identifier: GPL-2.0
"""The regions of one target as a list, for passes of schemes that split and merge one by one."""

from __future__ import annotations

import numpy as np

from damon_tests.ports.arrays import I64
from damon_tests.reference.core.context import Context
from damon_tests.reference.core.regions import Regions


class ListedRegion:
    """One region during a pass.

    ``value``: access frequency as schemes see it. ``origin``: its row in the context's arrays when the pass
    began. ``siblings``: the list that it is in.
    """

    __slots__ = ("age", "end", "last", "nr", "origin", "siblings", "start", "value")

    def __init__(
        self,
        siblings: list[ListedRegion],
        start: int,
        end: int,
        nr: int,
        last: int,
        age: int,
        value: int,
        origin: int,
    ) -> None:
        self.siblings = siblings
        self.start, self.end = start, end
        self.nr, self.last, self.age = nr, last, age
        self.value = value
        self.origin = origin

    @property
    def size(self) -> int:
        return self.end - self.start

    def split_at(self, address: int) -> None:
        """Cut at ``address``; the right part becomes the next region, to be visited later in this pass."""
        right = ListedRegion(
            self.siblings, address, self.end, self.nr, self.last, self.age, self.value, self.origin
        )
        self.siblings.insert(self.siblings.index(self) + 1, right)
        self.end = address


def list_regions(ctx: Context, target_idx: int, values: I64) -> list[ListedRegion]:
    """Return the regions of one target; ``values``: access frequencies of all regions of the context."""
    rows = ctx.regions
    bounds = rows.bounds(len(ctx.targets))
    low, high = bounds[target_idx], bounds[target_idx + 1]
    listed: list[ListedRegion] = []
    columns = zip(
        rows.start[low:high].tolist(),
        rows.end[low:high].tolist(),
        rows.nr_accesses[low:high].tolist(),
        rows.last_nr_accesses[low:high].tolist(),
        rows.age[low:high].tolist(),
        values[low:high].tolist(),
        strict=True,
    )
    for origin, (start, end, nr, last, age, value) in enumerate(columns, low):
        listed.append(ListedRegion(listed, start, end, nr, last, age, value, origin))
    return listed


def store_regions(ctx: Context, target_idx: int, listed: list[ListedRegion]) -> bool:
    """Write the regions back; return whether the layout changed (else only ages may have)."""
    bounds = ctx.regions.bounds(len(ctx.targets))
    low, high = bounds[target_idx], bounds[target_idx + 1]
    old = ctx.regions
    ages = np.array([region.age for region in listed], np.int64)
    if len(listed) == high - low and [region.start for region in listed] == old.start[low:high].tolist():
        old.age[low:high] = ages
        return False
    new = old.take(np.array([region.origin for region in listed], np.intp))
    new.start = np.array([region.start for region in listed], np.uint64)
    new.end = np.array([region.end for region in listed], np.uint64)
    new.age = ages
    ctx.regions = Regions.concat([old.take(slice(0, low)), new, old.take(slice(high, None))])
    return True

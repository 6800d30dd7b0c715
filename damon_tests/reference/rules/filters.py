# SPDX-License-Identifier: GPL-2.0
"""The rules of DAMOS filters: what each matches, in which layer and order they are (specification §4.8)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from damon_tests.ports.arrays import I64, Bools
from damon_tests.ports.ranges import Range
from damon_tests.reference.rules.monitoring import align_down


def filter_order(core: Sequence[Any], ops: Sequence[Any], both: Sequence[Any]) -> list[Any]:
    """Return the filters in the order of evaluation: core_filters/, then ops_filters/, then filters/."""
    return [*core, *ops, *both]


def address_range(start: int, end: int, min_region_sz: int) -> Range:
    """Return the range of an address filter: both bounds aligned down."""
    return align_down(start, min_region_sz), align_down(end, min_region_sz)


def target_is(target_idx: int, wanted: int) -> bool:
    return target_idx == wanted


def page_filter_hit(kind: str, hits: Bools) -> Bools:
    """Return which folios a page filter of this type matches."""
    return hits


def size_within(sizes: I64, low: int, high: int) -> Bools:
    """Return which folio sizes (bytes) are within the bounds, which are inclusive."""
    in_range: Bools = (sizes >= low) & (sizes <= min(high, (1 << 63) - 1))
    return in_range


def memcgs_meant(path: str, known: Collection[str]) -> Sequence[str]:
    """Return the groups that a memcg filter matches: exactly the one named, not those below it."""
    return [path]


def ages_after_sleep(ages: I64) -> I64:
    """Return the ages of regions after watermarks kept all schemes inactive: as before."""
    return ages

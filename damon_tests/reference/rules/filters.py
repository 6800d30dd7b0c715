# SPDX-License-Identifier: GPL-2.0
"""What filters are true for, and which layer and order they are in (specification §4.8)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from damon_tests.ports.arrays import I64, Bools
from damon_tests.ports.ranges import Range
from damon_tests.reference.rules.monitoring import align_down


def filter_order(core: Sequence[Any], ops: Sequence[Any], both: Sequence[Any]) -> list[Any]:
    """Entries of core_filters/, of ops_filters/, of filters/."""
    return [*core, *ops, *both]


def address_range(start: int, end: int, min_region_sz: int) -> Range:
    """Both bounds of an address filter are aligned down."""
    return align_down(start, min_region_sz), align_down(end, min_region_sz)


def target_is(target_idx: int, wanted: int) -> bool:
    return target_idx == wanted


def page_filter_hit(kind: str, hits: Bools) -> Bools:
    """What a page filter of this type found to be true of folios."""
    return hits


def size_within(sizes: I64, low: int, high: int) -> Bools:
    """Folio sizes in bytes; both bounds are inclusive."""
    found: Bools = (sizes >= low) & (sizes <= min(high, (1 << 63) - 1))
    return found


def memcgs_meant(path: str, known: Collection[str]) -> Sequence[str]:
    """The groups that a memcg filter is true for: exactly the one, not those below it."""
    return [path]


def ages_after_sleep(ages: I64) -> I64:
    """Ages of regions after watermarks had kept all schemes inactive: as before."""
    return ages

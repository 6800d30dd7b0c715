# SPDX-License-Identifier: GPL-2.0
"""DAMOS filters of the core layer: by target and by address range."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from damon_tests.damon.params import Damos, DamosFilter
from damon_tests.reference.core_rules import align_down

CORE_TYPES = ("addr", "target")


class Splittable(Protocol):
    """The region under test; ``split_at`` cuts it and leaves the left part in place."""

    start: int
    end: int

    def split_at(self, address: int) -> None: ...


@dataclass(frozen=True)
class FilterLists:
    """Filters by the layer that evaluates them, in installation order, and what happens without a match."""

    core: tuple[DamosFilter, ...]
    ops: tuple[DamosFilter, ...]

    @classmethod
    def of(cls, params: Damos) -> FilterLists:
        """From the three directories: core_filters, then ops_filters, then filters."""
        ordered = (*params.core_filters, *params.ops_filters, *params.filters)
        return cls(
            tuple(f for f in ordered if f.type in CORE_TYPES),
            tuple(f for f in ordered if f.type not in CORE_TYPES),
        )

    @property
    def core_default_reject(self) -> bool:
        """An allow list rejects the rest, unless the ops layer still has a say."""
        return not self.ops and _ends_with_allow(self.core)

    @property
    def ops_default_reject(self) -> bool:
        return _ends_with_allow(self.ops)


def _ends_with_allow(filters: Sequence[DamosFilter]) -> bool:
    return bool(filters) and filters[-1].allow


def address_matches(region: Splittable, start: int, end: int, min_region_sz: int) -> bool:
    """Whether the region, cut at the range's borders if it crosses them, is inside the range."""
    low, high = align_down(start, min_region_sz), align_down(end, min_region_sz)
    if region.end <= low or high <= region.start:
        return False
    if region.start < low:
        region.split_at(low)
        return False
    if region.end > high:
        region.split_at(high)
    return True


def core_verdict(
    lists: FilterLists, region: Splittable, target_idx: int, min_region_sz: int
) -> tuple[bool, bool]:
    """(allowed, explicitly) for the region; it may be cut on the way.

    Explicitly: a core filter allowed it, which makes the ops layer's filters void for it.
    """
    for item in lists.core:
        if item.type == "target":
            hit = target_idx == item.damon_target_idx
        else:
            hit = address_matches(region, item.addr_start, item.addr_end, min_region_sz)
        if hit == item.matching:
            return item.allow, item.allow
    return not lists.core_default_reject, False

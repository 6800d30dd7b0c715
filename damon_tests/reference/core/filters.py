# SPDX-License-Identifier: GPL-2.0
"""DAMOS filters of the core layer: by target and by address range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from damon_tests.damon.params import Damos, DamosFilter
from damon_tests.reference.rules.ruleset import Rules

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
    def of(cls, params: Damos, rules: Rules) -> FilterLists:
        """Sort the filters of the three directories by layer."""
        ordered = rules.filter_order(params.core_filters, params.ops_filters, params.filters)
        return cls(
            tuple(f for f in ordered if f.type in CORE_TYPES),
            tuple(f for f in ordered if f.type not in CORE_TYPES),
        )

    @property
    def core_allows_last(self) -> bool:
        """Whether the last filter of the core layer allows; what none matches may then be rejected."""
        return bool(self.core) and self.core[-1].allow

    @property
    def ops_allows_last(self) -> bool:
        return bool(self.ops) and self.ops[-1].allow


def address_matches(region: Splittable, start: int, end: int, min_region_sz: int, rules: Rules) -> bool:
    """Cut the region at the borders of the range; return whether what is left is inside."""
    low, high = rules.address_range(start, end, min_region_sz)
    if region.end <= low or high <= region.start:
        return False
    if not rules.address_filter_cuts:
        return True
    if region.start < low:
        region.split_at(low)
        return False
    if region.end > high:
        region.split_at(high)
    return True


def core_verdict(
    lists: FilterLists, region: Splittable, target_idx: int, min_region_sz: int, rules: Rules
) -> tuple[bool, bool]:
    """Return (allowed, explicitly) for the region, which may be cut on the way.

    Explicitly: a core filter allowed it, so that no filter of the ops layer is asked.
    """
    for item in lists.core:
        if item.type == "target":
            hit = rules.target_is(target_idx, item.damon_target_idx)
        else:
            hit = address_matches(region, item.addr_start, item.addr_end, min_region_sz, rules)
        verdict = rules.filter_verdict(hit, item.matching, item.allow)
        if verdict is not None:
            return verdict, verdict and rules.core_allow_is_final
    return not rules.core_default_reject(lists.core_allows_last, bool(lists.ops)), False

# SPDX-License-Identifier: GPL-2.0
"""State of one scheme while its kdamond runs, and the walk that collects tried regions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from damon_tests.damon.params import U32_MAX, Damos
from damon_tests.ports.arrays import I64, U64, Bools
from damon_tests.reference.core.filters import FilterLists
from damon_tests.reference.core.quota import Quota
from damon_tests.reference.rules.ruleset import Rules


@dataclass
class SchemeStats:
    """Counters of a scheme; never reset while the scheme lives."""

    nr_tried: int = 0
    sz_tried: int = 0
    nr_applied: int = 0
    sz_applied: int = 0
    sz_ops_filter_passed: int = 0
    qt_exceeds: int = 0
    nr_snapshots: int = 0


# Which priority an operations set gives regions of an action; the rest are all the same.
PRIORITY = {
    ("paddr", "pageout"): "cold",
    ("paddr", "lru_deprio"): "cold",
    ("paddr", "migrate_cold"): "cold",
    ("paddr", "lru_prio"): "hot",
    ("paddr", "migrate_hot"): "hot",
    ("virtual", "pageout"): "cold",
    ("virtual", "migrate_cold"): "cold",
    ("virtual", "migrate_hot"): "hot",
}


class Scheme:
    """What ``struct damos`` holds beside its parameters."""

    def __init__(self, params: Damos, rules: Rules) -> None:
        self.rules = rules
        self.stats = SchemeStats()
        self.quota = Quota(rules)
        self.next_apply = 0
        self.activated = rules.schemes_start_active
        self.lists = FilterLists.of(params, rules)
        self.set_params(params, fresh=True)

    def set_params(self, params: Damos, *, fresh: bool = False) -> None:
        """Take the parameters of a commit; statistics, charges and schedule stay."""
        self.params = params
        self.quota.commit_goals(len(params.quota.goals))
        if fresh or self.rules.commit_takes_filters:
            self.lists = FilterLists.of(params, self.rules)
        pattern = params.access_pattern
        # Two of the bounds are 32 bits wide in the core and lose the rest.
        self.bounds = (
            (pattern.sz_min, pattern.sz_max),
            (pattern.nr_accesses_min & U32_MAX, pattern.nr_accesses_max & U32_MAX),
            (pattern.age_min & U32_MAX, pattern.age_max & U32_MAX),
        )

    @property
    def effective_bytes(self) -> int:
        """The quota in force, in core address units."""
        return self.quota.effective_size

    def schedule(self, passed: int, samples: Callable[[int], int], aggr_us: int) -> None:
        """Set the next pass to one apply interval (or aggregation) from now, in samples."""
        self.next_apply = passed + samples(self.rules.apply_us(self.params.apply_interval_us, aggr_us))

    def matches(self, size: int, nr_accesses: int, age: int) -> bool:
        """Whether the access pattern includes a region; all bounds are inclusive."""
        return bool(self.rules.pattern_matches(self.bounds, size, nr_accesses, age))

    def matches_all(self, sizes: U64, nr_accesses: I64, ages: I64) -> Bools:
        """``matches`` for many regions."""
        matching: Bools = self.rules.pattern_matches(self.bounds, sizes, nr_accesses, ages)
        return matching

    @property
    def only_watches(self) -> bool:
        """Whether applying it changes nothing but statistics: no action, quota, filter or limit."""
        params, quota = self.params, self.quota
        return (
            params.action == "stat"
            and not (self.lists.core or self.lists.ops or params.max_nr_snapshots)
            and not (quota.is_set(params.quota) or params.quota.fail_charge_denom)
            and quota.continue_target is None
        )

    def priorities(self, operations: str, values: I64, ages: I64, window: int, aggr_us: int) -> I64:
        """Return the score (0 to 99) of regions with these access values and ages; higher goes first."""
        kind = operations if operations == "paddr" else "virtual"
        direction = PRIORITY.get((kind, self.params.action))
        unknown = kind == "virtual" and self.params.action != "pageout" and not self.rules.vaddr_migrates
        if direction is None or unknown:
            return np.full(len(values), 99, np.int64)
        quota = self.params.quota
        hot = self.rules.hot_score(
            values, window, ages, aggr_us, quota.weight_nr_accesses_permil, quota.weight_age_permil
        )
        return hot if direction == "hot" else self.rules.cold_score(hot)


@dataclass(frozen=True)
class TriedRegion:
    """One region that a scheme was applied to, as the tree shows it; ``age`` is that before the action."""

    start: int
    end: int
    nr_accesses: int
    age: int
    sz_filter_passed: int
    probe_hits: tuple[int, ...]


@dataclass
class Walk:
    """A request for the regions that each scheme applies to during one of its passes.

    Holds, by scheme, which are done, and the passes and regions so far. ``on_done`` is called once, with 0
    or the errno of a cancellation.
    """

    on_region: Callable[[int, TriedRegion], None]
    on_done: Callable[[int], None]
    complete: set[int] = field(default_factory=set)
    passes: Counter[int] = field(default_factory=Counter)
    regions: Counter[int] = field(default_factory=Counter)

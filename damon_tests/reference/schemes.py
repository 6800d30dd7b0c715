# SPDX-License-Identifier: GPL-2.0
"""State of one scheme while its kdamond runs, and the walk that collects tried regions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from damon_tests.damon.params import U32_MAX, Damos


@dataclass
class SchemeStats:
    """Never reset while the scheme lives."""

    nr_tried: int = 0
    sz_tried: int = 0
    nr_applied: int = 0
    sz_applied: int = 0
    sz_ops_filter_passed: int = 0
    qt_exceeds: int = 0
    nr_snapshots: int = 0


class Scheme:
    """What ``struct damos`` holds beside its parameters."""

    def __init__(self, params: Damos) -> None:
        self.params = params
        self.stats = SchemeStats()
        self.next_apply = 0
        self.activated = True

    @property
    def effective_bytes(self) -> int:
        """The quota in force, core address units."""
        return 0

    def schedule(self, passed: int, samples: Callable[[int], int], aggr_us: int) -> None:
        """The next pass is one apply interval (or aggregation) from now, in samples."""
        self.next_apply = passed + samples(self.params.apply_interval_us or aggr_us)

    def matches(self, size: int, nr_accesses: int, age: int) -> bool:
        """Whether the access pattern includes a region; two of its bounds are truncated to 32 bits."""
        pattern = self.params.access_pattern
        return (
            pattern.sz_min <= size <= pattern.sz_max
            and pattern.nr_accesses_min & U32_MAX <= nr_accesses <= pattern.nr_accesses_max & U32_MAX
            and pattern.age_min & U32_MAX <= age <= pattern.age_max & U32_MAX
        )


@dataclass(frozen=True)
class TriedRegion:
    """One region a scheme was applied to, as the tree will show it; ``age`` before the action."""

    start: int
    end: int
    nr_accesses: int
    age: int
    sz_filter_passed: int
    probe_hits: tuple[int, ...]


@dataclass
class Walk:
    """A request for the regions that each scheme applies to during one of its passes.

    ``on_done`` is called once, with 0 or the errno of a cancellation.
    """

    on_region: Callable[[int, TriedRegion], None]
    on_done: Callable[[int], None]
    complete: set[int] = field(default_factory=set)

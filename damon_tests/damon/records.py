# SPDX-License-Identifier: GPL-2.0
"""What DAMON reported, as frozen values over numpy arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from damon_tests.damon.params import DamonIntervalsGoal, DamosFilter
from damon_tests.ports.arrays import U64

U32 = npt.NDArray[np.uint32]

Source = Literal["damon_aggregated", "damon_region_aggregated", "tried_regions", "none"]
"""Where the snapshots come from. "none": regions were not recorded, there are no snapshots."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The regions of one target at one moment, ascending by address.

    ``start``, ``end``: core address units, shape (n,). ``nr_accesses``: samples. ``age``:
    aggregations. ``time_ns``: machine's monotonic clock at the last event of the aggregation (or
    when the tried regions were read). ``complete`` is False when events of it were lost.
    ``nr_regions`` is the count that the events reported (== n when complete).
    ``probe_hits``: shape (n, probes) or None. ``sz_filter_passed``: shape (n,) or None. ``stats``: the
    counters of the scheme that tried these regions, if they were read together.
    """

    time_ns: int
    target_idx: int
    start: U64
    end: U64
    nr_accesses: U32
    age: U32
    nr_regions: int
    complete: bool = True
    probe_hits: npt.NDArray[np.uint8] | None = None
    sz_filter_passed: U64 | None = None
    stats: DamosStats | None = None

    def __len__(self) -> int:
        return len(self.start)

    @property
    def sizes(self) -> U64:
        """Return the regions' sizes in core address units, shape (n,)."""
        return self.end - self.start


@dataclass(frozen=True, eq=False)
class Recording:
    """Snapshots of all targets in time order, and the values needed to interpret them.

    ``samples_per_aggr`` is W for nr_accesses; ``aggr_us``/``sample_us`` are the staged intervals (tuned
    ones are in ``intervals``: (time_ns, sample_us) from each tune event). ``lost_events`` is exact; a
    recording with losses is never judged by counting invariants. ``missing``: columns ("age",
    "nr_accesses") whose values are unknown, at least for some regions, and read 0.
    ``scheme_filters``: the filters of the scheme whose tried regions these are. ``update_us`` and ``goal``:
    the update interval and the goal of intervals, where only the recording says them, not its request.
    """

    source: Source
    operations: str
    sample_us: int
    aggr_us: int
    snapshots: tuple[Snapshot, ...]
    started_ns: int
    stopped_ns: int
    lost_events: int = 0
    addr_unit: int = 1
    intervals: tuple[tuple[int, int], ...] = ()
    missing: tuple[str, ...] = ()
    scheme_filters: tuple[DamosFilter, ...] = ()
    update_us: int | None = None
    goal: DamonIntervalsGoal | None = None

    @property
    def samples_per_aggr(self) -> int:
        return self.aggr_us // (self.sample_us or 1)

    def of_target(self, target_idx: int) -> tuple[Snapshot, ...]:
        return tuple(s for s in self.snapshots if s.target_idx == target_idx)


@dataclass(frozen=True)
class DamosStats:
    """``schemes/S/stats/`` after update_schemes_stats; None where the kernel has no such file."""

    nr_tried: int
    sz_tried: int
    nr_applied: int
    sz_applied: int
    qt_exceeds: int
    sz_ops_filter_passed: int | None = None
    nr_snapshots: int | None = None


@dataclass(frozen=True, eq=False)
class TriedRegions:
    """``schemes/S/tried_regions/`` of a scheme after update_schemes_tried_regions.

    ``regions`` holds them in directory order as one Snapshot (target_idx 0: the tree does not name
    targets)."""

    scheme_idx: int
    total_bytes: int | None
    regions: Snapshot


@dataclass(frozen=True)
class SchemeReport:
    """Everything that a scheme's directories reported at the end of a session."""

    stats: DamosStats
    effective_bytes: int | None = None
    tried: tuple[TriedRegions, ...] = field(default=())

# SPDX-License-Identifier: GPL-2.0
"""What all invariants share: a recording with its request, and how a violation is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from damon_tests.damon.params import DamonCtx
from damon_tests.damon.records import Recording, Snapshot
from damon_tests.damon.series import Series
from damon_tests.judge import rule_limits
from damon_tests.judge.monitoring.aggregation_windows import aggregations
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports import Bools
from damon_tests.ports.ranges import Range


@dataclass(frozen=True)
class Setting:
    """A recording with the request it answers."""

    recording: Recording
    ctx: DamonCtx
    level: Series

    @property
    def w(self) -> int:
        return self.recording.samples_per_aggr

    @property
    def m(self) -> int:
        return rule_limits.min_region_sz(self.ctx)

    @property
    def tuned(self) -> bool:
        return self.ctx.attrs.intervals_goal.aggrs > 0

    def groups(self) -> list[tuple[Snapshot, ...]]:
        """Aggregations with every target complete; with several targets and lost events none is sure."""
        if self.recording.lost_events and len(self.ctx.targets) > 1:
            return []
        return [g for g in aggregations(self.recording) if all(s.complete for s in g)]

    def targets(self) -> range:
        return range(max(1, len(self.ctx.targets)))


def where(recording: Recording, snap: Snapshot) -> str:
    """Which snapshot, for a maintainer: time since recording began, target."""
    seconds = (snap.time_ns - recording.started_ns) / 1e9
    return f"at {seconds:.3f} s, target {snap.target_idx}"


def region(snap: Snapshot, i: int) -> str:
    """One region as damon_aggregated prints it."""
    return f"region {snap.start[i]}-{snap.end[i]}: {snap.nr_accesses[i]} {snap.age[i]}"


def spell(ranges: Sequence[Range]) -> str:
    shown = ", ".join(f"{a:#x}-{b:#x}" for a, b in ranges[:4])
    return shown + (f" and {len(ranges) - 4} more" if len(ranges) > 4 else "")


def regions(s: Setting, invariant: str, name: str, why: str, wrong: Callable[[Snapshot], Bools]) -> Check:
    counts, detail = [], ""
    for snap in s.recording.snapshots:
        if not snap.complete:
            continue
        bad = np.flatnonzero(wrong(snap))
        counts.append(float(len(bad)))
        if len(bad) and not detail:
            detail = f"{where(s.recording, snap)}: {region(snap, int(bad[0]))}"
    value = sum(counts)
    m = Measurement(name, value, "regions", tuple(counts))
    return Check("invariant", m, "== 0", why, value == 0, detail, invariant=invariant)


def largest(
    invariant: str,
    name: str,
    values: Sequence[float],
    unit: str,
    bound: float,
    *,
    why: str,
    detail: str = "",
) -> list[Check]:
    """The largest of ``values`` is at most ``bound``; no check without values."""
    if not values:
        return []
    m = Measurement(name, max(values), unit, tuple(values))
    limit = f"<= {bound:g}" if bound else "== 0"
    return [Check("invariant", m, limit, why, m.value <= bound, detail, invariant=invariant)]

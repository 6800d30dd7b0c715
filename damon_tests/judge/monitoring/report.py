# SPDX-License-Identifier: GPL-2.0
"""A report under one request with the known accesses, and helpers that check every region of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from damon_tests.damon.params import DamonCtx
from damon_tests.damon.records import Recording, Snapshot
from damon_tests.damon.series import Series
from damon_tests.judge import rule_limits
from damon_tests.judge.monitoring.aggregation_windows import aggregations
from damon_tests.judge.verdict import Check, Kind, Measurement
from damon_tests.ports import Bools, Truth
from damon_tests.ports.numbers import number
from damon_tests.ports.ranges import Range

NOTHING_JUDGED = "there was nothing to judge"
"""The detail of a check that looked at nothing."""


@dataclass(frozen=True, eq=False)
class KnownMemory:
    """The known accesses to the memory of one DamonTarget.

    ``truth`` never reports a page as untouched that may have been touched. ``recording`` and ``ctx`` are the
    report in the truth's address space: with paddr, physical memory in bytes.
    """

    target_idx: int
    truth: Truth
    recording: Recording
    ctx: DamonCtx


@dataclass(frozen=True, eq=False)
class Report:
    """A recording during which the request ``ctx`` did not change; ``level`` is the kernel series ("7.3").

    ``from_start``: it begins where the kdamond was turned on. ``known``: targets whose accesses are known.
    ``vmas``: the mappings of the only target when monitoring began, sorted byte ranges; empty: not known.
    """

    recording: Recording
    ctx: DamonCtx
    level: str
    from_start: bool = True
    known: tuple[KnownMemory, ...] = ()
    vmas: tuple[Range, ...] = ()

    @property
    def series(self) -> Series:
        return Series.of(self.level)

    @property
    def w(self) -> int:
        return self.recording.samples_per_aggr

    @property
    def m(self) -> int:
        return rule_limits.min_region_sz(self.ctx)

    @property
    def tuned(self) -> bool:
        return self.ctx.attrs.intervals_goal.aggrs > 0

    def extra_age(self, before: Snapshot | None = None) -> int:
        """Return by how much more than 1 an age may grow in the aggregation after ``before`` (None: any)."""
        # Of several targets the number of all regions counts, and ``before`` has those of one.
        regions = None if before is None or len(self.ctx.targets) > 1 else len(before)
        return rule_limits.extra_age(self.ctx, self.series, regions)

    def groups(self) -> list[tuple[Snapshot, ...]]:
        """Return the aggregations in which all targets are complete.

        Empty with several targets and lost events: then it is not known which snapshots belong together.
        """
        if self.recording.lost_events and len(self.ctx.targets) > 1:
            return []
        return [g for g in aggregations(self.recording) if all(s.complete for s in g)]

    def targets(self) -> range:
        return range(max(1, len(self.ctx.targets)))


def where(recording: Recording, snap: Snapshot) -> str:
    """Return a snapshot's time since the recording began, and its target, for a message."""
    seconds = (snap.time_ns - recording.started_ns) / 1e9
    return f"at {seconds:.3f} s, target {snap.target_idx}"


def region(snap: Snapshot, i: int) -> str:
    """Return one region as damon_aggregated prints it."""
    return f"region {snap.start[i]}-{snap.end[i]}: {snap.nr_accesses[i]} {snap.age[i]}"


def spell(ranges: Sequence[Range]) -> str:
    """Return the first four ranges in hexadecimal, and how many more there are."""
    shown = ", ".join(f"{a:#x}-{b:#x}" for a, b in ranges[:4])
    return shown + (f" and {len(ranges) - 4} more" if len(ranges) > 4 else "")


def regions(s: Report, invariant: str, name: str, why: str, wrong: Callable[[Snapshot], Bools]) -> Check:
    """Check that no region of a complete snapshot is ``wrong``; the detail names the first one."""
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


def nothing_judged(kind: Kind, invariant: str, name: str, unit: str, why: str) -> Check:
    """Return the check of a report in which there was nothing to look at: undecided, never silent.

    ``all_invariants`` drops it where another part of the recording answers the same question.
    """
    return Check(kind, Measurement(name, 0, unit), "judged", why, None, NOTHING_JUDGED, invariant=invariant)


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
    """Check that the largest of ``values`` is at most ``bound``; undecided without values."""
    if not values:
        return [nothing_judged("invariant", invariant, name, unit, why)]
    m = Measurement(name, max(values), unit, tuple(values))
    limit = f"<= {number(bound)}" if bound else "== 0"
    return [Check("invariant", m, limit, why, m.value <= bound, detail, invariant=invariant)]


def none_wrong(
    kind: Kind,
    invariant: str,
    name: str,
    unit: str,
    wrong: Sequence[float],
    judged: int,
    *,
    why: str,
    detail: str,
) -> list[Check]:
    """Check that the counts in ``wrong``, one for each compared window, are all 0.

    ``judged``: how many regions (or what ``unit`` names) were judged in all windows. No check if the windows
    have no such region: that depends on the workload. For each invariant a suite's test has them for certain,
    and is undecided if not (``shows`` of ``scenario.invariants``). If no windows could be compared, I16 and
    I29 say so.
    """
    if not judged:
        return []
    m = Measurement(name, sum(wrong), unit, tuple(wrong))
    why = f"{why}; {judged} {unit} judged"
    return [Check(kind, m, "== 0", why, m.value == 0, detail, invariant=invariant)]

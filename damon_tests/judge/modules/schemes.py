# SPDX-License-Identifier: GPL-2.0
"""What a module's schemes were tried on, against its parameters; all exact (specification §4 and §6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate

import numpy as np

from damon_tests.damon import trace
from damon_tests.damon.module_params import DamonStat, ModuleParameters
from damon_tests.damon.params import DamonCtx, Damos
from damon_tests.damon.records import DamosStats
from damon_tests.damon.trace import BeforeApplyEvent
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_USEC, PAGE_SIZE, Event
from damon_tests.ports.arrays import I64
from damon_tests.ports.ranges import Range
from damon_tests.reference.rules.levels import level as level_of
from damon_tests.reference.sysfs import module_requests

TICK_NS = 10 * NSEC_PER_MSEC
"""Windows of quotas are counted in the kernel's clock ticks; none is longer."""


def derived(parameters: ModuleParameters, ram: Sequence[Range], level: str) -> DamonCtx:
    """Return what the module asks of DAMON, by the specification."""
    derive = {"damon_reclaim": module_requests.reclaim, "damon_lru_sort": module_requests.lru_sort}
    make = module_requests.stat if isinstance(parameters, DamonStat) else derive[parameters.MODULE]
    return make(asdict(parameters), ram, level_of(level).rules)


def passes(raw: Sequence[Event], scheme_idx: int = 0) -> list[list[BeforeApplyEvent]]:
    """Return the applications of each pass over the regions: between two aggregations. Without empty
    passes."""
    return [one for one in _passes(raw, scheme_idx) if one]


def _passes(raw: Sequence[Event], scheme_idx: int) -> Iterator[list[BeforeApplyEvent]]:
    one: list[BeforeApplyEvent] = []
    aggregated = False
    for event in raw:
        if event.name == trace.AGGREGATED:
            aggregated = True
        elif event.name == trace.BEFORE_APPLY:
            if aggregated:
                yield one
                one, aggregated = [], False
            typed = trace.parse_event(event)
            assert isinstance(typed, BeforeApplyEvent)
            if typed.scheme_idx == scheme_idx:
                one.append(typed)
    yield one


def as_asked(name: str, tried: Sequence[BeforeApplyEvent], scheme: Damos, region: Range) -> list[Check]:
    """Check that every region that a scheme was tried on matched its access pattern and lay in the monitored
    one."""
    p = scheme.access_pattern
    bounds = {
        "sizes": (p.sz_min, p.sz_max, [e.end - e.start for e in tried]),
        "nr_accesses": (p.nr_accesses_min, p.nr_accesses_max, [e.nr_accesses for e in tried]),
        "ages": (p.age_min, p.age_max, [e.age for e in tried]),
    }
    checks = []
    for what, (low, high, values) in bounds.items():
        wrong = [v for v in values if not low <= v <= high]
        m = Measurement(f"{name}: {what} outside of what was asked for", float(len(wrong)), "regions")
        detail = f"{len(tried)} regions tried; wrong ones begin with {wrong[:3]}" if wrong else ""
        checks.append(Check("invariant", m, "== 0", f"{low} to {high}", not wrong, detail))
    outside = [e for e in tried if not region[0] <= e.start < e.end <= region[1]]
    m = Measurement(f"{name}: regions outside of the monitored one", float(len(outside)), "regions")
    detail = f"{outside[0].start}-{outside[0].end}" if outside else ""
    checks.append(Check("invariant", m, "== 0", f"{region[0]} to {region[1]}", not outside, detail))
    return checks


def something_tried(name: str, tried: Sequence[BeforeApplyEvent]) -> Check:
    """Check that the scheme was tried at all; else nothing is shown."""
    m = Measurement(f"{name}: regions tried", float(len(tried)), "regions")
    return Check("invariant", m, ">= 1", "there was memory that matched", bool(tried))


def not_before(name: str, tried: Sequence[BeforeApplyEvent], started_ns: int, ctx: DamonCtx) -> list[Check]:
    """Check that nothing was tried before a region can be as old as was asked for."""
    if not tried:
        return []
    scheme = ctx.schemes[tried[0].scheme_idx]
    wait_ns = scheme.access_pattern.age_min * ctx.attrs.aggr_us * NSEC_PER_USEC
    m = Measurement(f"{name}: first application after the start", (tried[0].time_ns - started_ns) / 1e3, "µs")
    # The trace prints whole microseconds.
    limit = (wait_ns - NSEC_PER_USEC) / 1e3
    return [Check("invariant", m, f">= {limit:g}", "age grows by one an aggregation", m.value >= limit)]


def counted(
    name: str, stats: DamosStats, read_ns: Range, applied: Sequence[Sequence[BeforeApplyEvent]]
) -> list[Check]:
    """Check that a module's counters are those after one of its applications, with all earlier passes in
    them.

    ``stats`` were read between these two times. They are renewed before each pass, so only the applications
    of the last pass that had begun may not be in them yet.
    """
    begun = [one for one in applied if one[0].time_ns <= read_ns[0]]
    traced = [e for one in applied for e in one if e.time_ns <= read_ns[1]]
    fewest = sum(map(len, begun[:-1]))
    sizes = [0, *accumulate(e.end - e.start for e in traced)]
    found = (stats.nr_tried, stats.sz_tried)
    holds = found in list(enumerate(sizes))[fewest:]
    m = Measurement(f"{name}: regions tried as counted", float(stats.nr_tried), "regions")
    detail = f"{stats.sz_tried} bytes; traced {sizes[fewest]} to {sizes[-1]}"
    why = "counters follow what was traced"
    checks = [Check("invariant", m, f"{fewest} to {len(traced)}", why, holds, detail)]
    m = Measurement(f"{name}: regions applied to", float(stats.nr_applied), "regions")
    few = stats.nr_applied <= stats.nr_tried and (stats.nr_applied > 0) == (stats.sz_applied > 0)
    checks.append(Check("invariant", m, f"<= {stats.nr_tried}", "applied is part of tried", few))
    return checks


def within_quota(
    name: str, applied: Sequence[Sequence[BeforeApplyEvent]], quota_sz: int, reset_ms: int
) -> list[Check]:
    """Check I44 and I45: each pass is within the quota, and any stretch of time has no more windows than
    fit."""
    sums = [sum(e.end - e.start for e in one) for one in applied]
    most = float(max(sums, default=0))
    m = Measurement(f"{name}: most bytes tried in a pass", most, "bytes", tuple(map(float, sums)))
    checks = [
        Check(
            "invariant",
            m,
            f"<= {quota_sz}",
            "a pass may not try more than the quota of its window",
            most <= quota_sz,
            invariant="I44",
        )
    ]
    window_ns = max(reset_ms * NSEC_PER_MSEC - TICK_NS, TICK_NS)
    worst, detail = 0.0, ""
    for i, first in enumerate(applied):
        total = 0
        for j in range(i, len(applied)):
            total += sums[j]
            # The charge window that the first pass was in began before it, the next ones R apart.
            fit = (applied[j][0].time_ns - first[0].time_ns) // window_ns + 2
            if total / (fit * quota_sz) > worst:
                worst = total / (fit * quota_sz)
                detail = f"{total} bytes in passes {i} to {j}, {fit} windows"
    m = Measurement(f"{name}: largest use of the windows in a stretch", worst, "fraction")
    checks.append(
        Check(
            "invariant",
            m,
            "<= 1",
            "charge windows begin at least reset_interval_ms apart",
            worst <= 1,
            detail,
            invariant="I45",
        )
    )
    return checks


@dataclass(frozen=True)
class Halfway:
    """``first``, ``other``: shares of two sets of memory that had been tried by ``time_ns``."""

    first: float
    other: float
    time_ns: int


def tried_when_half(tried: Sequence[BeforeApplyEvent], first: I64, other: I64) -> Halfway:
    """Return how much of two sets of page frames had been tried when half of the ``first`` had; at the end,
    if it never was."""
    sets = [first * PAGE_SIZE, other * PAGE_SIZE]
    seen = [np.zeros(len(address), np.bool_) for address in sets]
    event = None
    for event in tried:
        for i, address in enumerate(sets):
            seen[i] |= (address >= event.start) & (address < event.end)
        if seen[0].mean() >= 0.5:
            break
    return Halfway(float(seen[0].mean()), float(seen[1].mean()), event.time_ns if event else 0)

# SPDX-License-Identifier: GPL-2.0
"""Check what a module's schemes tried against its parameters; all exact (specification §4 and §6)."""

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
from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_USEC, Event, page_size
from damon_tests.ports.arrays import I64
from damon_tests.ports.numbers import number
from damon_tests.ports.ranges import Range
from damon_tests.reference.rules.levels import level as level_of
from damon_tests.reference.sysfs import module_requests

TICK_NS = 10 * NSEC_PER_MSEC
"""The longest clock tick of a kernel: charge windows are counted in ticks."""


def derived(parameters: ModuleParameters, ram: Sequence[Range], level: str) -> DamonCtx:
    """Return the request that the module makes of its parameters (specification §6)."""
    derive = {"damon_reclaim": module_requests.reclaim, "damon_lru_sort": module_requests.lru_sort}
    make = module_requests.stat if isinstance(parameters, DamonStat) else derive[parameters.MODULE]
    return make(asdict(parameters), ram, level_of(level).rules)


def passes(raw: Sequence[Event], scheme_idx: int = 0) -> list[list[BeforeApplyEvent]]:
    """Return the regions that a scheme tried in each pass, between two aggregations; without empty passes."""
    return [tried for tried in _passes(raw, scheme_idx) if tried]


def _passes(raw: Sequence[Event], scheme_idx: int) -> Iterator[list[BeforeApplyEvent]]:
    in_pass: list[BeforeApplyEvent] = []
    aggregated = False
    for event in raw:
        if event.name == trace.AGGREGATED:
            aggregated = True
        elif event.name == trace.BEFORE_APPLY:
            if aggregated:
                yield in_pass
                in_pass, aggregated = [], False
            typed = trace.parse_event(event)
            assert isinstance(typed, BeforeApplyEvent)
            if typed.scheme_idx == scheme_idx:
                in_pass.append(typed)
    yield in_pass


def as_asked(name: str, tried: Sequence[BeforeApplyEvent], scheme: Damos, region: Range) -> list[Check]:
    """Check that every tried region matched the scheme's access pattern and lay in ``region``.

    Undecided if none was tried.
    """
    p = scheme.access_pattern
    bounds = {
        "sizes": (p.sz_min, p.sz_max, [e.end - e.start for e in tried]),
        "nr_accesses": (p.nr_accesses_min, p.nr_accesses_max, [e.nr_accesses for e in tried]),
        "ages": (p.age_min, p.age_max, [e.age for e in tried]),
    }
    checks = []
    for what, (low, high, values) in bounds.items():
        wrong = [v for v in values if not low <= v <= high]
        m = Measurement(f"{name}: {what} outside the access pattern", float(len(wrong)), "regions")
        detail = f"{len(tried)} regions tried; wrong ones begin with {wrong[:3]}" if wrong else ""
        why = f"a scheme tries only regions that match its pattern, {what} {low} to {high} (§4.3)"
        checks.append(Check("invariant", m, "== 0", why, not wrong if tried else None, detail))
    outside = [e for e in tried if not region[0] <= e.start < e.end <= region[1]]
    m = Measurement(f"{name}: regions outside of the monitored one", float(len(outside)), "regions")
    detail = f"{outside[0].start}-{outside[0].end}" if outside else ""
    why = f"the module monitors only its region, {region[0]} to {region[1]}"
    checks.append(Check("invariant", m, "== 0", why, not outside if tried else None, detail))
    return checks


def something_tried(name: str, tried: Sequence[BeforeApplyEvent]) -> Check:
    """Check that the scheme tried at least one region."""
    m = Measurement(f"{name}: regions tried", float(len(tried)), "regions")
    return Check("invariant", m, ">= 1", "some memory matches the scheme's access pattern", bool(tried))


def not_before(name: str, tried: Sequence[BeforeApplyEvent], started_ns: int, ctx: DamonCtx) -> list[Check]:
    """Check that no region was tried before one can have reached age_min."""
    if not tried:
        return []
    scheme = ctx.schemes[tried[0].scheme_idx]
    wait_ns = scheme.access_pattern.age_min * ctx.attrs.aggr_us * NSEC_PER_USEC
    m = Measurement(f"{name}: first application after the start", (tried[0].time_ns - started_ns) / 1e3, "µs")
    # The trace prints whole microseconds.
    limit = (wait_ns - NSEC_PER_USEC) / 1e3
    return [
        Check(
            "invariant",
            m,
            f">= {number(limit)}",
            "an age grows by at most one per aggregation",
            m.value >= limit,
        )
    ]


def counted(
    name: str, stats: DamosStats, read_ns: Range, applied: Sequence[Sequence[BeforeApplyEvent]]
) -> list[Check]:
    """Check that a module's counters are those after one of the traced tries.

    ``stats`` were read within ``read_ns``. The module updates them before each pass, so only the last pass
    that had begun may be missing in them.
    """
    begun = [tried for tried in applied if tried[0].time_ns <= read_ns[0]]
    traced = [e for tried in applied for e in tried if e.time_ns <= read_ns[1]]
    fewest = sum(map(len, begun[:-1]))
    sizes = [0, *accumulate(e.end - e.start for e in traced)]
    read_counters = (stats.nr_tried, stats.sz_tried)
    holds = read_counters in list(enumerate(sizes))[fewest:]
    m = Measurement(f"{name}: regions tried as counted", float(stats.nr_tried), "regions")
    detail = f"{stats.sz_tried} bytes; traced {sizes[fewest]} to {sizes[-1]}"
    why = "the counters count the traced tries"
    checks = [Check("invariant", m, f"{fewest} to {len(traced)}", why, holds, detail)]
    m = Measurement(f"{name}: regions applied to", float(stats.nr_applied), "regions")
    few = stats.nr_applied <= stats.nr_tried and (stats.nr_applied > 0) == (stats.sz_applied > 0)
    checks.append(
        Check(
            "invariant",
            m,
            f"<= {number(stats.nr_tried)}",
            "a scheme is applied only to regions that it tried",
            few,
        )
    )
    return checks


def bytes_of_windows(applied: Sequence[Sequence[BeforeApplyEvent]], reset_ms: int) -> list[int]:
    """Return the bytes tried in each charge window of ``reset_ms``, which its first pass begins.

    A window whose first pass ended at the end of memory goes on in the next one.
    """
    windows: list[int] = []
    began_ns = 0
    for tried in applied:
        size = sum(e.end - e.start for e in tried)
        if windows and tried[0].time_ns - began_ns < reset_ms * NSEC_PER_MSEC - TICK_NS:
            windows[-1] += size
        else:
            began_ns = tried[0].time_ns
            windows.append(size)
    return windows


def within_quota(
    name: str, applied: Sequence[Sequence[BeforeApplyEvent]], quota_sz: int, reset_ms: int
) -> list[Check]:
    """Check I44 and I45: each pass keeps the quota, and consecutive passes keep that of the windows that fit.

    ``quota_sz``: bytes in a window of ``reset_ms``.
    """
    sums = [sum(e.end - e.start for e in tried) for tried in applied]
    most = float(max(sums, default=0))
    m = Measurement(f"{name}: most bytes tried in a pass", most, "bytes", tuple(map(float, sums)))
    checks = [
        Check(
            "invariant",
            m,
            f"<= {number(quota_sz)}",
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
    """The shares, 0 to 1, of two sets of pages that had been tried by ``time_ns``."""

    first: float
    other: float
    time_ns: int


def tried_when_half(tried: Sequence[BeforeApplyEvent], first: I64, other: I64) -> Halfway:
    """Return the tried shares of two sets of page frames when half of ``first`` had been tried.

    At the end, if that never happened.
    """
    sets = [first * page_size(), other * page_size()]
    were_tried = [np.zeros(len(address), np.bool_) for address in sets]
    event = None
    for event in tried:
        for i, address in enumerate(sets):
            were_tried[i] |= (address >= event.start) & (address < event.end)
        if were_tried[0].mean() >= 0.5:
            break
    return Halfway(float(were_tried[0].mean()), float(were_tried[1].mean()), event.time_ns if event else 0)

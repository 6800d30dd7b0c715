# SPDX-License-Identifier: GPL-2.0
"""Pairs of features: every two run together in some test, and each does what it does alone.

A *row* is a run with several features, each of which adds to the request and is judged by itself in the
quiet last part of the run. ``rows`` makes a covering array: together the rows have every pair that can be
had, which ``tests/test_pairs_table.py`` holds.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

import pytest

from damon_tests.damon.params import (
    ANY,
    DamonAttrs,
    DamonCtx,
    DamonIntervalsGoal,
    DamonProbe,
    Damos,
    DamosFilter,
    DamosQuota,
    DamosQuotaGoal,
    DamosWatermarks,
    Kdamond,
)
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports import NSEC_PER_MSEC, TreeError, page_size
from damon_tests.scenario.invariants import invariants
from damon_tests.scenario.quota_run import let_pass
from damon_tests.scenario.watched_run import passes_of, watched

MIB = 1 << 20
PAGE = page_size()
SAMPLE_US = 5_000
GOAL = DamonIntervalsGoal(access_bp=400, aggrs=2, min_sample_us=SAMPLE_US, max_sample_us=SAMPLE_US)
ATTRS = DamonAttrs(sample_us=SAMPLE_US, aggr_us=50_000, min_nr_regions=10, max_nr_regions=60)
EVERYTHING = Damos("stat", ANY)
ALL_ADDRESSES = DamosFilter("addr", matching=True, addr_end=1 << 60)
NEVER = DamosWatermarks("free_mem_rate", 20_000, 1000, 1000, 1000)
UNACHIEVED = DamosQuotaGoal("user_input", target_value=10_000, current_value=1)
UNIT = 8
LIMIT = 2
"""Snapshots of the scheme with a limit; they are over when the quiet part begins."""
QUIET = 8
"""Aggregations of the quiet part."""

# Schemes in this order: those that are judged region by region come before those whose quotas cut regions.
SCHEMES = {
    "several_schemes": EVERYTHING,
    "apply_interval": replace(EVERYTHING, apply_interval_us=2 * ATTRS.aggr_us),
    "filters": replace(EVERYTHING, filters=(ALL_ADDRESSES,)),
    "watermarks": replace(EVERYTHING, watermarks=NEVER),
    "max_nr_snapshots": replace(EVERYTHING, max_nr_snapshots=LIMIT),
    "quota_size": replace(EVERYTHING, quota=DamosQuota(bytes=4 * MIB)),
    "quota_time": replace(EVERYTHING, quota=DamosQuota(ms=1, reset_interval_ms=100)),
    "quota_goals": replace(EVERYTHING, quota=DamosQuota(bytes=4 * MIB, goals=(UNACHIEVED,))),
}
NEEDS = {
    "intervals_goal": ("attrs.intervals_goal", "damon_monitor_intervals_tune"),
    "quota_goals": ("quotas.goals",),
    "probes": ("ops.paddr", "attrs.probes", "damon_region_aggregated"),
    "pause": ("ctx.pause",),
    "addr_unit": ("ops.paddr", "ctx.addr_unit"),
    "max_nr_snapshots": ("schemes.max_nr_snapshots",),
    "refresh_ms": ("kdamond.refresh_ms",),
    "modules": ("modules.damon_reclaim",),
}
OTHERS = (
    "intervals_goal",
    "probes",
    "pause",
    "commits",
    "several_targets",
    "several_kdamonds",
    "addr_unit",
    "refresh_ms",
    "modules",
)
FEATURES = (*SCHEMES, *OTHERS)
PHYSICAL = {"probes", "addr_unit"}
IMPOSSIBLE = {
    frozenset({"several_targets", "probes"}): "probes are of paddr, which has one target",
    frozenset({"several_targets", "addr_unit"}): "address units are of paddr, which has one target",
}
MOST = 6
"""Features of a row: few enough that a failure says what it is about."""

Row = tuple[str, ...]


def possible(features):
    return not any(pair <= set(features) for pair in IMPOSSIBLE)


def rows() -> list[Row]:
    """Return rows that have every possible pair, the widest first: greedily, and the same every time."""
    missing = {frozenset(pair) for pair in combinations(FEATURES, 2)} - set(IMPOSSIBLE)
    result = []
    while missing:
        row = list(min((sorted(pair, key=FEATURES.index) for pair in missing), key=str))
        while len(row) < MOST:
            free = [f for f in FEATURES if f not in row and possible([*row, f])]
            gain = {f: sum(frozenset({f, other}) in missing for other in row) for f in free}
            best = max(free, key=lambda f: gain[f])
            if not gain[best]:
                break
            row.append(best)
        missing -= {frozenset(pair) for pair in combinations(row, 2)}
        result.append(tuple(row))
    return result


ROWS = rows()


def request(row: Row) -> list[Kdamond]:
    """Return the request of a row: one kdamond, or two of which only the first has the features."""
    attrs = replace(
        ATTRS,
        intervals_goal=GOAL if "intervals_goal" in row else ATTRS.intervals_goal,
        probes=(DamonProbe(),) if "probes" in row else (),
    )
    operations = "paddr" if PHYSICAL & set(row) else "fvaddr"
    plain = DamonCtx(operations, attrs=ATTRS)
    ctx = replace(
        plain,
        attrs=attrs,
        addr_unit=UNIT if "addr_unit" in row else 1,
        schemes=(EVERYTHING, *(SCHEMES[name] for name in SCHEMES if name in row)),
    )
    first = Kdamond(ctx, refresh_ms=50 if "refresh_ms" in row else 0)
    return [first, Kdamond(plain)] if "several_kdamonds" in row else [first]


@dataclass(frozen=True)
class RowRun:
    """What a run has for its features to be judged by. ``passes``: those of the quiet part."""

    run: object
    row: Row
    passes: list
    quiet_ns: tuple[int, int]
    paused: tuple[int, int] | None
    refreshed: tuple[int, int] | None
    refused: str
    effective: dict[str, int]
    memory: int

    def snapshots(self, kdamond_idx: int = 0):
        """Return the aggregations of the quiet part."""
        begin, end = self.quiet_ns
        return [s for s in self.run.recording(kdamond_idx).snapshots if begin < s.time_ns < end]

    def tries(self, name: str, watched_pass):
        """Return what the scheme of this feature tried in a pass."""
        index = 1 + [f for f in SCHEMES if f in self.row].index(name)
        return [t for t in watched_pass.tries if t.scheme_idx == index]

    def tried_sizes(self, name: str) -> list[int]:
        return [sum(t.end - t.start for t in self.tries(name, p)) for p in self.passes]

    def events(self, name: str, kdamond_idx: int = 0):
        begin, end = self.quiet_ns
        return [e for e in self.run.session.events(name, kdamond_idx) if begin < e.time_ns < end]


Deviations = list[str]


def several_schemes(row_run: RowRun) -> Deviations:
    wrong = []
    for p in row_run.passes:
        regions = [(v.region.start, v.region.end) for v in p.visits]
        tried = [(t.start, t.end) for t in row_run.tries("several_schemes", p)]
        wrong += [] if tried == regions else [f"{len(tried)} regions tried of {len(regions)}"]
    return wrong


def apply_interval(row_run: RowRun) -> Deviations:
    applied = [i for i, p in enumerate(row_run.passes) if row_run.tries("apply_interval", p)]
    gaps = [b - a for a, b in pairwise(applied)]
    return [] if gaps and set(gaps) == {2} else [f"{gaps} aggregations between passes"]


def nothing_tried(name: str) -> Callable[[RowRun], Deviations]:
    return lambda row_run: [f"{size} bytes tried" for size in row_run.tried_sizes(name) if size]


def within_4_mib(name: str, least: int) -> Callable[[RowRun], Deviations]:
    def deviations(row_run: RowRun) -> Deviations:
        return [f"{size} tried in a pass" for size in row_run.tried_sizes(name) if size > 4 * MIB] + (
            [] if max(row_run.tried_sizes(name), default=0) >= least else ["nothing was tried"]
        )

    return deviations


def quota_time(row_run: RowRun) -> Deviations:
    size, least = row_run.effective["quota_time"], max(1, PAGE // (UNIT if "addr_unit" in row_run.row else 1))
    return [] if size >= least else [f"effective_bytes is {size}"]


def intervals_goal(row_run: RowRun) -> Deviations:
    tuned = [e.sample_us for e in row_run.events("damon_monitor_intervals_tune")]
    wrong = [f"tuned to {us} µs" for us in tuned if us != SAMPLE_US]
    # A window whose observed accesses are exactly as wanted is not traced.
    return wrong if tuned else ["never tuned"]


def probes(row_run: RowRun) -> Deviations:
    hits = [e.probe_hits for e in row_run.events("damon_region_aggregated")]
    wrong = [f"hits {h}" for h in hits if h != (ATTRS.samples_per_aggr,)]
    return wrong[:3] if hits else ["no hits were traced"]


def pause(row_run: RowRun) -> Deviations:
    begin, end = row_run.paused
    snaps = [s for s in row_run.run.recording().snapshots if begin < s.time_ns < end]
    return [f"aggregation at {s.time_ns}" for s in snaps]


def commits(row_run: RowRun) -> Deviations:
    limit = row_run.run.ctx.attrs.max_nr_regions
    snaps = row_run.snapshots()
    # Quotas cut a region each between aggregations (I14).
    return [f"{len(s)} regions" for s in snaps[2:] if len(s) > limit + 2 * len(row_run.run.ctx.schemes)]


def several_targets(row_run: RowRun) -> Deviations:
    targets = {v.region.target_idx for p in row_run.passes for v in p.visits}
    return [] if targets == {0, 1} else [f"targets {sorted(targets)} are monitored"]


def several_kdamonds(row_run: RowRun) -> Deviations:
    snaps = row_run.snapshots(1)
    return [] if len(snaps) >= QUIET // 2 else [f"the second kdamond had {len(snaps)} aggregations"]


def addr_unit(row_run: RowRun) -> Deviations:
    sizes = {int((s.end - s.start).sum()) for s in row_run.snapshots()}
    # Ranges are rounded outwards to pages.
    least, most = row_run.memory // UNIT, row_run.memory // UNIT + 2 * 16 * PAGE // UNIT
    return [f"{size} units are monitored, of {least}" for size in sizes if not least <= size <= most]


def refresh_ms(row_run: RowRun) -> Deviations:
    before, after = row_run.refreshed
    return [] if after > before else [f"nr_tried stays {before}"]


def modules(row_run: RowRun) -> Deviations:
    return [] if row_run.refused == "EBUSY" else [f"enabled: {row_run.refused}"]


EXPECTED: dict[str, tuple[Callable[[RowRun], Deviations], str]] = {
    "several_schemes": (several_schemes, "each scheme tries what it matches (§4.2)"),
    "apply_interval": (apply_interval, "it is due in every other aggregation (§2.1)"),
    "filters": (nothing_tried("filters"), "the filter rejects all addresses (§4.8)"),
    "watermarks": (nothing_tried("watermarks"), "free memory is always below the low watermark (§4.9)"),
    "max_nr_snapshots": (nothing_tried("max_nr_snapshots"), "the limit was reached before (§4.2)"),
    "quota_size": (within_4_mib("quota_size", PAGE), "each pass is a window of 4 MiB (§4.4)"),
    "quota_time": (quota_time, "a time quota allows one minimum region at least (§4.4)"),
    "quota_goals": (within_4_mib("quota_goals", 0), "goals allow no more than the size quota (§4.4)"),
    "intervals_goal": (intervals_goal, "every other aggregation tunes, within bounds (§2.8)"),
    "probes": (probes, "a probe without filters hits in every sample (§2.10)"),
    "pause": (pause, "a paused kdamond aggregates nothing (§2.2)"),
    "commits": (commits, "the committed max_nr_regions holds (§2.5)"),
    "several_targets": (several_targets, "all targets are monitored (§2.2)"),
    "several_kdamonds": (several_kdamonds, "kdamonds do not wait for each other (§5.8)"),
    "addr_unit": (addr_unit, "sizes are in address units (§3.7)"),
    "refresh_ms": (refresh_ms, "statistics are refreshed without a command (§5.7)"),
    "modules": (modules, "a module does not start while a kdamond runs (§6)"),
}


def _parameters():
    for number, row in enumerate(ROWS):
        yield pytest.param(row, id="+".join(row), marks=[pytest.mark.profile("full")] if number >= 3 else [])


SEEN_ON = frozenset({"6.12", "7.3"})
"""The series whose kernels have run all rows; on others a deviation may be the expectation's: undecided."""


def available(live, row: Row) -> Row:
    """Return the features of a row that this kernel has. Skips if no two are left."""
    has = live.backend().capabilities().has
    left = tuple(name for name in row if all(map(has, NEEDS.get(name, ()))))
    if len(left) < 2:
        pytest.skip(f"of {', '.join(row)} this kernel has {', '.join(left) or 'none'}")
    return left


def _commit_steps(run, row):
    """Commit what the row's features change online; return when it was paused."""
    if "commits" in row:
        run.commit_unchanged()
        run.commit(replace(run.ctx, attrs=replace(run.ctx.attrs, max_nr_regions=40)))
        let_pass(run, 2)
    if "pause" not in row:
        return None
    run.commit(replace(run.ctx, pause=True))
    begin = run.clock.now_ns()
    run.record(0.4)
    end = run.clock.now_ns()
    run.commit(replace(run.ctx, pause=False))
    return begin, end


def _try_module(run):
    try:
        run.subject.tree.write("/sys/module/damon_reclaim/parameters/enabled", "Y")
    except TreeError as error:
        return error.errno_name
    run.subject.tree.write("/sys/module/damon_reclaim/parameters/enabled", "N")  # for the tests that follow
    return "0"


def drive(live, row) -> RowRun:
    patterns = ["idle", "hot_cold"] if "several_targets" in row else ["idle"]
    cover = "process" if PHYSICAL & set(row) else "regions"
    events = [n for name in row for n in NEEDS.get(name, ()) if n.startswith("damon_")]
    with watched(live, patterns, request(row), *events, cover=cover) as run:
        let_pass(run, 6)
        paused = _commit_steps(run, row)
        refused = _try_module(run) if "modules" in row else ""
        let_pass(run, 4)
        before = run.client.stats(0, 0, update=False).nr_tried
        begin = run.clock.now_ns()
        let_pass(run, QUIET)
        end = run.clock.now_ns()
        run.clock.run_for(100 * NSEC_PER_MSEC)
        after = run.client.stats(0, 0, update=False).nr_tried
        indexes = {name: i for i, name in enumerate((n for n in SCHEMES if n in row), 1)}
        effective = {n: run.client.effective_bytes(0, indexes[n]) for n in indexes if n == "quota_time"}
        memory = sum(e - s for s, e in run.subject.ram_ranges()) if cover == "process" else 0
    passes = [p for p in passes_of(run) if begin < p.time_ns < end]
    return RowRun(run, row, passes, (begin, end), paused, (before, after), refused, effective, memory)


@pytest.mark.needs("commands.commit", "damon_aggregated", "damos_before_apply", "ops.fvaddr")
@pytest.mark.parametrize("row", list(_parameters()))
def test_features_work_together(live, expect, row):
    """Every feature of the row does in company what it does alone."""
    row = available(live, row)
    row_run = drive(live, row)
    ran_before = live.backend().simulated or live.backend().level in SEEN_ON
    expect.add(invariants(row_run.run))
    if "several_kdamonds" in row:
        expect.add(invariants(row_run.run, 1))
    for name in row:
        deviations, why = EXPECTED[name]
        wrong = deviations(row_run) if row_run.passes else []
        m = Measurement(f"{name}: deviations", len(wrong), "count")
        is_decided = bool(row_run.passes) and (ran_before or not wrong)
        holds = not wrong if is_decided else None
        expect.add(Check("invariant", m, "== 0", why, holds, "; ".join(wrong[:3])))

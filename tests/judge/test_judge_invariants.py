# SPDX-License-Identifier: GPL-2.0
"""Invariants: a correct DAMON keeps all, and each broken report violates the named one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from synthetic_recordings import BASE, MIB, MS, Damon, hot_cold, phases, recording, snapshot

from damon_tests.damon.params import (
    DamonAttrs,
    DamonCtx,
    DamonIntervalsGoal,
    DamonProbe,
    DamonTarget,
    Damos,
    DamosQuota,
)
from damon_tests.damon.records import Recording, Snapshot, TriedRegions
from damon_tests.damon.series import Level, Series
from damon_tests.judge import rule_limits
from damon_tests.judge.monitoring.all_invariants import all_invariants
from damon_tests.judge.monitoring.invariants import initial_layout, timing, tried_regions
from damon_tests.judge.monitoring.report import KnownMemory, Report
from damon_tests.judge.verdict import Check
from damon_tests.ports import Truth

PAGE = 4096


def judged(report: Recording, ctx: DamonCtx, level: str, truth: Truth | None = None) -> list[Check]:
    known = () if truth is None else (KnownMemory(0, truth, report, ctx),)
    return all_invariants(report, [Report(report, ctx, level, known=known)])


def failing(checks: Sequence[Check]) -> set[str]:
    return {c.invariant or c.measurement.name for c in checks if c.holds is False}


@pytest.mark.parametrize("make", [hot_cold, phases])
@pytest.mark.parametrize("level", ["6.12", "6.18", "7.1", "7.3"])
def test_correct_damon_keeps_all_invariants(
    make: Callable[..., tuple[object, Damon, Recording]], level: str
) -> None:
    truth, damon, report = make()
    checks = judged(report, damon.ctx, level, truth)  # type: ignore[arg-type]
    assert [c for c in checks if c.holds is not True] == []
    names = {c.invariant or c.measurement.name for c in checks}
    assert names >= {
        "I1",
        "I2",
        "I3",
        "I4",
        "I8",
        "I12",
        "I16",
        "I19",
        "I25",
        "I29",
        "I30",
        "I32",
        "I33",
        "I34",
    }
    assert ({"I10", "I11"} <= names) == (level in ("7.1", "7.3"))


@pytest.mark.parametrize(("least", "most"), [(3, 5), (10, 20), (40, 60), (100, 101)])
def test_region_bounds_hold_at_odd_limits(least: int, most: int) -> None:
    _, damon, report = hot_cold(attrs=DamonAttrs(min_nr_regions=least, max_nr_regions=most))
    assert failing(judged(report, damon.ctx, "7.3")) == set()


def _edit(index: int, change: Callable[[Snapshot], Snapshot]) -> Callable[[Recording], Recording]:
    def edit(report: Recording) -> Recording:
        snaps = list(report.snapshots)
        snaps[index] = change(snaps[index])
        return replace(report, snapshots=tuple(snaps))

    return edit


def _field(name: str, at: int, value: int) -> Callable[[Snapshot], Snapshot]:
    def change(snap: Snapshot) -> Snapshot:
        array = getattr(snap, name).copy()
        array[at] = value
        return replace(snap, **{name: array})

    return change


def _drop(at: int) -> Callable[[Snapshot], Snapshot]:
    def change(snap: Snapshot) -> Snapshot:
        kept = {f: np.delete(getattr(snap, f), at) for f in ("start", "end", "nr_accesses", "age")}
        return replace(snap, **kept)

    return change


def _one_region(snap: Snapshot) -> Snapshot:
    """Return the snapshot merged into one region, as if min_nr_regions did not exist."""
    whole = snapshot(snap.time_ns, [(int(snap.start[0]), int(snap.end[-1]), 0, 0)])
    return replace(whole, nr_regions=1)


def _shattered(snap: Snapshot) -> Snapshot:
    """Return the snapshot with a region for each page of 64 MiB: 16384 regions."""
    at = np.arange(int(snap.start[0]), int(snap.end[-1]), PAGE)
    return snapshot(snap.time_ns, [(int(a), int(a) + PAGE, 0, 0) for a in at])


BROKEN = [
    ("I1", _edit(20, lambda s: replace(s, start=s.start[::-1], end=s.end[::-1]))),
    ("I2", _edit(20, _field("end", 3, 0))),
    ("I3", _edit(20, lambda s: replace(s, end=s.end - np.uint64(12)))),
    ("I4", _edit(20, _field("start", 0, BASE + PAGE))),
    ("I8", _edit(20, _drop(2))),
    ("I10", _edit(20, _one_region)),
    ("I11", _edit(20, _one_region)),
    ("I12", _edit(20, _shattered)),
    ("I16", _edit(20, _shattered)),
    ("I19", _edit(20, _field("nr_accesses", 0, 21))),
    ("I25", _edit(20, _field("nr_accesses", -1, 1))),
    ("I29", _edit(20, _field("age", -1, 30))),
    ("I30", _edit(20, _field("age", -1, 30))),
    ("I32", _edit(20, _field("age", -1, 0))),
    ("I33", _edit(20, _field("age", 0, 0))),
    ("I34", _edit(20, lambda s: replace(s, time_ns=s.time_ns - 2 * MS))),
]


@pytest.mark.parametrize(("name", "break_it"), BROKEN, ids=[name for name, _ in BROKEN])
def test_each_violation_is_named(name: str, break_it: Callable[[Recording], Recording]) -> None:
    truth, damon, report = hot_cold()
    broken = break_it(report)
    checks = judged(broken, damon.ctx, "7.3", truth)
    assert name in failing(checks)
    violation = next(c for c in checks if c.invariant == name and c.holds is False)
    assert violation.alpha == 0
    assert "target 0" in violation.detail


def test_age_that_does_not_restart_is_named() -> None:
    """A DAMON that never resets an age: W hits after none must have age 0."""
    w, rows = 20, []
    for i in range(4):
        rows.append(snapshot((i + 1) * 100 * MS, [(BASE, BASE + PAGE, w * (i >= 2), i + 1)]))
    ctx = DamonCtx("fvaddr", targets=(DamonTarget(1, ((BASE, BASE + PAGE),)),))
    assert failing(judged(recording(rows), ctx, "7.3")) == {"I33"}


def test_recording_without_snapshot_is_undecided() -> None:
    empty = recording([])
    checks = judged(empty, DamonCtx(), "7.3")
    assert [c.holds for c in checks] == [None]
    lost = replace(recording([replace(snapshot(MS, [(0, PAGE, 0, 0)]), complete=False)]), lost_events=7)
    assert "lost events: 7" in judged(lost, DamonCtx(), "7.3")[0].detail


def test_lost_events_fail_no_check() -> None:
    truth, damon, report = hot_cold()
    snaps = list(report.snapshots)
    snaps[20] = replace(_drop(2)(snaps[20]), complete=False)
    del snaps[30]
    checks = judged(replace(report, snapshots=tuple(snaps), lost_events=9), damon.ctx, "7.3", truth)
    assert failing(checks) == set()
    assert "I8" not in {c.invariant or c.measurement.name for c in checks}


@pytest.mark.parametrize(
    ("level", "may_grow"),
    [
        (Level("6.12", "6.12.107"), True),
        (Level("7.1", "7.1.13"), True),
        (Level("6.12", "6.12.117"), False),
        ("6.12", False),  # the reference
        (Level("7.3", "7.3.4"), False),
    ],
)
def test_releases_with_the_defect_age_in_each_merge_pass_above_max_nr_regions(
    level: str, may_grow: bool
) -> None:
    regions = [(BASE + i * PAGE, BASE + (i + 1) * PAGE) for i in range(6)]
    rows = [snapshot((i + 1) * 100 * MS, [(*r, 0, age) for r in regions]) for i, age in enumerate([1, 5, 9])]
    ctx = DamonCtx("fvaddr", targets=(DamonTarget(1, ((BASE, BASE + 6 * PAGE),)),))
    few = replace(ctx, attrs=DamonAttrs(min_nr_regions=3, max_nr_regions=5))
    assert {"I29", "I30"}.isdisjoint(failing(judged(recording(rows), few, level))) is may_grow
    # Fewer regions than max_nr_regions are merged once.
    assert "I29" in failing(judged(recording(rows), ctx, level))


def test_quotas_and_tuning_drop_checks_that_are_not_exact_then() -> None:
    truth, damon, report = hot_cold()
    quota = replace(damon.ctx, schemes=(Damos(quota=DamosQuota(bytes=4096)),))
    names = {c.invariant for c in judged(report, quota, "7.3", truth)}
    assert names.isdisjoint({"I16", "I25", "I32", "I33"})
    goal = DamonIntervalsGoal(access_bp=400, aggrs=3, min_sample_us=5000, max_sample_us=10_000_000)
    tuned = replace(damon.ctx, attrs=replace(damon.ctx.attrs, intervals_goal=goal))
    names = {c.invariant for c in judged(report, tuned, "7.3")}
    assert names.isdisjoint({"I29", "I30", "I33"})
    assert "I34" in names


def test_vaddr_covers_mappings_without_two_largest_gaps() -> None:
    vmas = [(0x1000, 0x5000), (0x6000, 0x7000), (MIB, 2 * MIB), (1 << 40, (1 << 40) + PAGE)]
    expected = ((0x1000, 0x7000), (MIB, 2 * MIB), (1 << 40, (1 << 40) + PAGE))
    assert rule_limits.three_ranges(vmas) == expected
    assert rule_limits.three_ranges(vmas[:2]) is None
    ctx = DamonCtx("vaddr", targets=(DamonTarget(1),))
    pieces = rule_limits.first_pieces(expected, ctx.attrs.min_nr_regions, PAGE, Series(7, 3))
    good = recording([snapshot(100 * MS, [(a, b, 0, 0) for a, b in pieces])])
    assert failing(initial_layout(Report(good, ctx, "7.3", vmas=vmas))) == set()
    assert failing(judged(good, ctx, "6.12")) == set()
    bad = recording([snapshot(100 * MS, [(vmas[0][0], vmas[-1][1], 0, 0)])])
    assert failing(initial_layout(Report(bad, ctx, "7.3", vmas=vmas))) == {
        "I6",
        "regions of the first layout cut otherwise",
    }
    uncut = recording([snapshot(100 * MS, [(a, b, 0, 0) for a, b in expected])])
    assert failing(initial_layout(Report(uncut, ctx, "7.3", vmas=vmas))) == {
        "regions of the first layout cut otherwise"
    }
    four = recording([snapshot(100 * MS, [(a, b, 0, 0) for a, b in vmas])])
    assert failing(judged(four, ctx, "6.12")) == {"I6"}


def test_first_layout_cut_otherwise_fails() -> None:
    page, pages = 4096, [(0, 100 * 4096), (200 * 4096, 207 * 4096)]
    strict = [(a // page, b // page) for a, b in rule_limits.first_pieces(pages, 5, page, Series(7, 1))]
    assert strict == [(0, 22), (22, 44), (44, 66), (66, 88), (88, 100), (200, 207)]  # 107 div 5, rounded up
    even = [(a // page, b // page) for a, b in rule_limits.first_pieces(pages, 5, page, Series(7, 0))]
    assert even == [(0, 25), (25, 50), (50, 75), (75, 100), (200, 207)]


@pytest.mark.parametrize(
    ("cut", "fine"),
    [(1, True), (9, True), (5, True), (0.5, True), (8.1, True), (0.55, False), (2.56, False), (9.5, False)],
)
def test_cut_at_no_tenth_fails(cut: float, fine: bool) -> None:
    """I15: cuts are at tenths of a region, or of the left part of such a cut (8.1: 0.9 of 0.9)."""
    size = 1000 * PAGE
    at = int(cut * size) // 10 // PAGE * PAGE
    before = snapshot(100 * MS, [(0, size, 0, 0)])
    after = snapshot(200 * MS, [(0, at, 0, 1), (at, size, 0, 1)])
    ctx = DamonCtx("fvaddr", targets=(DamonTarget(1, ((0, size),)),))
    assert ("I15" in failing(judged(recording([before, after]), ctx, "7.0"))) is not fine


def test_split_step_grows_regions_at_most_to_its_bound() -> None:
    assert [
        rule_limits.growth_bound(n, 1500, Series(7, 3)) for n in (100, 499, 500, 750, 760, 1499, 1500, 1600)
    ] == [
        300,
        1497,
        1000,
        1500,
        1140,
        1500,
        1500,
        1600,
    ]
    assert rule_limits.growth_bound(760, 1500, Series(7, 2)) == 760


@pytest.mark.parametrize(("total", "least", "limit"), [(10, 1, 10), (10, 15, 1), (100 * PAGE, 30, 4 * PAGE)])
def test_size_limit_is_rounded_up_to_min_region(total: int, least: int, limit: int) -> None:
    assert rule_limits.size_limit(total, least, 1 if total < PAGE else PAGE) == limit


def test_size_limit_matches_specification_vectors() -> None:
    assert rule_limits.size_limit(10, 2, 2) == 6
    assert rule_limits.size_limit(10, 10, 2) == 2


def test_wrong_total_bytes_of_tried_regions_fails() -> None:
    regions = snapshot(MS, [(0, PAGE, 0, 0), (PAGE, 3 * PAGE, 1, 2)])
    assert failing(tried_regions(TriedRegions(0, 3 * PAGE, regions))) == set()
    assert failing(tried_regions(TriedRegions(0, 4 * PAGE, regions))) == {"I7"}
    assert tried_regions(TriedRegions(0, None, regions)) == []


def test_probe_hits_beyond_w_or_missing_fail() -> None:
    hits = np.array([[20, 3]], np.uint8)
    report = recording([replace(snapshot(100 * MS, [(0, PAGE, 0, 1)]), probe_hits=hits)])
    attrs = DamonAttrs(probes=(DamonProbe(), DamonProbe()))
    ctx = DamonCtx("paddr", attrs=attrs, targets=(DamonTarget(regions=((0, PAGE),)),))
    checks = judged(report, ctx, "7.3")
    assert [c.measurement.value for c in checks if c.invariant == "I28"] == [0, 17]
    assert failing(checks) == {"I28"}


@pytest.mark.parametrize(
    ("sample_us", "lengths_ms", "holds"),
    [
        (20_000, (120, 120, 120), True),
        (20_000, (120, 118, 84, 120), True),  # ticks were late at the end of the second window
        (20_000, (120, 100, 84, 120), False),
        (20_000, (120, 84, 84, 120), False),
        (5_000, (120, 118, 99, 120), False),
    ],
)
def test_window_may_be_short_by_what_the_one_before_was_long(
    sample_us: int, lengths_ms: tuple[int, ...], holds: bool
) -> None:
    times = np.cumsum([1, *lengths_ms]) * MS
    columns = {
        "start": np.array([0], np.uint64),
        "end": np.array([4096], np.uint64),
        "nr_accesses": np.zeros(1, np.uint32),
        "age": np.zeros(1, np.uint32),
    }
    snaps = tuple(Snapshot(int(t), 0, nr_regions=1, **columns) for t in times)
    recording = Recording("damon_aggregated", "fvaddr", sample_us, 100_000, snaps, 0, int(times[-1]))
    ctx = DamonCtx("fvaddr", attrs=DamonAttrs(sample_us, 100_000))
    (check,) = timing(Report(recording, ctx, "7.3"))
    assert check.holds is holds


def test_long_recording_without_comparable_aggregations_is_undecided() -> None:
    """Of two seconds only one aggregation is complete: nothing shows how ages and regions grow."""
    one = recording([snapshot(100 * MS, [(0, PAGE, 0, 1)])])
    ctx = DamonCtx("fvaddr", targets=(DamonTarget(regions=((0, PAGE),)),))
    for lasted_ns, names in ((2_000 * MS, {"I16", "I29", "I34"}), (300 * MS, set())):
        checks = judged(replace(one, stopped_ns=one.started_ns + lasted_ns), ctx, "7.3")
        assert {c.invariant for c in checks if c.holds is None} == names
        assert failing(checks) == set()

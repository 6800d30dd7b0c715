# SPDX-License-Identifier: GPL-2.0
"""Each kind of failure has the chart that shows it: ages, pause, quota, tuner, memory nodes."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from synthetic_recordings import BASE, MIB, MS, hot_cold, phases

from damon_tests.damon.params import (
    ANY,
    DamonAttrs,
    DamonCtx,
    DamonIntervalsGoal,
    Damos,
    DamosQuota,
    DamosQuotaGoal,
)
from damon_tests.damon.series import Series
from damon_tests.damon.trace import AggregatedEvent, BeforeApplyEvent, EszEvent
from damon_tests.experiment.observation import Observation
from damon_tests.judge import chart
from damon_tests.judge.monitoring.observation_charts import chart_of
from damon_tests.judge.schemes import effects, goals, quota_passes, quotas
from damon_tests.judge.schemes.quotas import QuotaReplay
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.patterns.load import load
from damon_tests.ports import NSEC_PER_MSEC
from damon_tests.workload.pages import PageStates
from damon_tests.workload.target import PhaseTime

PAGE = 4096
NEWEST = Series(7, 3)


def check(name: str, *, limit: str = "== 0", holds: bool | None = False, reason: str = "r") -> Check:
    return Check("invariant", Measurement(name, 1, "count"), limit, reason, holds)


def observation(**changes: object) -> Observation:
    truth, damon, recording = phases()
    made = Observation(
        pattern=load("idle"),
        ctx=damon.ctx,
        level="7.3",
        seed=1,
        attempt=1,
        truth=truth,
        layout={"heap": (BASE, BASE + 8 * MIB), "other": (BASE + 32 * MIB, BASE + 40 * MIB)},
        vmas=(),
        phases=(PhaseTime("warm", 0, 3000 * MS), PhaseTime("moved", 3000 * MS, 6000 * MS)),
        recording=recording,
    )
    return replace(made, **changes)


def test_long_curve_keeps_its_extremes() -> None:
    values = np.sin(np.arange(36_000) / 500)
    values[17_001] = 99.0
    thinned = chart.curve("c", np.arange(36_000), values)
    assert len(thinned.x) <= chart.MOST_POINTS
    assert max(thinned.y) == 99.0
    assert list(thinned.x) == sorted(thinned.x)
    assert chart.curve("c", [0, 1, 2], [1, float("nan"), 3]).x == (0.0, 2.0)


def test_chart_is_read_back_equal() -> None:
    made = chart_of(check("age error", limit="not above the reference's 0.1 to 0.2"), observation())
    assert made is not None
    assert chart.from_json(json.loads(json.dumps(chart.to_json(made)))) == made


@pytest.mark.parametrize(
    "spoil",
    [
        lambda v: v.pop("panels"),
        lambda v: v["panels"][0]["curves"][0].update(style="wild"),
        lambda v: v["panels"][0]["curves"][0].update(y=[1]),
        lambda v: v.update(marks=[{"name": "x"}]),
    ],
)
def test_damaged_chart_is_refused(spoil: object) -> None:
    made = chart_of(check("age error"), observation())
    assert made is not None
    value = json.loads(json.dumps(chart.to_json(made)))
    spoil(value)  # type: ignore[operator]
    with pytest.raises((KeyError, TypeError, ValueError)):
        chart.from_json(value)


def test_only_failures_get_a_chart() -> None:
    made = chart.Chart("c", ())
    good, bad, open_ = chart.explain(
        [check("a", holds=True), check("b"), check("c", holds=None)], lambda: made
    )
    assert (good.chart, bad.chart, open_.chart) == (None, made, made)

    def never() -> chart.Chart:
        raise AssertionError("nothing failed")

    assert chart.explain([good, bad], never) == [good, bad]


def test_age_is_drawn_against_truth_with_a_band() -> None:
    """A DAMON whose ages are right stays in the band but for the aggregations after a change."""
    made = chart_of(
        check("age error", limit="not above the reference's 0.1 to 0.2 aggregations"), observation()
    )
    assert made is not None
    assert [p.title for p in made.panels] == [
        "age of heap, aggregations",
        "age of other, aggregations",
        "error of age, aggregations",
    ]
    reported, true = made.panels[0].curves
    assert (reported.name, true.style) == ("reported", "expected")
    # The region was hot from 0 to 3 s, then idle: its true age restarts there.
    assert true.y[:3] == (0.0, 1.0, 2.0)
    assert true.y[30] == 0.0
    assert true.y[-1] == 29.0
    (band,) = made.panels[0].bands
    assert (band.low[10], band.high[10]) == (true.y[10] - 1, true.y[10] + 1)
    late = [abs(a - b) for a, b in zip(reported.y[20:30], true.y[20:30], strict=True)]
    assert max(late) <= 2  # a region reaches beyond the memory that was touched
    assert made.panels[2].bands[0].low == (0.1, 0.1)
    assert [(m.name, m.x0) for m in made.marks] == [("warm", 0.0), ("moved", 3.0)]


def test_pause_is_marked_on_a_timeline() -> None:
    made = chart_of(check("aggregations while paused"), observation(paused=((1000 * MS, 2000 * MS),)))
    assert made is not None
    assert made.marks[-1] == chart.Mark("paused", 1.0, 2.0)
    gaps = made.panels[1].curves[0]
    assert len(gaps.x) == 60
    assert set(np.round(gaps.y, 6)) == {0.1}


def test_number_of_regions_is_drawn_between_its_limits() -> None:
    made = chart_of(check("region count"), observation())
    assert made is not None
    (panel,) = made.panels
    assert (panel.bands[0].low[0], panel.bands[0].high[0]) == (10.0, 1000.0)
    assert len(panel.curves[0].x) == 60


def test_tuned_intervals_are_drawn_between_their_bounds() -> None:
    whole = observation()
    goal = DamonIntervalsGoal(400, 3, 5000, 10**7)
    tuned = replace(whole.recording, intervals=((1000 * MS, 10_000), (2000 * MS, 20_000)))
    ctx = replace(whole.ctx, attrs=DamonAttrs(intervals_goal=goal))
    made = chart_of(check("wrong steps of tuning"), replace(whole, recording=tuned, ctx=ctx))
    assert made is not None
    assert made.panels[0].curves[0].y == (10.0, 20.0)
    assert made.panels[0].bands[0].high[0] == 10_000.0
    assert made.panels[1].curves[1].y[0] == 0.04


def test_other_failures_have_the_heat_map_only() -> None:
    assert chart_of(check("recall of hot bytes"), observation()) is None
    assert chart_of(check("age error"), observation(layout={})) is None
    _, _, empty = hot_cold(aggregations=0)
    assert chart_of(check("age error"), observation(recording=empty)) is None


def events(tried: list[list[tuple[int, int]]], sizes: list[int] | None = None) -> list[object]:
    """Return the events of passes that tried these page ranges, 50 ms apart, of 16 pages."""
    made: list[object] = []
    for index, ranges in enumerate(tried):
        now = (index + 1) * 50 * NSEC_PER_MSEC
        if sizes:
            made.append(EszEvent(now, 0, 0, sizes[index]))
        made += [BeforeApplyEvent(now, 0, 0, 0, 1, a * PAGE, b * PAGE, 0, 0) for a, b in ranges]
        made.append(AggregatedEvent(now + 1, 0, 1, 16 * PAGE, 32 * PAGE, 0, 0))
    return made


def test_bytes_of_each_window_are_drawn_against_the_quota() -> None:
    scheme = Damos("stat", ANY, quota=DamosQuota(bytes=6 * PAGE, reset_interval_ms=100))
    passes = quota_passes.of_events(events([[(16, 22)], [(22, 28)], [(16, 17)]]))  # type: ignore[arg-type]
    checks = quotas.follow(
        QuotaReplay(scheme, DamonCtx("fvaddr", schemes=(scheme,)), NEWEST), passes, least=1
    )
    (wrong,) = [c for c in checks if c.holds is False]
    assert wrong.chart is not None
    tried, charged, quota = wrong.chart.panels[0].curves
    assert tried.y == (6.0 * PAGE, 6.0 * PAGE, 1.0 * PAGE)
    assert charged.y == (6.0 * PAGE, 12.0 * PAGE, 1.0 * PAGE)  # the second pass is in the first's window
    assert set(quota.y) == {6.0 * PAGE}
    assert all(c.chart is None for c in checks if c.holds)


def test_tuner_is_drawn_with_score_and_quota() -> None:
    quota = DamosQuota(goals=(DamosQuotaGoal("user_input", 10_000),))
    passes = quota_passes.of_events(events([[(16, 17)]] * 3, [5, 5, 500]))  # type: ignore[arg-type]
    wrong = goals.steps_follow(passes, quota, lambda _: [0])
    assert wrong.holds is False
    assert wrong.chart is not None
    score, size = wrong.chart.panels
    assert score.title.startswith("score")
    assert size.curves[0].y == (5.0, 5.0, 500.0)


def test_migration_is_drawn_by_memory_node() -> None:
    node = np.zeros(8, np.int64)
    flag = np.ones(8, np.bool_)
    off = np.zeros(8, np.bool_)
    before = PageStates(0, 0, flag, off, off, flag, off, off, off, node, np.arange(8))
    after = replace(before, node=np.array([1, 1, 1, 0, 2, 2, 0, 0]))
    asked = np.arange(8) < 6
    measured = effects.effect(before, after, asked, lambda pages: pages.node == 1)
    checks = effects.takes_effect("migrate_hot", measured, "pages move")
    (wrong,) = [c for c in checks if c.holds is False]
    assert wrong.chart is not None
    (panel,) = wrong.chart.panels
    assert panel.groups == ("node 0", "node 1", "node 2")
    assert [c.y for c in panel.curves] == [
        (6.0 * PAGE, 0.0, 0.0),
        (1.0 * PAGE, 3.0 * PAGE, 2.0 * PAGE),
    ]

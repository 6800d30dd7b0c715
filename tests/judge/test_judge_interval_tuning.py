# SPDX-License-Identifier: GPL-2.0
"""Steps of interval tuning, recomputed."""

from dataclasses import replace

from damon_tests.damon.params import DamonAttrs, DamonCtx, DamonIntervalsGoal, Kdamond
from damon_tests.experiment.live import live
from damon_tests.experiment.reference_backend import ReferenceBackend
from damon_tests.judge.monitoring.interval_tuning import bounded, steps_follow
from damon_tests.patterns import load

GOAL = DamonIntervalsGoal(access_bp=2_000, aggrs=2, min_sample_us=2_000, max_sample_us=40_000)
ATTRS = DamonAttrs(5_000, 50_000, intervals_goal=GOAL, min_nr_regions=10, max_nr_regions=50)


def tuned():
    ctx = DamonCtx("fvaddr", attrs=ATTRS)
    with live(ReferenceBackend("7.3"), [load.load("hot_cold")], [Kdamond(ctx)], 1, cover="regions") as run:
        run.record(2)
    return run.session.events("damon_monitor_intervals_tune"), run.recording()


def test_steps_of_reference_follow() -> None:
    events, recording = tuned()
    checks = [*bounded(events, ATTRS), *steps_follow(events, recording, ATTRS)]
    assert len(checks) == 3
    assert all(check.holds for check in checks)


def test_steps_for_another_goal_fail() -> None:
    events, recording = tuned()
    other = replace(ATTRS, intervals_goal=replace(GOAL, access_bp=4_000))
    assert [c.holds for c in steps_follow(events, recording, other)] == [False]


def test_steps_out_of_bounds_fail() -> None:
    events, _ = tuned()
    narrow = replace(ATTRS, intervals_goal=replace(GOAL, max_sample_us=5_500))
    assert bounded(events, narrow)[0].holds is False

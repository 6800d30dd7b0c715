# SPDX-License-Identifier: GPL-2.0
"""Automatic intervals: every step follows from what was just seen, within the bounds that were set."""

from dataclasses import replace

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx, DamonIntervalsGoal
from damon_tests.judge.monitoring.driven import invariants
from damon_tests.judge.monitoring.interval_tuning import bounded, steps_follow
from damon_tests.judge.verdict import Measurement
from damon_tests.ports import NSEC_PER_SEC

pytestmark = pytest.mark.needs("ops.fvaddr", "attrs.intervals_goal", "damon_monitor_intervals_tune")

GOAL = DamonIntervalsGoal(access_bp=2_000, aggrs=2, min_sample_us=2_000, max_sample_us=40_000)
ATTRS = DamonAttrs(
    sample_us=5_000, aggr_us=50_000, intervals_goal=GOAL, min_nr_regions=10, max_nr_regions=100
)


@pytest.mark.parametrize("pattern", ["idle", "everything_hot", "half_rate"])
def test_every_step_follows_from_what_was_seen(live, expect, pattern):
    """Too little seen: longer intervals; too much: shorter ones; the factor is exact."""
    with live(pattern, DamonCtx("fvaddr", attrs=ATTRS), cover="regions") as run:
        run.record(3)
    tuned = run.session.events("damon_monitor_intervals_tune")
    expect.add(invariants(run))
    if pattern == "idle":
        steps = Measurement("steps of tuning", len(tuned), "count")
        expect.at_least(steps, 1, because="§2.8: nothing is accessed, so that intervals grow")
    expect.add(bounded(tuned, ATTRS))
    expect.add(steps_follow(tuned, run.recording(), ATTRS))


def test_tuned_intervals_are_told(live, expect):
    """update_tuned_intervals tells what tuning chose; the ratio is as requested."""
    with live("idle", DamonCtx("fvaddr", attrs=ATTRS), cover="regions") as run:
        run.session.record(
            60 * NSEC_PER_SEC, until=lambda: run.client.tuned_intervals(0)[0] == GOAL.max_sample_us
        )
        sample_us, aggr_us = run.client.tuned_intervals(0)
    ratio = Measurement("aggr_us of a tuned sample_us", aggr_us, "µs")
    expect.equal(ratio, sample_us * ATTRS.samples_per_aggr, because="I40: the ratio is kept exactly")
    # Nothing is accessed: every step doubles, so the limit is reached after three.
    m = Measurement("sample_us of idle memory", sample_us, "µs")
    expect.equal(m, GOAL.max_sample_us, because="intervals of idle memory double up to max_sample_us")


def test_goal_enabled_online(live, expect):
    """Tuning that is enabled by a commit keeps its bounds and steps, too."""
    plain = replace(ATTRS, intervals_goal=DamonIntervalsGoal())
    extra = ["damon_monitor_intervals_tune"]
    with live("everything_hot", DamonCtx("fvaddr", attrs=plain), cover="regions", extra_events=extra) as run:
        run.record(0.7)
        run.commit_attrs(ATTRS)
        run.record(1, aggregations=4)
    tuned = run.session.events("damon_monitor_intervals_tune")
    expect.at_least(Measurement("steps", len(tuned), "count"), 1, because="the goal was enabled a second ago")
    expect.add(bounded(tuned, ATTRS))
    expect.add(steps_follow(tuned, run.recording(), ATTRS))

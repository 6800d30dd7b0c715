# SPDX-License-Identifier: GPL-2.0
"""Interval auto-tuning: each step follows from the observed accesses, within the requested bounds."""

from dataclasses import replace

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx, DamonIntervalsGoal
from damon_tests.judge.monitoring.interval_tuning import bounded, steps_follow
from damon_tests.judge.verdict import Measurement
from damon_tests.ports import NSEC_PER_SEC
from damon_tests.scenario.invariants import invariants

pytestmark = pytest.mark.needs("ops.fvaddr", "attrs.intervals_goal")
TRACED = pytest.mark.needs("damon_monitor_intervals_tune")
# Intervals at their bounds hide some wrong steps. Of idle memory no accesses are counted: nothing overflows.
SPOILED = pytest.mark.spoiled_by("interval-tuning-in-32-bits")

GOAL = DamonIntervalsGoal(access_bp=2_000, aggrs=2, min_sample_us=2_000, max_sample_us=40_000)
ATTRS = DamonAttrs(
    sample_us=5_000, aggr_us=50_000, intervals_goal=GOAL, min_nr_regions=10, max_nr_regions=100
)


@TRACED
@pytest.mark.parametrize(
    "pattern",
    [
        "idle",
        pytest.param("everything_hot", marks=SPOILED),
        pytest.param("half_rate", marks=pytest.mark.known_defect("interval-tuning-in-32-bits")),
    ],
)
def test_each_tuning_step_follows_from_observed_accesses(live, expect, pattern):
    """Few observed accesses lengthen the intervals, many shorten
    them, by exactly the factor of the feedback."""
    with live(pattern, DamonCtx("fvaddr", attrs=ATTRS), cover="regions") as run:
        run.record(3)
    tuned = run.session.events("damon_monitor_intervals_tune")
    expect.add(invariants(run))
    if pattern == "idle":
        steps = Measurement("steps of tuning", len(tuned), "count")
        expect.at_least(steps, 1, because="nothing is accessed, so that the intervals grow (§2.8)")
    expect.add(bounded(tuned, ATTRS))
    expect.add(steps_follow(tuned, run.recording(), ATTRS))


def test_update_tuned_intervals_reports_the_tuning(live, expect):
    """update_tuned_intervals writes the tuned intervals to sample_us
    and aggr_us, whose ratio stays as requested."""
    with live("idle", DamonCtx("fvaddr", attrs=ATTRS), cover="regions") as run:
        run.session.record(
            60 * NSEC_PER_SEC, until=lambda: run.client.tuned_intervals(0)[0] == GOAL.max_sample_us
        )
        sample_us, aggr_us = run.client.tuned_intervals(0)
    ratio = Measurement("aggr_us of a tuned sample_us", aggr_us, "µs")
    expect.equal(
        ratio,
        sample_us * ATTRS.samples_per_aggr,
        because="tuning keeps the ratio of aggr_us to sample_us exactly (I40)",
    )
    # Nothing is accessed: every step doubles, so the limit is reached after three.
    m = Measurement("sample_us of idle memory", sample_us, "µs")
    expect.equal(
        m,
        GOAL.max_sample_us,
        because="nothing is accessed, so that each step doubles the intervals up to max_sample_us (§2.8)",
    )


@TRACED
@SPOILED
def test_goal_committed_online_keeps_bounds_and_steps(live, expect):
    """A goal that is committed to a running kdamond is tuned within its bounds, by the exact steps."""
    plain = replace(ATTRS, intervals_goal=DamonIntervalsGoal())
    extra = ["damon_monitor_intervals_tune"]
    with live("everything_hot", DamonCtx("fvaddr", attrs=plain), cover="regions", extra_events=extra) as run:
        run.record(0.7)
        run.commit_attrs(ATTRS)
        run.record(1, aggregations=4)
    tuned = run.session.events("damon_monitor_intervals_tune")
    expect.at_least(
        Measurement("steps", len(tuned), "count"),
        1,
        because="the goal was committed a second ago, ten aggregations",
    )
    expect.add(bounded(tuned, ATTRS))
    expect.add(steps_follow(tuned, run.recording(), ATTRS))

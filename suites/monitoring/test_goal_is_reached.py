# SPDX-License-Identifier: GPL-2.0
"""The intervals goal: tuning must reach it from intervals that are far too short or too long."""

import numpy as np
import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx, DamonIntervalsGoal
from damon_tests.judge.monitoring.aggregation_windows import windows
from damon_tests.judge.monitoring.interval_tuning import bounded, steps_follow
from damon_tests.judge.verdict import Measurement
from damon_tests.patterns.spec import Access, Pattern, PatternRegion, Phase
from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_SEC

pytestmark = [
    pytest.mark.accuracy,
    pytest.mark.spoiled_by("interval-tuning-in-32-bits"),
    pytest.mark.needs("ops.fvaddr", "attrs.intervals_goal", "damon_monitor_intervals_tune"),
]

W = 20
LAST = 6


def every_40_ms():
    """All memory, every 40 ms: how much of that is seen depends on the sampling interval alone."""
    data = PatternRegion("data", 8 << 20)
    access = Access("data", 0, 8 << 20, period_ns=40 * NSEC_PER_MSEC)
    reason = "a rate that sampling intervals decide upon"
    return Pattern("every_40_ms", reason, (data,), (Phase("steady", 3600 * NSEC_PER_SEC, (access,)),))


@pytest.mark.parametrize("sample_us", [pytest.param(2_500, marks=pytest.mark.profile("full")), 20_000])
def test_tuning_reaches_the_intervals_goal(live, expect, sample_us):
    """A fifth of the samples shall see an access, which memory touched
    every 40 ms gives at a sampling interval of 8 ms."""
    goal = DamonIntervalsGoal(access_bp=2_000, aggrs=1, min_sample_us=1_000, max_sample_us=40_000)
    attrs = DamonAttrs(
        sample_us=sample_us,
        aggr_us=W * sample_us,
        intervals_goal=goal,
        min_nr_regions=10,
        max_nr_regions=100,
    )
    with live(every_40_ms(), DamonCtx("fvaddr", attrs=attrs), cover="regions") as run:
        run.record(3.5)
    tuned = run.session.events("damon_monitor_intervals_tune")
    expect.add(bounded(tuned, attrs))
    expect.add(steps_follow(tuned, run.recording(), attrs))
    snaps = [w.snapshot for w in windows(run.recording())]
    accesses = [float((s.sizes * s.nr_accesses).sum() / s.sizes.sum()) for s in snaps]
    # 4 of 20 keep the interval, 3 make it a quarter longer, 5 an eighth shorter (§2.8). Memory touched every
    # 40 ms has 3 or 4 hits below 8 ms and 4 or 5 above; so from 6 to 10 ms no step leaves 7 to 10 ms.
    m = Measurement(
        "accesses per 20 samples in the last windows",
        float(np.median(accesses[-LAST:])),
        "samples",
        tuple(accesses),
    )
    expect.between(
        m,
        3,
        5,
        because="the feedback's steps lead to 4 of 20 and not away from it (§2.8)",
        kind="closed form",
    )

# SPDX-License-Identifier: GPL-2.0
"""Apply intervals: a scheme is applied once in so many samples, whatever the aggregation interval is."""

from dataclasses import replace

import pytest

from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, Damos
from damon_tests.damon.series import Series
from damon_tests.judge.monitoring.intervals_in_samples import interval_in_samples
from damon_tests.scenario.watched_run import checks, passes_of, watched

pytestmark = pytest.mark.needs(
    "ops.fvaddr", "schemes.stat", "schemes.apply_interval_us", "damon_aggregated", "damos_before_apply"
)

ATTRS = DamonAttrs(10_000, 100_000, min_nr_regions=5, max_nr_regions=12)


def every(interval_us, **bounds):
    """Return a scheme that counts what is within these bounds at that interval."""
    return Damos("stat", replace(ANY, **bounds), apply_interval_us=interval_us)


SCHEMES = (
    every(10_000),
    every(1_000),  # less than a sample: at every sample
    every(39_999),  # whole samples: 3
    every(70_000),
    every(0),  # the aggregation interval
    every(100_000, nr_accesses_max=0),
    every(50_000, nr_accesses_min=5),  # in mid-window the access rate is a moving sum
    every(250_000),
    every(300_000, age_min=3),
)


def test_passes_are_counted_in_samples(live, expect):
    """Schemes are due once per apply interval in whole samples, shorter or longer than an aggregation."""
    with watched(live, "hot_cold", DamonCtx("fvaddr", attrs=ATTRS, schemes=SCHEMES)) as run:
        run.record(1.3, aggregations=8)
    expect.add(checks(run))
    for index, samples in enumerate((1, 1, 3, 7, 10)):  # those that try regions in each of their passes
        times = [p.time_ns for p in passes_of(run) if any(t.scheme_idx == index for t in p.tries)]
        why = f"a scheme applied every {SCHEMES[index].apply_interval_us} µs is due every {samples} samples"
        name = f"the apply interval of scheme {index}"
        expect.add(interval_in_samples(name, times, run.observation, samples, f"{why} (I35)", "I35"))


@pytest.mark.profile("full")
def test_passes_of_one_sample_aggregations_are_on_time(live, expect):
    """With aggregations of a single sample, passes and aggregations come at the same samples."""
    attrs = replace(ATTRS, aggr_us=10_000)
    schemes = (every(10_000), every(0), every(20_000, nr_accesses_min=1), every(100_000, age_min=5))
    with watched(live, "hot_cold", DamonCtx("fvaddr", attrs=attrs, schemes=schemes)) as run:
        run.record(1, aggregations=40)
    expect.add(checks(run))


@pytest.mark.needs("commands.commit")
def test_unchanged_commit_keeps_the_apply_schedule(live, expect):
    """Committing the same request again neither delays a pass nor adds one (since 6.18)."""
    schemes = (every(20_000), every(0), every(60_000), every(220_000))
    with watched(live, "idle", DamonCtx("fvaddr", attrs=ATTRS, schemes=schemes)) as run:
        if not Series.of(run.level).keeps_window_on_equal_commit:
            pytest.skip("before 6.18 any commit starts the window again")
        run.record(0.3)
        for _ in range(8):
            run.commit_unchanged()
            run.record(0.07)
        run.record(0.3, aggregations=4)
    expect.add(checks(run))

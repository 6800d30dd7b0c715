# SPDX-License-Identifier: GPL-2.0
"""Age: for how many aggregations has memory been as it is?"""

from dataclasses import replace
from itertools import pairwise

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx
from damon_tests.judge.monitoring.bands import like_the_reference
from damon_tests.judge.monitoring.judged_windows import invariants
from damon_tests.judge.verdict import Measurement

ATTRS = DamonAttrs(min_nr_regions=10, max_nr_regions=100)


@pytest.mark.needs("ops.fvaddr", "damon_aggregated")
def test_idle_memory_grows_old(experiment, expect):
    """Ages of memory that nobody touches grow by one an aggregation, through all merging and splitting."""
    ctx = DamonCtx("fvaddr", attrs=ATTRS)
    expect.add(invariants(experiment("small_hot_in_large_cold", ctx, seconds=3, cover="regions").observe()))


@pytest.mark.accuracy
@pytest.mark.needs("ops.fvaddr", "damon_aggregated")
def test_ages_after_a_change(experiment, expect):
    """Where the hot set was and where it went ages restart; elsewhere they do not."""
    ctx = DamonCtx("fvaddr", attrs=ATTRS)
    trial = experiment("phase_switch", ctx, seconds=6, cover="regions")
    expect.add(invariants(trial.observe()))
    expect.add(like_the_reference(trial, ["age error", "latency"], after_s=4.5, replicas=40))


@pytest.mark.profile("full")
@pytest.mark.accuracy
@pytest.mark.needs("ops.fvaddr", "damon_aggregated")
def test_small_changes_of_a_rate_are_no_change(experiment, expect):
    """A tenth of the hottest rate is tolerated: ages are like the reference's."""
    ctx = DamonCtx("fvaddr", attrs=ATTRS)
    trial = experiment("half_rate", ctx, seconds=4, cover="regions")
    expect.add(invariants(trial.observe()))
    expect.add(like_the_reference(trial, ["age error", "regions"], after_s=1, replicas=40))


@pytest.mark.needs("ops.fvaddr", "damon_aggregated", "commands.commit")
@pytest.mark.known_defect(
    name="age counted once per merge pass",
    evidence="specification 8.3, 31; shown by this test on 6.12.107 and 6.18.15, not on 6.12.117",
    levels=("6.12", "6.18"),
    kernels_only=True,
    fixed=("6.12.117",),
)
def test_merging_hard_makes_nothing_older(live, expect):
    """Too many regions to merge at once take many passes; age counts aggregations."""
    many = replace(ATTRS, min_nr_regions=100, max_nr_regions=200)
    with live("idle", DamonCtx("fvaddr", attrs=many), cover="regions") as run:
        run.record(1.5, aggregations=5)
        run.commit_attrs(replace(many, min_nr_regions=10, max_nr_regions=25))
        run.record(1, aggregations=5)
    oldest = [int(snap.age.max()) for snap in run.recording().snapshots if snap.complete]
    growth = [float(b - a) for a, b in pairwise(oldest)]
    m = Measurement("I29 growth of the oldest age", max(growth, default=0), "aggregations", tuple(growth))
    expect.at_most(m, 1, because="I29: one aggregation makes nothing older by more than one")

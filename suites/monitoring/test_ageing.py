# SPDX-License-Identifier: GPL-2.0
"""Age: for how many aggregations has memory been as it is?"""

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx
from damon_tests.judge.bands import like_the_reference
from damon_tests.judge.observed import invariants

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

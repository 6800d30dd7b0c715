# SPDX-License-Identifier: GPL-2.0
"""Age: for how many aggregations has the access rate of a region not changed?"""

from dataclasses import replace
from itertools import pairwise

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.patterns.spec import Access, Pattern, PatternRegion, Phase
from damon_tests.ports import NSEC_PER_MSEC
from damon_tests.scenario.invariants import invariants
from damon_tests.scenario.reference_bands import like_the_reference

MIB = 1 << 20
ATTRS = DamonAttrs(min_nr_regions=10, max_nr_regions=100)


@pytest.mark.needs("ops.fvaddr", "damon_aggregated")
def test_idle_memory_grows_old(experiment, expect):
    """Memory that nobody touches ages by one in each aggregation, however often it is merged and split."""
    ctx = DamonCtx("fvaddr", attrs=ATTRS)
    observation = experiment("hot_cold", ctx, seconds=3, cover="regions").observe()
    expect.add(invariants(observation, shows=("I15", "I25", "I29", "I32")))


@pytest.mark.accuracy
@pytest.mark.needs("ops.fvaddr", "damon_aggregated")
def test_moving_hot_set_restarts_ages(experiment, expect):
    """Ages restart where the hot set was and where it went, and nowhere else."""
    ctx = DamonCtx("fvaddr", attrs=ATTRS)
    trial = experiment("phase_switch", ctx, seconds=6, cover="regions")
    expect.add(invariants(trial.observe()))
    expect.add(like_the_reference(trial, ["age error", "latency"], after_s=4.5, replicas=40))


def mostly_hot_then_idle():
    """Return a pattern of small regions: three quarters of each are in use for a while, then nothing."""
    regions = tuple(PatternRegion(f"part-{i}", 2 * MIB) for i in range(8))
    hot = tuple(Access(r.name, 0, 3 * MIB // 2, period_ns=2 * NSEC_PER_MSEC) for r in regions)
    # Accesses end at different times within aggregations of 100 ms: the next one has none, and merges.
    phases = (Phase("hot", 430 * NSEC_PER_MSEC, hot), Phase("idle", 720 * NSEC_PER_MSEC, ()))
    return Pattern(
        "mostly_hot_then_idle", "memory that merges when it falls idle", regions, phases, repeat=True
    )


@pytest.mark.accuracy
@pytest.mark.needs("ops.fvaddr", "damon_aggregated")
def test_merged_memory_has_the_mean_age(experiment, expect):
    """Memory that was in use and then falls idle merges with its idle neighbour: the age is the mean of
    both, weighted by size."""
    # A quarter of the memory may be one region: each range becomes one, with both of its bounds.
    ctx = DamonCtx("fvaddr", attrs=replace(ATTRS, min_nr_regions=4))
    trial = experiment(mostly_hot_then_idle(), ctx, seconds=6, cover="regions")
    expect.add(invariants(trial.observe(), shows=("I23",)))


@pytest.mark.profile("full")
@pytest.mark.accuracy
@pytest.mark.needs("ops.fvaddr", "damon_aggregated")
def test_small_rate_change_keeps_age(experiment, expect):
    """A change of the access rate by up to a tenth of the highest rate does not reset the age."""
    ctx = DamonCtx("fvaddr", attrs=ATTRS)
    trial = experiment("half_rate", ctx, seconds=4, cover="regions")
    expect.add(invariants(trial.observe()))
    expect.add(like_the_reference(trial, ["age error", "regions"], after_s=1, replicas=40))


@pytest.mark.needs("ops.fvaddr", "damon_aggregated", "commands.commit")
@pytest.mark.known_defect("age-per-merge-pass")
def test_repeated_merge_passes_age_regions_once(live, expect):
    """Merging too many regions takes many passes in one aggregation; each region ages by one all the same."""
    many = replace(ATTRS, min_nr_regions=100, max_nr_regions=200)
    with live("idle", DamonCtx("fvaddr", attrs=many), cover="regions") as run:
        run.record(1.5, aggregations=5)
        run.commit_attrs(replace(many, min_nr_regions=10, max_nr_regions=25))
        run.record(1, aggregations=5)
    oldest = [int(snap.age.max()) for snap in run.recording().snapshots if snap.complete]
    growth = [float(b - a) for a, b in pairwise(oldest)]
    m = Measurement("I29 growth of the oldest age", max(growth, default=0), "aggregations", tuple(growth))
    why = "an aggregation ages a region by one at most"
    holds = max(growth) <= 1 if growth else None
    expect.add(Check("invariant", m, "<= 1", why, holds, invariant="I29"))

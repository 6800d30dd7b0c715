# SPDX-License-Identifier: GPL-2.0
"""Merging: adjacent regions that differ little become one, with the mean of their counts weighted by size."""

from dataclasses import replace

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx
from damon_tests.scenario.invariants import invariants
from damon_tests.scenario.reference_bands import like_the_reference

pytestmark = [pytest.mark.accuracy, pytest.mark.needs("ops.fvaddr", "damon_aggregated")]


@pytest.mark.profile("full")
@pytest.mark.known_defect("bp-window-not-dividing-10000")
def test_merging_weights_counts_by_size(experiment, expect):
    """Merging small islands of rare accesses with idle memory does not raise the reported access rate."""
    # At least 60 regions of at most about 1 MiB: each has an island, a sixteenth of its size.
    attrs = DamonAttrs(aggr_us=300_000, min_nr_regions=60, max_nr_regions=400)
    trial = experiment("simmering", DamonCtx("fvaddr", attrs=attrs), seconds=5, cover="regions")
    expect.add(invariants(trial.observe()))
    expect.add(like_the_reference(trial, ["rate excess", "rate error"], after_s=1.5, replicas=40))


@pytest.mark.needs("commands.commit")
@pytest.mark.known_defect("commit-keeps-merge-size-limit")
def test_lower_max_nr_regions_merges_similar_regions_first(live, expect):
    """When max_nr_regions drops below the number of distinct rates,
    regions that differ least are merged first."""
    many = DamonAttrs(min_nr_regions=250, max_nr_regions=500)
    few = replace(many, min_nr_regions=10, max_nr_regions=50)

    def attempt(number):
        with live("graded", DamonCtx("fvaddr", attrs=many), cover="regions") as run:
            run.record(1.2, aggregations=11)  # before 7.1 regions begin as one, and double
            run.commit_attrs(few)
            run.record(0.8, aggregations=9)
        if number == 1:
            expect.add(invariants(run))
        return run.seen_of(1)

    expect.add(like_the_reference(attempt, ["rate error", "boundary"], after_s=0, replicas=40))

# SPDX-License-Identifier: GPL-2.0
"""Merging: adjacent regions that differ little become one, with the mean of their counts weighted by size."""

from dataclasses import replace

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx
from damon_tests.judge.monitoring.bands import like_the_reference
from damon_tests.judge.monitoring.driven import invariants as invariants_of
from damon_tests.judge.monitoring.judged_windows import invariants

pytestmark = [pytest.mark.accuracy, pytest.mark.needs("ops.fvaddr", "damon_aggregated")]


@pytest.mark.profile("full")
@pytest.mark.known_defect(
    name="counts of windows whose samples do not divide 10,000 are off, and the kernel warns",
    evidence="this test, of 60 samples a window: WARNING: invalid nr_accesses_bp at reset: 50020 5, or the"
    " like, on 6.16.12 to 7.2.13; not on 6.12.107 and 7.3.4",
    levels=("6.16", "6.17", "6.18", "6.19", "7.0", "7.1", "7.2"),
    kernels_only=True,
)
def test_merging_weights_counts_by_size(experiment, expect):
    """Merging small islands of rare accesses with idle memory does not raise the reported access rate."""
    # At least 60 regions of at most about 1 MiB: each has an island, a sixteenth of its size.
    attrs = DamonAttrs(aggr_us=300_000, min_nr_regions=60, max_nr_regions=400)
    trial = experiment("simmering", DamonCtx("fvaddr", attrs=attrs), seconds=5, cover="regions")
    expect.add(invariants(trial.observe()))
    expect.add(like_the_reference(trial, ["rate excess", "rate error"], after_s=1.5, replicas=40))


@pytest.mark.needs("commands.commit")
@pytest.mark.known_defect(
    name="a commit leaves the size limit of merging as it was",
    evidence="this test on 6.12.107 to 7.0.13: 231 to 279 regions, of at most 50, in all windows after the"
    " commit; not merged beyond what the old min_nr_regions asked for until operations are updated",
    levels=("6.12", "6.16", "6.17", "6.18", "6.19", "7.0"),
)
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
            expect.add(invariants_of(run))
        return run.seen_of(1)

    expect.add(like_the_reference(attempt, ["rate error", "boundary"], after_s=0, replicas=40))

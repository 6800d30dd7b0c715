# SPDX-License-Identifier: GPL-2.0
"""A hot set amid cold memory: is it found, where is it, and is nothing else called hot?"""

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx
from damon_tests.judge.monitoring.bands import like_the_reference
from damon_tests.judge.monitoring.judged_windows import invariants

pytestmark = pytest.mark.accuracy

ATTRS = DamonAttrs(min_nr_regions=10, max_nr_regions=100)

# From then on regions have settled: splitting needs a few aggregations to find the hot set's edges.
SETTLED_S = 2.0


@pytest.mark.needs("ops.vaddr")
def test_hot_set_is_found(experiment, expect):
    """8 MiB of 64 MiB are hot: hot bytes are found, and cold ones are not called hot."""
    trial = experiment("hot_cold", DamonCtx(attrs=ATTRS), seconds=5)
    expect.add(invariants(trial.observe()))
    expect.add(like_the_reference(trial, ["precision", "recall", "working set"], after_s=SETTLED_S))


@pytest.mark.needs("ops.fvaddr")
def test_hot_set_is_found_in_given_ranges(experiment, expect):
    """The same with fixed ranges: the pattern's own region, nothing else of the process."""
    ctx = DamonCtx(operations="fvaddr", attrs=ATTRS)
    trial = experiment("hot_cold", ctx, seconds=5, cover="regions")
    expect.add(invariants(trial.observe()))
    expect.add(like_the_reference(trial, ["precision", "recall", "boundary"], after_s=SETTLED_S))


@pytest.mark.profile("full")
@pytest.mark.needs("ops.fvaddr")
def test_half_rate_is_seen_as_half(experiment, expect):
    """Memory touched in about half of the sampling intervals is reported so, without bias.

    Only the pattern's regions are watched: what else the process uses all the time would raise the merge
    threshold (a tenth of the hottest region), and replicas know nothing of it.
    """
    ctx = DamonCtx(operations="fvaddr", attrs=ATTRS)
    trial = experiment("half_rate", ctx, seconds=6, cover="regions")
    expect.add(invariants(trial.observe()))
    expect.add(like_the_reference(trial, ["rate bias", "rate error"], after_s=SETTLED_S, replicas=40))

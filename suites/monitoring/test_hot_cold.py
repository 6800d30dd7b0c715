# SPDX-License-Identifier: GPL-2.0
"""A hot set in cold memory: DAMON must find it, locate its edges, and call nothing else hot."""

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx
from damon_tests.scenario.invariants import invariants
from damon_tests.scenario.reference_bands import like_the_reference

pytestmark = pytest.mark.accuracy

ATTRS = DamonAttrs(min_nr_regions=10, max_nr_regions=100)

# Regions have settled by then: splitting needs a few aggregations to find the edges of the hot set.
SETTLED_S = 2.0


@pytest.mark.needs("ops.vaddr")
def test_hot_set_is_found(experiment, expect):
    """8 MiB of 64 MiB are hot: DAMON reports the hot bytes hot and no cold ones."""
    trial = experiment("hot_cold", DamonCtx(attrs=ATTRS), seconds=5)
    expect.add(invariants(trial.observe()))
    expect.add(like_the_reference(trial, ["precision", "recall", "working set"], after_s=SETTLED_S))


@pytest.mark.needs("ops.fvaddr")
def test_hot_set_is_found_in_given_ranges(experiment, expect):
    """With given ranges, which hold the pattern's region and nothing
    else of the process, DAMON finds the hot set."""
    ctx = DamonCtx(operations="fvaddr", attrs=ATTRS)
    trial = experiment("hot_cold", ctx, seconds=5, cover="regions")
    expect.add(invariants(trial.observe()))
    expect.add(like_the_reference(trial, ["precision", "recall", "boundary"], after_s=SETTLED_S))


@pytest.mark.profile("full")
@pytest.mark.needs("ops.fvaddr")
def test_half_rate_is_reported_without_bias(experiment, expect):
    """Memory touched in about half of the sampling intervals is reported at that rate, without bias.

    Only the pattern's region is monitored: other memory that the process uses all the time would raise the
    merge threshold (a tenth of the highest rate), and replicas know nothing of it.
    """
    ctx = DamonCtx(operations="fvaddr", attrs=ATTRS)
    trial = experiment("half_rate", ctx, seconds=6, cover="regions")
    expect.add(invariants(trial.observe()))
    expect.add(like_the_reference(trial, ["rate bias", "rate error"], after_s=SETTLED_S, replicas=40))

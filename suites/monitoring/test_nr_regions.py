# SPDX-License-Identifier: GPL-2.0
"""min_nr_regions bounds accuracy from below, max_nr_regions bounds overhead from above: both must hold."""

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx
from damon_tests.scenario.invariants import invariants
from damon_tests.scenario.reference_bands import like_the_reference


@pytest.mark.needs("ops.fvaddr")
@pytest.mark.parametrize(("low", "high"), [(10, 20), (50, 60), (10, 1000)])
def test_number_of_regions_stays_within_its_limits(experiment, expect, low, high):
    """Memory that calls for more regions than allowed stays within
    min_nr_regions and max_nr_regions in every aggregation."""
    attrs = DamonAttrs(min_nr_regions=low, max_nr_regions=high)
    trial = experiment("many_islands", DamonCtx("fvaddr", attrs=attrs), seconds=3, cover="regions")
    expect.add(invariants(trial.observe()))
    expect.add(like_the_reference(trial, ["regions", "rate bias"], after_s=1.0, replicas=40))

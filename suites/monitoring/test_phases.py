# SPDX-License-Identifier: GPL-2.0
"""The hot set moves at known times: reports must follow."""

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx
from damon_tests.scenario.invariants import invariants
from damon_tests.scenario.reference_bands import like_the_reference

pytestmark = pytest.mark.accuracy

ATTRS = DamonAttrs(min_nr_regions=10, max_nr_regions=200)


@pytest.mark.needs("ops.fvaddr")
def test_reports_follow_a_climbing_hot_set(experiment, expect):
    """One step after the other is hot for two seconds: DAMON reports the right step at the right time."""
    ctx = DamonCtx(operations="fvaddr", attrs=ATTRS)
    trial = experiment("stairs", ctx, seconds=7, cover="regions")
    expect.add(invariants(trial.observe()))
    expect.add(like_the_reference(trial, ["precision", "recall"], after_s=1.0, replicas=40))


@pytest.mark.profile("full")
@pytest.mark.needs("ops.vaddr")
def test_reports_follow_two_alternating_mappings(experiment, expect):
    """Two mappings take turns: DAMON reports the one in use hot, and the other one cools down."""
    trial = experiment("zigzag", DamonCtx(attrs=ATTRS), seconds=7)
    expect.add(invariants(trial.observe()))
    expect.add(like_the_reference(trial, ["precision", "recall"], after_s=1.0, replicas=40))

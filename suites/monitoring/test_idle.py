# SPDX-License-Identifier: GPL-2.0
"""Memory that nobody touches and memory that is touched all the time have exact answers."""

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx
from damon_tests.judge.monitoring.all_invariants import full_counts
from damon_tests.judge.monitoring.judged_windows import comparison
from damon_tests.judge.monitoring.metrics import false_hot_bytes
from damon_tests.scenario.invariants import invariants
from damon_tests.scenario.reference_bands import like_the_reference

ATTRS = DamonAttrs(min_nr_regions=10, max_nr_regions=100)


@pytest.mark.needs("ops.fvaddr")
def test_idle_memory_has_no_accesses(experiment, expect):
    """Memory that nobody touches is reported without any access, and grows old."""
    ctx = DamonCtx(operations="fvaddr", attrs=ATTRS)
    observation = experiment("idle", ctx, seconds=3, cover="regions").observe()
    expect.add(invariants(observation, shows=("I25", "I32")))
    # Half a second is granted for accessed bits that were set before monitoring began.
    compared = comparison(observation, after_s=0.5)
    expect.at_most(
        false_hot_bytes(compared, sorted(observation.layout.values())),
        0,
        kind="closed form",
        because="nobody touched this memory",
    )


@pytest.mark.needs("ops.fvaddr")
@pytest.mark.accuracy
def test_memory_always_in_use_has_full_counts(experiment, expect):
    """Memory touched in every sampling interval has full counts wherever the target kept its schedule."""
    ctx = DamonCtx(operations="fvaddr", attrs=ATTRS)
    trial = experiment("everything_hot", ctx, seconds=3, cover="regions")
    observation = trial.observe()
    expect.add(invariants(observation, shows=("I33",)))
    expect.add(full_counts(observation))
    expect.add(like_the_reference(trial, ["recall", "regions"], after_s=1.0, replicas=40))

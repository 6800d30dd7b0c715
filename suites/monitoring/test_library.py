# SPDX-License-Identifier: GPL-2.0
"""Every invariant holds for access patterns of all kinds: moving, bursting, random, huge, on odd memory.

Patterns that no other suite is about. What DAMON reports of them is held against their exact truth: memory
that is not touched is silent and grows old, and nothing is counted more often than it is touched.
"""

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx
from damon_tests.scenario.invariants import invariants

FULL = pytest.mark.profile("full")
NAMES = [
    pytest.param("aliasing", marks=FULL),
    pytest.param("dropped_and_used_again", marks=FULL),
    pytest.param("far_memory", marks=[FULL, pytest.mark.needs(numa_nodes=2)]),
    pytest.param("file_reads", marks=FULL),
    pytest.param("gaussian", marks=FULL),
    "growing_heap",
    pytest.param("growing_mapping", marks=FULL),
    pytest.param("locked_cold", marks=FULL),
    "mapping_churn",
    "moving_hot_spot",
    pytest.param("pointer_chase", marks=FULL),
    pytest.param("shared_memory", marks=FULL),
    pytest.param("short_bursts", marks=FULL),
    pytest.param("slow_drift", marks=FULL),
    pytest.param("small_hot_in_huge_cold", marks=FULL),
    "streaming",
    pytest.param("two_hot_regions", marks=FULL),
    pytest.param("two_threads", marks=FULL),
    pytest.param("weighted_turns", marks=FULL),
    pytest.param("zipf", marks=FULL),
]


@pytest.mark.needs("ops.vaddr", "damon_aggregated")
@pytest.mark.parametrize("name", NAMES)
def test_invariants_hold_for_pattern(experiment, expect, name):
    """A second and a half of the whole process, whose mappings are looked at again every 200 ms."""
    attrs = DamonAttrs(update_us=200_000, min_nr_regions=10, max_nr_regions=200)
    expect.add(invariants(experiment(name, DamonCtx("vaddr", attrs=attrs), seconds=1.5).observe()))

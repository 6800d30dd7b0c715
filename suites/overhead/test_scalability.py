# SPDX-License-Identifier: GPL-2.0
"""DAMON's claim about scale: overhead follows regions and sampling, never the size of the memory."""

import pytest

from damon_tests.judge.cost.scaling import Point, flat, linear, proportional, within_bound
from damon_tests.patterns.load import load
from damon_tests.scenario.cost_runs import check_of_size, monitored_per_second, per_second

pytestmark = [pytest.mark.profile("full"), pytest.mark.needs("ops.fvaddr", instructions=1)]

MIB = 1 << 20
POPULATED_MIB = (16, 64, 512)
RESERVED_MIB = (16, 16 << 10, 1 << 20, 64 << 20)
"""Addresses without memory, up to 64 TiB: as sanitizers and language runtimes reserve them."""

REGIONS = (50, 100, 200, 400)
SAMPLE_US = (10_000, 5_000, 2_500)


@pytest.mark.parametrize(
    ("sizes_mib", "populate"), [(POPULATED_MIB, True), (RESERVED_MIB, False)], ids=["populated", "reserved"]
)
def test_check_costs_the_same_in_memory_of_any_size(backend, expect, sizes_mib, populate):
    """With the same number of regions, a check of 512 MiB (or 64 TiB) costs what one of 16 MiB does."""
    points = [Point(mib * MIB, check_of_size(backend, mib, populate=populate)) for mib in sizes_mib]
    expect.add(flat("instructions of a check", points))


def test_cost_is_linear_in_regions(backend, expect):
    """Each region adds the same to what kdamond executes in a second."""
    points = [Point(count, per_second(backend, count, 5_000)) for count in REGIONS]
    expect.add(linear("instructions of kdamond in a second", points))


def test_cost_is_proportional_to_sampling_rate(backend, expect):
    """Twice as many samples in a second are twice as many instructions."""
    points = [Point(1e6 / sample_us, per_second(backend, 200, sample_us)) for sample_us in SAMPLE_US]
    expect.add(proportional("instructions of kdamond", points))


LIMIT = 100
PATTERNS = ("hot_cold", "many_islands", "zipf", "streaming", "moving_hot_spot")


@pytest.mark.needs("ops.vaddr")
def test_limit_of_regions_bounds_the_cost_of_any_pattern(backend, expect):
    """Whatever a process does, monitoring it costs at most what as many regions as the limit allows do."""
    most = per_second(backend, LIMIT, 5_000)
    costs = {name: monitored_per_second(backend, load(name), LIMIT) for name in PATTERNS}
    expect.add(within_bound("instructions of kdamond in a second", costs, most))

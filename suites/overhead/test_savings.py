# SPDX-License-Identifier: GPL-2.0
"""What schemes are used for: memory saved and pages well placed, at a bounded slowdown of the workload.

Each against the same workload and seed without DAMON; ``damon-tests savings`` prints more figures.
"""

import pytest

from damon_tests.judge.cost.savings import compared
from damon_tests.judge.verdict import Measurement
from damon_tests.patterns.load import load
from damon_tests.scenario.savings import Plan, run
from damon_tests.scenario.savings_patterns import PatternWorkload
from damon_tests.scenario.savings_uses import USES

pytestmark = [pytest.mark.profile("full"), pytest.mark.needs("ops.fvaddr", instructions=1)]

WELL_PLACED = 0.7
"""Of the touched pages, at least: where hot memory ends, a region has idle pages, too, and may be neither."""

LIMIT = 0.02
"""The largest slowdown, that of monitoring alone: what these patterns have paged out is not used again."""


def savings_of(backend, use, pattern, seed=1):
    """Return the runs of each scheme of a use, compared with the run without."""
    plan = Plan((use,), repeats=1, settle_s=6.0, measure_s=1.0)
    work = PatternWorkload(load(pattern))
    return compared([run(backend, plan, use, work, scheme, seed) for scheme in USES[use].schemes])


def slowdown(saving):
    return Measurement(f"slowdown of {saving.workload} with {saving.scheme}", saving.slowdown[0], "fraction")


@pytest.mark.needs("schemes.pageout", swap_mib=256)
def test_proactive_reclaim_saves_idle_memory(backend, expect):
    """Most of a mapping that nobody uses is paged out, and the one in use is not slowed down."""
    (saving,) = savings_of(backend, "reclaim", "reclaim_me")
    m = Measurement("share of the process's memory saved", saving.rss_saved[0], "fraction")
    expect.at_least(m, 0.6, because="32 of its 40 MiB are idle for longer than the scheme's age")
    expect.at_most(slowdown(saving), LIMIT, because="memory in use stays, and is not faulted in again")


@pytest.mark.needs("schemes.hugepage", "schemes.nohugepage", thp_on_advice=1)
def test_huge_pages_by_access_waste_less_memory_than_always(backend, expect):
    """Memory used densely gets huge pages; memory used sparsely, of which they would waste most, does not."""
    always, by_access = savings_of(backend, "hugepage", "dense_and_sparse")
    wasted = Measurement(
        "memory wasted by huge pages by access, of that wasted by huge pages always",
        by_access.rss_saved[0] / always.rss_saved[0],
        "fraction",
    )
    expect.at_most(wasted, 0.2, because="sparse memory is rarely accessed, and gets no advice")
    (arm,) = by_access.arms
    m = Measurement("share of the touched pages in huge pages", arm.shares.huge, "fraction")
    expect.at_least(m, WELL_PLACED, because="nearly all touched pages are in memory used densely")


@pytest.mark.needs("schemes.migrate_hot", "schemes.migrate_cold", numa_nodes=2)
def test_tiering_brings_memory_in_use_near(backend, expect):
    """What is accessed on the far node moves to the processors' node, what is idle stays away from it."""
    (saving,) = savings_of(backend, "tiering", "far_memory")
    (arm,), (without,) = saving.arms, saving.baseline
    m = Measurement("share of the touched pages on the processors' node", arm.shares.near, "fraction")
    expect.at_least(m, WELL_PLACED, because="memory that is accessed is migrated to the near node")
    m = Measurement("bytes on the far node, of those without", arm.far / without.far, "fraction")
    expect.at_least(m, 0.5, because="idle memory stays on the far node")


@pytest.mark.needs("schemes.lru_prio", "schemes.lru_deprio", "ops.paddr", lru_lists=1)
def test_lru_sorting_puts_memory_in_use_on_the_active_list(backend, expect):
    """Memory that was populated once, and is used since, waits on the inactive list until DAMON moves it."""
    (saving,) = savings_of(backend, "lru_sort", "reclaim_me")
    (arm,) = saving.arms
    m = Measurement("share of the touched pages on an active list", arm.shares.active, "fraction")
    expect.at_least(m, WELL_PLACED, because="memory that is accessed all the time is marked as accessed")
    expect.at_most(slowdown(saving), LIMIT, because="sorting lists takes nothing from the workload")

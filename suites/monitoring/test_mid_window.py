# SPDX-License-Identifier: GPL-2.0
"""Between two aggregations: the regions that a split left, and the access rates that schemes see."""

import pytest

from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, Damos
from damon_tests.damon.series import Series
from damon_tests.judge.schemes.merged_counters import merged_counters
from damon_tests.judge.schemes.moving_values import moving_values
from damon_tests.judge.schemes.split_growth import growth_follows, memory_stays
from damon_tests.patterns.load import load
from damon_tests.scenario.watched_run import checks, passes_of, watched

pytestmark = pytest.mark.needs(
    "schemes.stat", "schemes.apply_interval_us", "damon_aggregated", "damos_before_apply"
)

# Each of 60 regions of it is large enough to be split at any tenth of its size.
IDLE = load("many_idle_pages")


@pytest.mark.needs("ops.fvaddr")
@pytest.mark.parametrize("pattern", ["hot_cold", "half_rate"])
def test_moving_value_is_the_counter_and_a_share_of_the_last(live, expect, pattern):
    """In each sample the access rate is the counter so far and a share of the last one (I22, I24)."""
    attrs = DamonAttrs(10_000, 100_000, min_nr_regions=5, max_nr_regions=20)
    ctx = DamonCtx("fvaddr", attrs=attrs, schemes=(Damos("stat", ANY, apply_interval_us=10_000),))
    with watched(live, pattern, ctx) as run:
        if not Series.of(run.level).computes_moving_values_exactly:
            pytest.skip("before 7.3 the sum is kept incrementally, and rounded in each sample")
        run.record(1.5, aggregations=10)
    expect.add(checks(run))
    expect.add(moving_values(passes_of(run), run.ctx))


@pytest.mark.needs("ops.fvaddr", memory_mib=4 * IDLE.regions[0].size_bytes >> 20)
@pytest.mark.parametrize(("least", "most"), [(10, 100), (60, 100), (20, 40)])
def test_split_grows_the_number_of_regions_as_documented(live, expect, least, most):
    """Up to half of max_nr_regions a split doubles the regions, above that it fills up (I16, I17)."""
    attrs = DamonAttrs(10_000, 100_000, min_nr_regions=least, max_nr_regions=most)
    ctx = DamonCtx("fvaddr", attrs=attrs, schemes=(Damos("stat", ANY, apply_interval_us=50_000),))
    with watched(live, IDLE, ctx) as run:
        run.record(1.5, aggregations=10)
    expect.add(growth_follows(passes_of(run), run.ctx, Series.of(run.level)))


@pytest.mark.needs("ops.fvaddr")
def test_merged_regions_have_the_mean_count_of_their_parts(live, expect):
    """What is merged at an aggregation has the mean count of its parts, weighted by size (I23)."""
    # A hundred samples a window: counts of regions that are merged differ by up to ten.
    attrs = DamonAttrs(5_000, 500_000, min_nr_regions=10, max_nr_regions=80)
    ctx = DamonCtx("fvaddr", attrs=attrs, schemes=(Damos("stat", ANY, apply_interval_us=5_000),))
    with watched(live, "graded", ctx) as run:
        run.record(4, aggregations=8)
    expect.add(checks(run))
    expect.add(merged_counters(passes_of(run), run.ctx, run.level))


@pytest.mark.needs("ops.vaddr")
def test_regions_of_a_process_keep_its_memory(live, expect):
    """Until the mappings are read again, splits and merges keep the memory of vaddr, too (I5, I18)."""
    attrs = DamonAttrs(10_000, 100_000, min_nr_regions=10, max_nr_regions=60)
    ctx = DamonCtx("vaddr", attrs=attrs, schemes=(Damos("stat", ANY, apply_interval_us=50_000),))
    with watched(live, "hot_cold", ctx, cover="process") as run:
        run.record(1.5, aggregations=10)
    expect.add(memory_stays(passes_of(run)))

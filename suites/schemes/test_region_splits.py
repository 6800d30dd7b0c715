# SPDX-License-Identifier: GPL-2.0
"""Schemes cut regions to fit their quotas; the parts must be merged again."""

import pytest

from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, Damos, DamosQuota
from damon_tests.damon.series import Series
from damon_tests.judge.schemes.age_resets import ages_after_passes
from damon_tests.judge.schemes.split_growth import schemes_add_few
from damon_tests.judge.schemes.stats import stats_after_passes
from damon_tests.judge.verdict import Measurement
from damon_tests.ports import page_size
from damon_tests.scenario.invariants import invariants
from damon_tests.scenario.watched_run import (
    passes_of,
    watched,
)

pytestmark = pytest.mark.needs(
    "ops.fvaddr", "schemes.stat", "schemes.apply_interval_us", "damon_aggregated", "damos_before_apply"
)

MIB = 1 << 20
ATTRS = DamonAttrs(10_000, 200_000, min_nr_regions=8, max_nr_regions=40)


@pytest.mark.parametrize("action", ["stat", pytest.param("willneed", marks=pytest.mark.profile("full"))])
def test_regions_cut_by_quotas_are_merged_back(live, expect, action):
    """However often quotas cut regions, equal neighbours are one region after each pass; memory that was
    acted on differs from the rest of its region by its age."""
    quota = DamosQuota(bytes=5 * MIB + page_size(), reset_interval_ms=1)
    schemes = (
        Damos("stat", ANY, apply_interval_us=20_000),
        Damos(action, ANY, apply_interval_us=20_000, quota=quota),
    )
    ctx = DamonCtx("fvaddr", attrs=ATTRS, schemes=schemes)
    with watched(live, "idle", ctx) as run:
        run.record(1.2, aggregations=5)
    passes = passes_of(run)
    cuts = sum(v.region.end not in {t.end for t in v.tried} for p in passes for v in p.visits if v.tried)
    expect.at_least(
        Measurement("regions cut", cuts, "count"), 5, because="the quota ends within a region in each window"
    )
    expect.add(invariants(run))
    expect.add(schemes_add_few(passes, run.ctx))
    expect.add(stats_after_passes(passes, run.ctx, run.level))
    if Series.of(run.level).merges_quota_splits_back:  # else what was cut is merged at aggregations only
        expect.add(ages_after_passes(passes, run.ctx, run.level, idle=True))

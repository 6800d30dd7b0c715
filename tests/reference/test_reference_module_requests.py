# SPDX-License-Identifier: GPL-2.0
"""DAMON_RECLAIM and DAMON_LRU_SORT derive requests from their parameters, and refuse bad ones."""

from __future__ import annotations

import pytest
from reference_support import MIB, Parameters, idle_box

from damon_tests.damon.params import (
    U32_MAX,
    U64_MAX,
    Damos,
    DamosAccessPattern,
    DamosFilter,
    DamosQuota,
    DamosQuotaGoal,
    DamosWatermarks,
)
from damon_tests.ports import TreeError, page_size


def test_reclaim_scheme_follows_the_parameters():
    """All of it, from parameters that all differ from each other and from their defaults."""
    box = idle_box()
    reclaim = Parameters(box, "reclaim")
    values = {
        "min_age": 1_300_000,
        "quota_ms": 11,
        "quota_sz": 12 * MIB,
        "quota_reset_interval_ms": 1300,
        "quota_mem_pressure_us": 1400,
        "quota_autotune_feedback": 5000,
        "wmarks_interval": 1_500_000,
        "wmarks_high": 900,
        "wmarks_mid": 800,
        "wmarks_low": 700,
        "skip_anon": "Y",
    }
    for name, value in values.items():
        reclaim[name] = value
    pressure = DamosQuotaGoal("some_mem_psi_us", target_value=1400)
    feedback = DamosQuotaGoal("user_input", target_value=10_000, current_value=5000)
    quota = DamosQuota(11, 12 * MIB, 1300, weight_age_permil=1, goals=(pressure, feedback))
    wanted = Damos(
        "pageout",
        DamosAccessPattern(page_size(), U64_MAX, 0, 0, 13, U32_MAX),
        quota=quota,
        watermarks=DamosWatermarks("free_mem_rate", 1_500_000, 900, 800, 700),
        filters=(DamosFilter("anon", matching=True, allow=False),),
    )
    ctx = box.tree.modules["damon_reclaim"].request()
    assert ctx.schemes == (wanted,)
    assert (ctx.operations, ctx.attrs.update_us, ctx.targets[0].regions) == (
        "paddr",
        0,
        ((page_size(), 128 * MIB),),
    )


def test_lru_sort_schemes_follow_the_parameters():
    box = idle_box()
    sort = Parameters(box, "lru_sort")
    values = {
        "hot_thres_access_freq": 250,
        "cold_min_age": 1_300_000,
        "quota_ms": 21,
        "quota_reset_interval_ms": 1300,
        "wmarks_interval": 1_500_000,
        "wmarks_high": 900,
        "wmarks_mid": 800,
        "wmarks_low": 700,
    }
    for name, value in values.items():
        sort[name] = value
    common = {
        "quota": DamosQuota(10, 0, 1300, weight_nr_accesses_permil=1, weight_age_permil=1),
        "watermarks": DamosWatermarks("free_mem_rate", 1_500_000, 900, 800, 700),
    }
    hot = DamosAccessPattern(page_size(), U64_MAX, 5, U32_MAX, 0, U32_MAX)
    cold = DamosAccessPattern(page_size(), U64_MAX, 0, 0, 13, U32_MAX)
    assert box.tree.modules["damon_lru_sort"].request().schemes == (
        Damos("lru_prio", hot, **common),
        Damos("lru_deprio", cold, **common),
    )


def test_the_region_is_in_units_and_begins_at_a_page():
    box = idle_box()
    reclaim = Parameters(box, "reclaim")
    reclaim["addr_unit"] = 16
    reclaim["monitor_region_start"] = (MIB + page_size()) // 16
    reclaim["monitor_region_end"] = 2 * MIB // 16
    reclaim["enabled"] = "Y"
    kdamond = box.tree.modules["damon_reclaim"].kdamond
    assert kdamond is not None
    assert kdamond.ctx.regions.ranges()[0][0] * 16 == MIB + page_size()
    assert kdamond.ctx.regions.ranges()[-1][1] * 16 == 2 * MIB


def test_autotuning_sets_an_intervals_goal():
    box = idle_box()
    reclaim = Parameters(box, "reclaim")
    reclaim["sample_interval"] = 7
    reclaim["autotune_monitoring_intervals"] = "Y"
    attrs = box.tree.modules["damon_reclaim"].request().attrs
    assert (attrs.sample_us, attrs.aggr_us, attrs.intervals_goal.access_bp) == (5_000, 100_000, 40)


def test_lru_sort_autotuning_adds_goals_and_young_filters():
    box = idle_box()
    sort = Parameters(box, "lru_sort")
    sort["active_mem_bp"] = 6000
    sort["filter_young_pages"] = "Y"
    hot, cold = box.tree.modules["damon_lru_sort"].request().schemes
    goals = [(g.target_metric, g.target_value) for scheme in (hot, cold) for g in scheme.quota.goals]
    assert goals == [("active_mem_bp", 6000), ("inactive_mem_bp", 4002)]
    assert [(f.type, f.matching, f.allow) for s in (hot, cold) for f in s.filters] == [
        ("young", False, False),
        ("young", True, False),
    ]


AUTOTUNED = {"autotune_monitoring_intervals": "Y"}


@pytest.mark.parametrize(
    ("module", "values", "refused"),
    [
        ("reclaim", {"aggr_interval": 0}, True),
        ("reclaim", {"aggr_interval": 0, **AUTOTUNED}, True),
        ("reclaim", {"sample_interval": 0}, False),
        ("reclaim", {"sample_interval": 0, **AUTOTUNED}, False),
        ("reclaim", {"min_nr_regions": 2}, True),
        ("reclaim", {"monitor_region_start": 1 << 40}, True),
        ("reclaim", {"monitor_region_start": 2 * page_size(), "monitor_region_end": 2 * page_size()}, True),
        ("reclaim", {"monitor_region_start": 5000, "monitor_region_end": 5000}, False),
        ("lru_sort", {"sample_interval": 0}, True),
        ("lru_sort", {"sample_interval": 0, **AUTOTUNED}, True),
        ("lru_sort", {"aggr_interval": 0}, True),
        ("lru_sort", {"aggr_interval": 0, **AUTOTUNED}, False),
        ("lru_sort", {"active_mem_bp": 10_001}, True),
    ],
)
def test_enabling_refuses_what_the_kernel_refuses(module, values, refused):
    """As 7.3.4 answers: an interval that a module divides by counts although another one is used."""
    box = idle_box()
    parameters = Parameters(box, module)
    for name, value in values.items():
        parameters[name] = value
    if refused:
        with pytest.raises(TreeError, match="EINVAL"):
            parameters["enabled"] = "Y"
    else:
        parameters["enabled"] = "Y"
    assert parameters["enabled"] == ("N" if refused else "Y")

# SPDX-License-Identifier: GPL-2.0
"""Derive the requests of the modules from their parameters (specification §6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from damon_tests.damon.params import (
    U32_MAX,
    U64_MAX,
    DamonAttrs,
    DamonCtx,
    DamonIntervalsGoal,
    DamonTarget,
    Damos,
    DamosAccessPattern,
    DamosFilter,
    DamosQuota,
    DamosQuotaGoal,
    DamosWatermarks,
)
from damon_tests.ports import page_size
from damon_tests.ports.ranges import Range
from damon_tests.reference.core.context import check_attrs
from damon_tests.reference.rules.errors import invalid
from damon_tests.reference.rules.monitoring import BP
from damon_tests.reference.rules.ruleset import Rules
from damon_tests.reference.sysfs.formats import Value

Parameters = Mapping[str, Value]

AUTOTUNED = DamonIntervalsGoal(access_bp=40, aggrs=3, min_sample_us=5_000, max_sample_us=10_000_000)
STAT_GOAL = DamonIntervalsGoal(access_bp=400, aggrs=3, min_sample_us=5_000, max_sample_us=10_000_000)


def _number(values: Parameters, name: str, default: int = 0) -> int:
    return int(values.get(name, default))


def attrs_of(values: Parameters, needed: str) -> DamonAttrs:
    """Return the monitoring attributes; operations are updated at every sample, which paddr ignores.

    ``needed``: the interval that must not be 0, even where tuned ones are used instead. Raises CoreError.
    """
    if not _number(values, needed):
        raise invalid(f"{needed} is 0")
    limits = (_number(values, "min_nr_regions"), _number(values, "max_nr_regions"))
    if values.get("autotune_monitoring_intervals"):
        attrs = DamonAttrs(5_000, 100_000, 0, AUTOTUNED, *limits)
    else:
        sample, aggr = _number(values, "sample_interval"), _number(values, "aggr_interval")
        attrs = DamonAttrs(sample, aggr, 0, DamonIntervalsGoal(), *limits)
    check_attrs(attrs)
    return attrs


def monitored_range(values: Parameters, ram: Sequence[Range], rules: Rules) -> Range:
    """Return the given region, or the default over system RAM, in core address units.

    An empty one is refused later, after alignment.
    """
    start, end = _number(values, "monitor_region_start"), _number(values, "monitor_region_end")
    if start > end:
        raise invalid("monitor_region_start is above monitor_region_end")
    if start or end:
        return start, end
    low, high = rules.default_ram_range(ram)
    unit = _number(values, "addr_unit", 1)
    return low // unit, high // unit


def _watermarks(values: Parameters) -> DamosWatermarks:
    names = ("wmarks_interval", "wmarks_high", "wmarks_mid", "wmarks_low")
    return DamosWatermarks("free_mem_rate", *(_number(values, name) for name in names))


def _ctx(values: Parameters, attrs: DamonAttrs, region: Range, schemes: tuple[Damos, ...]) -> DamonCtx:
    unit = _number(values, "addr_unit", 1)
    return DamonCtx("paddr", unit, False, attrs, (DamonTarget(0, (region,)),), schemes)


def reclaim(values: Parameters, ram: Sequence[Range], rules: Rules) -> DamonCtx:
    """Derive DAMON_RECLAIM: page out what was not accessed for ``min_age``. Raises CoreError."""
    attrs = attrs_of(values, "aggr_interval")
    goals = []
    if pressure := _number(values, "quota_mem_pressure_us"):
        goals.append(DamosQuotaGoal("some_mem_psi_us", pressure))
    if feedback := _number(values, "quota_autotune_feedback"):
        goals.append(DamosQuotaGoal("user_input", BP, feedback))
    quota = DamosQuota(
        ms=_number(values, "quota_ms"),
        bytes=_number(values, "quota_sz"),
        reset_interval_ms=_number(values, "quota_reset_interval_ms"),
        weight_age_permil=1,
        goals=tuple(goals),
    )
    skip = (DamosFilter("anon", matching=True, allow=False),) if values.get("skip_anon") else ()
    scheme = Damos(
        action="pageout",
        access_pattern=DamosAccessPattern(
            page_size(), U64_MAX, 0, 0, _number(values, "min_age") // attrs.aggr_us, U32_MAX
        ),
        quota=quota,
        watermarks=_watermarks(values),
        filters=skip,
    )
    return _ctx(values, attrs, monitored_range(values, ram, rules), (scheme,))


def lru_sort(values: Parameters, ram: Sequence[Range], rules: Rules) -> DamonCtx:
    """Derive DAMON_LRU_SORT: hot memory to the active list, cold memory off it. Raises CoreError."""
    attrs = attrs_of(values, "sample_interval")
    active_bp = _number(values, "active_mem_bp")
    if active_bp > BP:
        raise invalid("active_mem_bp is larger than 10000")
    hot_threshold = attrs.samples_per_aggr * _number(values, "hot_thres_access_freq") // 1000
    hot = DamosAccessPattern(page_size(), U64_MAX, hot_threshold, U32_MAX, 0, U32_MAX)
    cold_age = _number(values, "cold_min_age") // attrs.aggr_us
    cold = DamosAccessPattern(page_size(), U64_MAX, 0, 0, cold_age, U32_MAX)
    schemes = (
        _sorting(values, "lru_prio", hot, "active_mem_bp", active_bp, matching=False),
        _sorting(values, "lru_deprio", cold, "inactive_mem_bp", BP - active_bp + 2, matching=True),
    )
    return _ctx(values, attrs, monitored_range(values, ram, rules), schemes)


def _sorting(
    values: Parameters, action: str, pattern: DamosAccessPattern, metric: str, wanted: int, matching: bool
) -> Damos:
    goals = (DamosQuotaGoal(metric, wanted),) if _number(values, "active_mem_bp") else ()
    quota = DamosQuota(
        ms=_number(values, "quota_ms") // 2,
        reset_interval_ms=_number(values, "quota_reset_interval_ms"),
        weight_nr_accesses_permil=1,
        weight_age_permil=1,
        goals=goals,
    )
    young = (DamosFilter("young", matching, allow=False),) if values.get("filter_young_pages") else ()
    return Damos(
        action=action, access_pattern=pattern, quota=quota, watermarks=_watermarks(values), filters=young
    )


def stat(values: Parameters, ram: Sequence[Range], rules: Rules) -> DamonCtx:
    """Derive DAMON_STAT: watch all of RAM (up to 7.1 its largest part) with tuned intervals, and do
    nothing."""
    attrs = DamonAttrs(intervals_goal=STAT_GOAL)
    return _ctx({}, attrs, rules.default_ram_range(ram), ())

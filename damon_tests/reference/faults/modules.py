# SPDX-License-Identifier: GPL-2.0
"""Wrong behaviour of DAMON_RECLAIM, DAMON_LRU_SORT and DAMON_STAT."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from damon_tests.damon.params import U32_MAX, DamonCtx, DamonIntervalsGoal, Damos, DamosWatermarks
from damon_tests.ports import page_size
from damon_tests.ports.ranges import Range
from damon_tests.reference.faults.fault import Fault
from damon_tests.reference.rules import modules
from damon_tests.reference.rules import schemes as damos


def _one_byte_short(ram: Sequence[Range]) -> Range:
    start, end = damos.whole_ram(ram)
    return start, end - 1


def _schemes(change: Callable[[int, Damos], Damos], *names: str) -> Callable[[str, DamonCtx], DamonCtx]:
    """A request of these modules with each scheme changed."""

    def wrong(module: str, ctx: DamonCtx) -> DamonCtx:
        if module not in names:
            return ctx
        return replace(ctx, schemes=tuple(change(i, scheme) for i, scheme in enumerate(ctx.schemes)))

    return wrong


def _reclaim(**changed: Any) -> Callable[[str, DamonCtx], DamonCtx]:
    return _schemes(lambda _, scheme: replace(scheme, **changed), "damon_reclaim")


def _pattern(index: int, *modules_: str, **changed: Any) -> Callable[[str, DamonCtx], DamonCtx]:
    def change(number: int, scheme: Damos) -> Damos:
        if number != index:
            return scheme
        return replace(scheme, access_pattern=replace(scheme.access_pattern, **changed))

    return _schemes(change, *modules_)


def _quota(*modules_: str, **changed: Any) -> Callable[[str, DamonCtx], DamonCtx]:
    return _schemes(lambda _, s: replace(s, quota=replace(s.quota, **changed)), *modules_)


def _without_goal(metric: str, module: str) -> Callable[[str, DamonCtx], DamonCtx]:
    def change(_: int, scheme: Damos) -> Damos:
        goals = tuple(g for g in scheme.quota.goals if g.target_metric != metric)
        return replace(scheme, quota=replace(scheme.quota, goals=goals))

    return _schemes(change, module)


def _attrs(**changed: Any) -> Callable[[str, DamonCtx], DamonCtx]:
    def wrong(module: str, ctx: DamonCtx) -> DamonCtx:
        return ctx if module == "damon_stat" else replace(ctx, attrs=replace(ctx.attrs, **changed))

    return wrong


def _from_the_start_of_ram(module: str, ctx: DamonCtx) -> DamonCtx:
    if module == "damon_stat":
        return ctx
    ((_, end),) = ctx.targets[0].regions
    return replace(ctx, targets=(replace(ctx.targets[0], regions=((page_size(), end),)),))


def _from_a_multiple_of_units(module: str, ctx: DamonCtx) -> DamonCtx:
    ((start, end),) = ctx.targets[0].regions
    region = (start // page_size() * page_size(), end)
    return replace(ctx, targets=(replace(ctx.targets[0], regions=(region,)),))


def _actions_swapped(index: int, scheme: Damos) -> Damos:
    return replace(scheme, action="lru_deprio" if index == 0 else "lru_prio")


def _late_percentiles(sizes: Sequence[int], idle_ms: Sequence[int], count: int = 101) -> list[int]:
    right = modules.idle_percentiles(sizes, idle_ms, count)
    return right[10:] + right[-1:] * 10


def _unweighted_percentiles(sizes: Sequence[int], idle_ms: Sequence[int], count: int = 101) -> list[int]:
    return modules.idle_percentiles([1] * len(sizes), idle_ms, count)


def _unsorted_percentiles(sizes: Sequence[int], idle_ms: Sequence[int], count: int = 101) -> list[int]:
    return modules.idle_percentiles(sizes, idle_ms, count)[::-1]


_SCHEMED = ("damon_reclaim", "damon_lru_sort")


def _fault(name: str, imitates: str, rule: str, wrong: Any) -> Fault:
    return Fault(name, "modules", imitates, rule, wrong)


def _wrong_request(name: str, imitates: str, wrong: Callable[[str, DamonCtx], DamonCtx]) -> Fault:
    return _fault(name, imitates, "module_request", wrong)


_RECLAIM = (
    _wrong_request(
        "reclaim_inert",
        "DAMON_RECLAIM runs without its scheme (6.12)",
        lambda module, ctx: replace(ctx, schemes=()) if module == "damon_reclaim" else ctx,
    ),
    _wrong_request(
        "reclaim_takes_hot",
        "memory in use is reclaimed, too",
        _pattern(0, "damon_reclaim", nr_accesses_max=U32_MAX),
    ),
    _wrong_request(
        "reclaim_ignores_min_age",
        "anything idle is reclaimed at once",
        _pattern(0, "damon_reclaim", age_min=0),
    ),
    _wrong_request(
        "reclaim_min_age_in_samples",
        "min_age is divided by the sampling interval: cold memory stays for long",
        _schemes(
            lambda _, s: replace(
                s, access_pattern=replace(s.access_pattern, age_min=20 * s.access_pattern.age_min)
            ),
            "damon_reclaim",
        ),
    ),
    _wrong_request("reclaim_ignores_quota_sz", "quota_sz has no effect", _quota("damon_reclaim", bytes=0)),
    _wrong_request("module_ignores_quota_ms", "quota_ms has no effect", _quota(*_SCHEMED, ms=0)),
    _wrong_request(
        "module_ignores_reset_interval",
        "quotas start anew at each aggregation",
        _quota(*_SCHEMED, reset_interval_ms=0),
    ),
    _wrong_request(
        "module_ignores_watermarks",
        "modules work however much memory is free",
        _schemes(lambda _, s: replace(s, watermarks=DamosWatermarks()), *_SCHEMED),
    ),
    _wrong_request(
        "module_without_hysteresis",
        "wmarks_mid has no effect: modules wake up as soon as less than wmarks_high is free",
        _schemes(lambda _, s: replace(s, watermarks=replace(s.watermarks, mid=s.watermarks.high)), *_SCHEMED),
    ),
    _wrong_request(
        "reclaim_any_age_first",
        "the quota goes to what lies lowest, not to what is oldest",
        _quota("damon_reclaim", weight_age_permil=0),
    ),
    _wrong_request("reclaim_ignores_skip_anon", "anonymous memory is reclaimed anyway", _reclaim(filters=())),
    _wrong_request(
        "reclaim_skips_all_but_anon",
        "skip_anon spares what is not anonymous",
        _schemes(
            lambda _, s: replace(s, filters=tuple(replace(f, matching=not f.matching) for f in s.filters)),
            "damon_reclaim",
        ),
    ),
    _wrong_request(
        "reclaim_ignores_pressure",
        "quota_mem_pressure_us has no effect",
        _without_goal("some_mem_psi_us", "damon_reclaim"),
    ),
    _wrong_request(
        "reclaim_ignores_feedback",
        "quota_autotune_feedback has no effect",
        _without_goal("user_input", "damon_reclaim"),
    ),
)

_LRU_SORT = (
    _wrong_request(
        "lru_sort_actions_swapped",
        "hot memory goes to the tail, cold memory to the head",
        _schemes(_actions_swapped, "damon_lru_sort"),
    ),
    _wrong_request(
        "lru_sort_ignores_hot_threshold",
        "any access makes memory hot",
        _pattern(0, "damon_lru_sort", nr_accesses_min=1),
    ),
    _wrong_request(
        "lru_sort_nothing_is_hot",
        "the threshold is above what can be counted",
        _pattern(0, "damon_lru_sort", nr_accesses_min=1 << 20),
    ),
    _wrong_request(
        "lru_sort_ignores_cold_min_age",
        "memory is cold as soon as it rests",
        _pattern(1, "damon_lru_sort", age_min=0),
    ),
    _wrong_request(
        "lru_sort_cold_never_sleeps",
        "watermarks hold back the hot scheme only",
        _schemes(
            lambda i, s: replace(s, watermarks=DamosWatermarks()) if i else s,
            "damon_lru_sort",
        ),
    ),
    _wrong_request(
        "lru_sort_quota_doubled",
        "each of the two schemes gets the whole quota_ms",
        _schemes(lambda _, s: replace(s, quota=replace(s.quota, ms=2 * s.quota.ms)), "damon_lru_sort"),
    ),
    _wrong_request(
        "lru_sort_ignores_active_mem_bp",
        "active_mem_bp has no effect",
        _quota("damon_lru_sort", goals=()),
    ),
    _wrong_request(
        "lru_sort_ignores_filter_young",
        "filter_young_pages has no effect",
        _schemes(lambda _, s: replace(s, filters=()), "damon_lru_sort"),
    ),
)

_ANY = (
    _wrong_request("module_ignores_region", "monitor_region_start has no effect", _from_the_start_of_ram),
    _wrong_request(
        "module_ignores_intervals",
        "sample_interval and aggr_interval have no effect",
        _attrs(sample_us=5_000, aggr_us=100_000),
    ),
    _wrong_request(
        "module_ignores_nr_regions",
        "min_nr_regions and max_nr_regions have no effect",
        _attrs(min_nr_regions=10, max_nr_regions=1_000),
    ),
    _wrong_request(
        "module_never_autotunes",
        "autotune_monitoring_intervals has no effect",
        _attrs(intervals_goal=DamonIntervalsGoal()),
    ),
    _fault(
        "module_ram_one_byte_short",
        "the default range misses the last byte (7.0 and older)",
        "default_ram_range",
        _one_byte_short,
    ),
    _fault(
        "module_biggest_ram_only",
        "only the largest RAM resource is monitored (7.1 and older)",
        "default_ram_range",
        damos.biggest_ram,
    ),
    _fault(
        "module_region_not_told", "the range that was found is not written back", "module_writes_back", False
    ),
    _wrong_request(
        "module_region_in_units",
        "with another addr_unit the region begins at a multiple of 4096 units (6.18)",
        _from_a_multiple_of_units,
    ),
    _fault(
        "module_reads_late",
        "parameters are read, and statistics shown, after aggregations only (6.16 and older)",
        "module_waits_for_aggregation",
        True,
    ),
    _fault(
        "module_ends_at_invalid_inputs",
        "commit_inputs of invalid parameters ends the module (6.16 and older)",
        "invalid_inputs_end_module",
        True,
    ),
    _fault("module_enable_no_effect", "enabled takes Y, and nothing starts", "module_starts", False),
    _fault("module_disable_no_effect", "enabled takes N, and the thread goes on", "module_stops", False),
    _fault(
        "module_enable_again_fails",
        "writing Y to a module that is on fails",
        "module_enabled_again",
        errno.EBUSY,
    ),
    _fault("module_starts_beside_others", "a module starts while kdamonds run", "module_asks_first", False),
    _fault("module_shares", "kdamonds may be turned on beside a module", "module_is_exclusive", False),
    _fault(
        "module_forgets_counters",
        "turned on again, a module counts from 0",
        "module_schemes_live_on",
        False,
    ),
    _fault("module_pid_hidden", "kdamond_pid stays -1", "module_pid", lambda pid, running: -1),
    _fault("module_pid_stale", "kdamond_pid outlives the thread", "module_pid", lambda pid, running: pid),
    _fault("module_stats_stale", "statistics stay 0", "module_statistic", lambda name: ""),
    _fault(
        "module_stats_swapped",
        "tried and applied bytes are swapped",
        "module_statistic",
        lambda name: {"sz_tried": "sz_applied", "sz_applied": "sz_tried"}.get(name, name),
    ),
    _fault(
        "module_counts_snapshots",
        "the number of tried regions counts passes",
        "module_statistic",
        lambda name: "nr_snapshots" if name == "nr_tried" else name,
    ),
    _fault("commit_inputs_not_read", "commit_inputs applies the old values", "commit_inputs_reads", False),
    _fault(
        "commit_inputs_silent",
        "invalid inputs are accepted silently (7.1 and older)",
        "commit_inputs_answers",
        False,
    ),
)

_STAT = (
    _fault(
        "stat_idle_unsigned",
        "accessed memory is reported as idle (6.17)",
        "stat_idle_ms",
        damos.stat_idle_ms_6_17,
    ),
    _fault(
        "stat_idle_from_zero",
        "idle times are an aggregation interval short",
        "stat_idle_ms",
        lambda age, aggr_us, accessed: damos.stat_idle_ms(age - 1, aggr_us, accessed),
    ),
    _fault(
        "stat_percentiles_shifted", "percentile p is that of p + 10", "stat_percentiles", _late_percentiles
    ),
    _fault(
        "stat_percentiles_unweighted",
        "percentiles count regions, not bytes",
        "stat_percentiles",
        _unweighted_percentiles,
    ),
    _fault("stat_percentiles_reversed", "percentiles descend", "stat_percentiles", _unsorted_percentiles),
    _fault(
        "stat_bandwidth_doubled",
        "the bandwidth is twice what was seen",
        "stat_bandwidth",
        lambda accessed, aggr_us: 2 * modules.bandwidth(accessed, aggr_us),
    ),
    _fault(
        "stat_bandwidth_per_ms",
        "the bandwidth is shown in bytes per ms",
        "stat_bandwidth",
        lambda accessed, aggr_us: modules.bandwidth(accessed, aggr_us) // 1000,
    ),
    _fault("stat_never_refreshed", "results stay as they were at first", "stat_refresh_ns", 1 << 60),
    _fault("stat_always_refreshed", "results change after every sample", "stat_refresh_ns", 0),
    _wrong_request(
        "stat_never_tunes",
        "intervals of DAMON_STAT are not tuned",
        lambda module, ctx: (
            replace(ctx, attrs=replace(ctx.attrs, intervals_goal=DamonIntervalsGoal()))
            if module == "damon_stat"
            else ctx
        ),
    ),
)

FAULTS = (*_RECLAIM, *_LRU_SORT, *_ANY, *_STAT)

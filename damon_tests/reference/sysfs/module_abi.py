# SPDX-License-Identifier: GPL-2.0
"""Parameters of DAMON_RECLAIM, DAMON_LRU_SORT and DAMON_STAT as a table (specification §6)."""

from __future__ import annotations

from damon_tests.reference.rules.modules import PERCENTILES
from damon_tests.reference.rules.tree import Version
from damon_tests.reference.sysfs.abi import OLDEST, FileSpec
from damon_tests.reference.sysfs.formats import BOOL, INT, PATH, ULONG, ULONG_NONZERO, Value

NO_PERCENTILES = ",".join(["0"] * PERCENTILES)


def _number(name: str, default: int, since: Version = OLDEST) -> FileSpec:
    return FileSpec(name, ULONG, default, since)


def _flag(name: str, since: Version = OLDEST) -> FileSpec:
    return FileSpec(name, BOOL, False, since)


def _stat(name: str, since: Version = OLDEST, default: Value = 0) -> FileSpec:
    return FileSpec(name, ULONG, default, since, 0o400)


# What the modules with schemes have in common; ``enabled`` and the like are connected in modules.py.
_COMMON = (
    _flag("enabled"),
    _flag("commit_inputs"),
    FileSpec("kdamond_pid", INT, -1, mode=0o400),
    FileSpec("addr_unit", ULONG_NONZERO, 1, (6, 18)),
    _number("sample_interval", 5_000),
    _number("aggr_interval", 100_000),
    _number("min_nr_regions", 10),
    _number("max_nr_regions", 1_000),
    _number("monitor_region_start", 0),
    _number("monitor_region_end", 0),
    _number("quota_ms", 10),
    _number("quota_reset_interval_ms", 1_000),
    _number("wmarks_interval", 5_000_000),
)

RECLAIM = (
    *_COMMON,
    _number("wmarks_high", 500),
    _number("wmarks_mid", 400),
    _number("wmarks_low", 200),
    _number("min_age", 120_000_000),
    _number("quota_sz", 128 << 20),
    _number("quota_mem_pressure_us", 0, (6, 9)),
    _number("quota_autotune_feedback", 0, (6, 9)),
    _flag("skip_anon", (6, 3)),
    _flag("autotune_monitoring_intervals", (7, 2)),
    _stat("nr_reclaim_tried_regions"),
    _stat("bytes_reclaim_tried_regions"),
    _stat("nr_reclaimed_regions"),
    _stat("bytes_reclaimed_regions"),
    _stat("nr_quota_exceeds"),
)

LRU_SORT = (
    *_COMMON,
    _number("wmarks_high", 200),
    _number("wmarks_mid", 150),
    _number("wmarks_low", 50),
    _number("hot_thres_access_freq", 500),
    _number("cold_min_age", 120_000_000),
    _number("active_mem_bp", 0, (7, 0)),
    _flag("filter_young_pages", (7, 0)),
    _flag("autotune_monitoring_intervals", (7, 0)),
    *(
        _stat(name.format(kind))
        for kind in ("hot", "cold")
        for name in (
            "nr_lru_sort_tried_{}_regions",
            "bytes_lru_sort_tried_{}_regions",
            "nr_lru_sorted_{}_regions",
            "bytes_lru_sorted_{}_regions",
            "nr_{}_quota_exceeds",
        )
    ),
)

STAT = (
    _flag("enabled"),
    FileSpec("kdamond_pid", INT, -1, (7, 2), 0o400),
    _stat("estimated_memory_bandwidth"),
    FileSpec("memory_idle_ms_percentiles", PATH, NO_PERCENTILES, mode=0o400),
    _stat("aggr_interval_us", (6, 18)),
)

MODULES: dict[str, tuple[Version, tuple[FileSpec, ...]]] = {
    "damon_reclaim": ((5, 16), RECLAIM),
    "damon_lru_sort": ((6, 0), LRU_SORT),
    "damon_stat": ((6, 17), STAT),
}

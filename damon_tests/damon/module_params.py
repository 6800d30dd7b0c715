# SPDX-License-Identifier: GPL-2.0
"""The parameters of the built-in modules, as frozen values.

Fields are named after the files in ``/sys/module/damon_*/parameters/``; defaults are the kernel's
(specification §6). ``SINCE`` has the kernel series of parameters that were added later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class DamonReclaim:
    """DAMON_RECLAIM: page out memory that was not accessed for ``min_age`` µs.

    Quotas ``quota_ms``, ``quota_sz`` (bytes) per ``quota_reset_interval_ms``; watermarks in 1/1000 of memory
    that is free, checked every ``wmarks_interval`` µs; ``sample_interval`` and ``aggr_interval`` in µs;
    the region 0 to 0 means all System RAM.
    """

    MODULE: ClassVar[str] = "damon_reclaim"
    SINCE: ClassVar[Mapping[str, str]] = {
        "skip_anon": "6.3",
        "quota_mem_pressure_us": "6.9",
        "quota_autotune_feedback": "6.9",
        "addr_unit": "6.18",
        "autotune_monitoring_intervals": "7.2",
    }

    min_age: int = 120_000_000
    quota_ms: int = 10
    quota_sz: int = 128 << 20
    quota_reset_interval_ms: int = 1_000
    quota_mem_pressure_us: int = 0
    quota_autotune_feedback: int = 0
    wmarks_interval: int = 5_000_000
    wmarks_high: int = 500
    wmarks_mid: int = 400
    wmarks_low: int = 200
    sample_interval: int = 5_000
    aggr_interval: int = 100_000
    min_nr_regions: int = 10
    max_nr_regions: int = 1_000
    monitor_region_start: int = 0
    monitor_region_end: int = 0
    addr_unit: int = 1
    skip_anon: bool = False
    autotune_monitoring_intervals: bool = False


@dataclass(frozen=True)
class DamonLruSort:
    """DAMON_LRU_SORT: hot memory to the active list, cold memory off it.

    Hot memory is accessed in ``hot_thres_access_freq`` of 1000 samples, cold memory was not accessed for
    ``cold_min_age`` µs. ``active_mem_bp``: the goal for the share of the active list, 0 for none. Other
    parameters as in DamonReclaim.
    """

    MODULE: ClassVar[str] = "damon_lru_sort"
    SINCE: ClassVar[Mapping[str, str]] = {
        "addr_unit": "6.18",
        "active_mem_bp": "7.0",
        "filter_young_pages": "7.0",
        "autotune_monitoring_intervals": "7.0",
    }

    hot_thres_access_freq: int = 500
    cold_min_age: int = 120_000_000
    quota_ms: int = 10
    quota_reset_interval_ms: int = 1_000
    active_mem_bp: int = 0
    filter_young_pages: bool = False
    wmarks_interval: int = 5_000_000
    wmarks_high: int = 200
    wmarks_mid: int = 150
    wmarks_low: int = 50
    sample_interval: int = 5_000
    aggr_interval: int = 100_000
    min_nr_regions: int = 10
    max_nr_regions: int = 1_000
    monitor_region_start: int = 0
    monitor_region_end: int = 0
    addr_unit: int = 1
    autotune_monitoring_intervals: bool = False


@dataclass(frozen=True)
class DamonStat:
    """DAMON_STAT: no parameters."""

    MODULE: ClassVar[str] = "damon_stat"
    SINCE: ClassVar[Mapping[str, str]] = {}


ModuleParameters = DamonReclaim | DamonLruSort | DamonStat

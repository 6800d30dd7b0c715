# SPDX-License-Identifier: GPL-2.0
"""Requests to DAMON, as frozen values.

Classes are named after ``include/linux/damon.h``, fields after the sysfs files with their
units; defaults are those of a freshly created sysfs directory. A request does not depend on a
kernel version: staging raises NotSupported, naming the file, if a field differs from its default and
the running kernel lacks its file.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from damon_tests.damon.params_check import check_keyword, check_members, check_type

UNKNOWN = "unknown"
"""Operations of a request from a file that does not name them; such a request cannot be staged."""

U64_MAX = (1 << 64) - 1
U32_MAX = (1 << 32) - 1


@dataclass(frozen=True)
class DamonIntervalsGoal:
    access_bp: int = 0
    aggrs: int = 0
    min_sample_us: int = 0
    max_sample_us: int = 0


@dataclass(frozen=True)
class DamonProbeFilter:
    type: str = "anon"
    matching: bool = False
    allow: bool = False
    path: str = ""

    def __post_init__(self) -> None:
        check_keyword(self, "type", "probe_filter_type")


@dataclass(frozen=True)
class DamonProbe:
    weight: int = 0
    filters: tuple[DamonProbeFilter, ...] = ()

    def __post_init__(self) -> None:
        check_members(self, "filters", DamonProbeFilter)


@dataclass(frozen=True)
class DamonAttrs:
    """``monitoring_attrs/``: intervals in microseconds, region limits, probes."""

    sample_us: int = 5_000
    aggr_us: int = 100_000
    update_us: int = 60_000_000
    intervals_goal: DamonIntervalsGoal = field(default_factory=DamonIntervalsGoal)
    min_nr_regions: int = 10
    max_nr_regions: int = 1000
    probes: tuple[DamonProbe, ...] = ()

    def __post_init__(self) -> None:
        check_type(self, "intervals_goal", DamonIntervalsGoal)
        check_members(self, "probes", DamonProbe)

    @property
    def samples_per_aggr(self) -> int:
        """Return W, the maximum of nr_accesses: aggr_us div sample_us (a sample_us of 0 counts as 1)."""
        return self.aggr_us // (self.sample_us or 1)


@dataclass(frozen=True)
class DamonTarget:
    """``regions``: initial ranges as (start, end) in core address units."""

    pid_target: int = 0
    regions: tuple[tuple[int, int], ...] = ()
    obsolete_target: bool = False


@dataclass(frozen=True)
class DamosAccessPattern:
    """Inclusive bounds. Sizes in core address units, nr_accesses in samples, age in aggregations.

    The defaults are those of sysfs and match no region. ``ANY`` matches every region."""

    sz_min: int = 0
    sz_max: int = 0
    nr_accesses_min: int = 0
    nr_accesses_max: int = 0
    age_min: int = 0
    age_max: int = 0


# nr_accesses and age are 32 bit in the core: larger values are truncated there.
ANY = DamosAccessPattern(0, U64_MAX, 0, U32_MAX, 0, U32_MAX)


@dataclass(frozen=True)
class DamosQuotaGoal:
    target_metric: str = "user_input"
    target_value: int = 0
    current_value: int = 0
    nid: int = 0
    path: str = ""

    def __post_init__(self) -> None:
        check_keyword(self, "target_metric", "goal_metric")


@dataclass(frozen=True)
class DamosQuota:
    ms: int = 0
    bytes: int = 0
    reset_interval_ms: int = 0
    weight_sz_permil: int = 0
    weight_nr_accesses_permil: int = 0
    weight_age_permil: int = 0
    goals: tuple[DamosQuotaGoal, ...] = ()
    goal_tuner: str = "consist"
    fail_charge_num: int = 0
    fail_charge_denom: int = 0

    def __post_init__(self) -> None:
        check_members(self, "goals", DamosQuotaGoal)
        check_keyword(self, "goal_tuner", "goal_tuner")


@dataclass(frozen=True)
class DamosWatermarks:
    metric: str = "none"
    interval_us: int = 0
    high: int = 0
    mid: int = 0
    low: int = 0

    def __post_init__(self) -> None:
        check_keyword(self, "metric", "watermark_metric")


@dataclass(frozen=True)
class DamosFilter:
    """A filter; the field of Damos that holds it decides its directory."""

    type: str = "anon"
    matching: bool = False
    allow: bool = False
    memcg_path: str = ""
    addr_start: int = 0
    addr_end: int = 0
    min: int = 0
    max: int = 0
    damon_target_idx: int = 0

    def __post_init__(self) -> None:
        check_keyword(self, "type", "filter_type")


@dataclass(frozen=True)
class DamosDest:
    id: int = 0
    weight: int = 0


@dataclass(frozen=True)
class Damos:
    """A scheme (``schemes/S/``)."""

    action: str = "stat"
    access_pattern: DamosAccessPattern = field(default_factory=DamosAccessPattern)
    apply_interval_us: int = 0
    target_nid: int = -1
    quota: DamosQuota = field(default_factory=DamosQuota)
    watermarks: DamosWatermarks = field(default_factory=DamosWatermarks)
    core_filters: tuple[DamosFilter, ...] = ()
    ops_filters: tuple[DamosFilter, ...] = ()
    filters: tuple[DamosFilter, ...] = ()
    dests: tuple[DamosDest, ...] = ()
    max_nr_snapshots: int = 0

    def __post_init__(self) -> None:
        check_keyword(self, "action", "action")
        check_type(self, "access_pattern", DamosAccessPattern)
        check_type(self, "quota", DamosQuota)
        check_type(self, "watermarks", DamosWatermarks)
        for name in ("core_filters", "ops_filters", "filters"):
            check_members(self, name, DamosFilter)
        check_members(self, "dests", DamosDest)


@dataclass(frozen=True)
class DamonCtx:
    """A context (``contexts/0/``)."""

    operations: str = "vaddr"
    addr_unit: int = 1
    pause: bool = False
    attrs: DamonAttrs = field(default_factory=DamonAttrs)
    targets: tuple[DamonTarget, ...] = ()
    schemes: tuple[Damos, ...] = ()

    def __post_init__(self) -> None:
        if self.operations != UNKNOWN:
            check_keyword(self, "operations", "operations")
        check_type(self, "attrs", DamonAttrs)
        check_members(self, "targets", DamonTarget)
        check_members(self, "schemes", Damos)


@dataclass(frozen=True)
class Kdamond:
    """A kernel thread (``kdamonds/N/``) with its single context."""

    ctx: DamonCtx = field(default_factory=DamonCtx)
    refresh_ms: int = 0

    def __post_init__(self) -> None:
        check_type(self, "ctx", DamonCtx)

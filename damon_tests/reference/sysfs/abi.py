# SPDX-License-Identifier: GPL-2.0
"""The sysfs tree as a table: every file with its format, default, mode and first series (§5.2)."""

from __future__ import annotations

from dataclasses import dataclass

from damon_tests.reference.rules.tree import Version
from damon_tests.reference.sysfs.formats import (
    BOOL,
    INT,
    INT_EINVAL,
    PATH,
    U32,
    U32_EINVAL,
    ULONG,
    ULONG_EINVAL,
    ULONG_NONZERO,
    Format,
    Value,
    words,
)

OLDEST: Version = (5, 15)
MANY = 4 * 1024 * 1024 // 8  # entries of the largest array of pointers the kernel allocates


@dataclass(frozen=True)
class FileSpec:
    """A file. ``locked``: reading and writing try the global lock (EBUSY while it is held)."""

    name: str
    format: Format
    default: Value
    since: Version = OLDEST
    mode: int = 0o600
    locked: bool = False


@dataclass(frozen=True)
class DirSpec:
    name: str
    children: tuple[Spec, ...]
    since: Version = OLDEST


@dataclass(frozen=True)
class ListSpec:
    """A directory with a count file and that many numbered directories, each with ``child``'s entries.

    More than ``maximum`` is refused with EINVAL, more than ``MANY`` with ENOMEM.
    """

    name: str
    count: str
    child: tuple[Spec, ...]
    since: Version = OLDEST
    maximum: int | None = None


@dataclass(frozen=True)
class TriedSpec:
    """``tried_regions/``: ``total_bytes`` and one numbered directory for each region found."""

    name: str = "tried_regions"
    since: Version = (6, 2)


Spec = FileSpec | DirSpec | ListSpec | TriedSpec


def _read_only(name: str, since: Version = OLDEST, default: Value = 0) -> FileSpec:
    return FileSpec(name, ULONG, default, since, 0o400)


def _path(name: str, since: Version = OLDEST) -> FileSpec:
    return FileSpec(name, PATH, "", since, locked=True)


def _range(name: str) -> DirSpec:
    return DirSpec(name, (FileSpec("min", ULONG, 0), FileSpec("max", ULONG, 0)))


OPERATIONS = words("vaddr fvaddr paddr")
ACTIONS = words(
    "willneed cold pageout hugepage nohugepage collapse lru_prio lru_deprio migrate_hot migrate_cold stat",
    collapse="7.2",
    migrate_hot="6.11",
    migrate_cold="6.11",
)
FILTER_TYPES = words(
    "anon active memcg young hugepage_size unmapped addr target",
    active="6.15",
    hugepage_size="6.15",
    unmapped="6.15",
)
CORE_FILTER_TYPES = words("addr target")
OPS_FILTER_TYPES = words("anon active memcg young hugepage_size unmapped")
PROBE_FILTER_TYPES = words("anon memcg")
GOAL_METRICS = words(
    "user_input some_mem_psi_us node_mem_used_bp node_mem_free_bp node_memcg_used_bp "
    "node_memcg_free_bp active_mem_bp inactive_mem_bp node_eligible_mem_bp",
    node_mem_used_bp="6.16",
    node_mem_free_bp="6.16",
    node_memcg_used_bp="6.19",
    node_memcg_free_bp="6.19",
    active_mem_bp="7.0",
    inactive_mem_bp="7.0",
    node_eligible_mem_bp="7.2",
)
GOAL_TUNERS = words("consist temporal")
WATERMARK_METRICS = words("none free_mem_rate")

INTERVALS = DirSpec(
    "intervals",
    (
        FileSpec("sample_us", ULONG, 5_000),
        FileSpec("aggr_us", ULONG, 100_000),
        FileSpec("update_us", ULONG, 60_000_000),
        DirSpec(
            "intervals_goal",
            (
                FileSpec("access_bp", ULONG, 0),
                FileSpec("aggrs", ULONG, 0),
                FileSpec("min_sample_us", ULONG, 0),
                FileSpec("max_sample_us", ULONG, 0),
            ),
            since=(6, 15),
        ),
    ),
)

PROBE = (
    FileSpec("weight", U32, 0, (7, 3)),
    ListSpec(
        "filters",
        "nr_filters",
        (
            FileSpec("type", PROBE_FILTER_TYPES, "anon"),
            FileSpec("matching", BOOL, False),
            FileSpec("allow", BOOL, False),
            _path("path"),
        ),
    ),
)

MONITORING_ATTRS = DirSpec(
    "monitoring_attrs",
    (
        INTERVALS,
        DirSpec("nr_regions", (FileSpec("min", ULONG, 10), FileSpec("max", ULONG, 1000))),
        ListSpec("probes", "nr_probes", PROBE, (7, 2), maximum=4),
    ),
)

TARGET = (
    FileSpec("pid_target", INT_EINVAL, 0),
    FileSpec("obsolete_target", BOOL, False, (6, 19)),
    ListSpec("regions", "nr_regions", (FileSpec("start", ULONG, 0), FileSpec("end", ULONG, 0))),
)


def _filters(name: str, types: Format, since: Version) -> ListSpec:
    entries = (
        FileSpec("type", types, "anon"),
        FileSpec("matching", BOOL, False),
        FileSpec("allow", BOOL, False, (6, 14)),
        _path("memcg_path"),
        FileSpec("addr_start", ULONG, 0, (6, 6)),
        FileSpec("addr_end", ULONG, 0, (6, 6)),
        FileSpec("min", ULONG, 0, (6, 15)),
        FileSpec("max", ULONG, 0, (6, 15)),
        FileSpec("damon_target_idx", INT, 0, (6, 6)),
    )
    return ListSpec(name, "nr_filters", entries, since)


QUOTAS = DirSpec(
    "quotas",
    (
        FileSpec("ms", ULONG_EINVAL, 0),
        FileSpec("bytes", ULONG_EINVAL, 0),
        FileSpec("reset_interval_ms", ULONG_EINVAL, 0),
        _read_only("effective_bytes", (6, 9)),
        FileSpec("goal_tuner", GOAL_TUNERS, "consist", (7, 1)),
        FileSpec("fail_charge_num", U32_EINVAL, 0, (7, 2)),
        FileSpec("fail_charge_denom", U32_EINVAL, 0, (7, 2)),
        DirSpec(
            "weights",
            (
                FileSpec("sz_permil", U32, 0),
                FileSpec("nr_accesses_permil", U32, 0),
                FileSpec("age_permil", U32, 0),
            ),
        ),
        ListSpec(
            "goals",
            "nr_goals",
            (
                FileSpec("target_metric", GOAL_METRICS, "user_input", (6, 9)),
                FileSpec("target_value", ULONG, 0),
                FileSpec("current_value", ULONG, 0),
                FileSpec("nid", INT, 0, (6, 16)),
                _path("path", (6, 19)),
            ),
            (6, 8),
        ),
    ),
)

STATS = DirSpec(
    "stats",
    (
        _read_only("nr_tried"),
        _read_only("sz_tried"),
        _read_only("nr_applied"),
        _read_only("sz_applied"),
        _read_only("sz_ops_filter_passed", (6, 14)),
        _read_only("qt_exceeds"),
        _read_only("nr_snapshots", (7, 0)),
        FileSpec("max_nr_snapshots", ULONG, 0, (7, 0)),
    ),
)

SCHEME = (
    FileSpec("action", ACTIONS, "stat"),
    FileSpec("apply_interval_us", ULONG, 0, (6, 7)),
    FileSpec("target_nid", INT, -1, (6, 11)),
    DirSpec("access_pattern", (_range("sz"), _range("nr_accesses"), _range("age"))),
    QUOTAS,
    DirSpec(
        "watermarks",
        (
            FileSpec("metric", WATERMARK_METRICS, "none"),
            FileSpec("interval_us", ULONG, 0),
            FileSpec("high", ULONG, 0),
            FileSpec("mid", ULONG, 0),
            FileSpec("low", ULONG, 0),
        ),
    ),
    _filters("filters", FILTER_TYPES, (6, 3)),
    _filters("core_filters", CORE_FILTER_TYPES, (6, 15)),
    _filters("ops_filters", OPS_FILTER_TYPES, (6, 15)),
    ListSpec("dests", "nr_dests", (FileSpec("id", U32, 0), FileSpec("weight", U32, 0)), (6, 17)),
    STATS,
    TriedSpec(),
)

CONTEXT = (
    FileSpec("avail_operations", PATH, "vaddr\nfvaddr\npaddr", (5, 19), 0o400),
    FileSpec("operations", OPERATIONS, "vaddr"),
    FileSpec("addr_unit", ULONG_NONZERO, 1, (6, 18)),
    FileSpec("pause", BOOL, False, (7, 2)),
    MONITORING_ATTRS,
    ListSpec("targets", "nr_targets", TARGET),
    ListSpec("schemes", "nr_schemes", SCHEME),
)

KDAMOND = (
    FileSpec("state", PATH, "off", locked=True),
    FileSpec("pid", INT, -1, mode=0o400, locked=True),
    FileSpec("refresh_ms", U32, 0, (6, 17)),
    ListSpec("contexts", "nr_contexts", CONTEXT, maximum=1),
)

ADMIN = DirSpec("admin", (ListSpec("kdamonds", "nr_kdamonds", KDAMOND),))

# One region of tried_regions; its ``probes`` directory has one ``hits`` for each installed probe.
TRIED_REGION = (
    ("start", OLDEST),
    ("end", OLDEST),
    ("nr_accesses", OLDEST),
    ("age", OLDEST),
    ("sz_filter_passed", (6, 14)),
)
TRIED_TOTAL_SINCE: Version = (6, 6)
TRIED_PROBES_SINCE: Version = (7, 2)

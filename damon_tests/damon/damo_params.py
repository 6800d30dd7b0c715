# SPDX-License-Identifier: GPL-2.0
"""Read and write the parameters that damo notes beside a recording, in the file ``RECORD.kdamonds``.

JSON: a list of kdamonds, each with ``contexts``, each with ``ops``, ``addr_unit``, ``targets``,
``intervals``, ``nr_regions``, ``schemes``. Of schemes, action, interval, quotas and filters are read:
monitoring depends on them; access patterns, watermarks and goals' values are not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from damon_tests.damon import damo_values as values
from damon_tests.damon.params import (
    UNKNOWN,
    DamonAttrs,
    DamonCtx,
    DamonIntervalsGoal,
    DamonTarget,
    Damos,
    DamosFilter,
    DamosQuota,
    DamosQuotaGoal,
)
from damon_tests.damon.records import DamosStats

_PLAIN = DamonAttrs()


def contexts(kdamonds: Any) -> dict[tuple[int, int], DamonCtx]:
    """Return the request of every (kdamond, context).

    ``kdamonds``: a list of kdamonds, or, as ``damo args damon`` prints it, {"kdamonds": [...]}. Raises
    UsageError, ValueError or KeyError for anything else.
    """
    if isinstance(kdamonds, Mapping):
        kdamonds = kdamonds["kdamonds"]
    _check_shape(kdamonds)
    return {
        (k, c): _ctx(context)
        for k, kdamond in enumerate(kdamonds)
        for c, context in enumerate(kdamond["contexts"])
    }


def _check_shape(kdamonds: Any) -> None:
    """Raise ValueError unless it is a list of kdamonds with lists of contexts."""
    if not isinstance(kdamonds, list):
        raise ValueError(f"kdamonds are a {type(kdamonds).__name__}, and should be a list")
    for k, kdamond in enumerate(kdamonds):
        contexts_ = kdamond.get("contexts") if isinstance(kdamond, Mapping) else None
        if not isinstance(contexts_, list) or not all(isinstance(c, Mapping) for c in contexts_):
            raise ValueError(f"kdamond {k} has no list of contexts")


def intervals(value: Mapping[str, Any], attrs: DamonAttrs = _PLAIN) -> DamonAttrs:
    """Return ``attrs`` with the intervals of a record or context; a missing interval keeps its default."""
    goal = value.get("intervals_goal") or {}
    return DamonAttrs(
        sample_us=values.time_us(value.get("sample_us", attrs.sample_us)),
        aggr_us=values.time_us(value.get("aggr_us", attrs.aggr_us)),
        update_us=values.time_us(value.get("ops_update_us", attrs.update_us)),
        intervals_goal=DamonIntervalsGoal(
            # In percent with a "%", else in basis points.
            access_bp=_basis_points(goal.get("access_bp", 0)),
            aggrs=values.count(goal.get("aggrs", 0)),
            min_sample_us=values.time_us(goal.get("min_sample_us", 0)),
            max_sample_us=values.time_us(goal.get("max_sample_us", 0)),
        ),
        min_nr_regions=attrs.min_nr_regions,
        max_nr_regions=attrs.max_nr_regions,
    )


def intervals_to_json(attrs: DamonAttrs) -> dict[str, Any]:
    goal = attrs.intervals_goal
    return {
        "sample_us": str(attrs.sample_us),
        "aggr_us": str(attrs.aggr_us),
        "ops_update_us": str(attrs.update_us),
        "intervals_goal": {
            "access_bp": str(goal.access_bp),
            "aggrs": str(goal.aggrs),
            "min_sample_us": str(goal.min_sample_us),
            "max_sample_us": str(goal.max_sample_us),
        },
    }


def ctx_to_json(ctx: DamonCtx) -> list[dict[str, Any]]:
    """Return the file's content for a kdamond with one context; addresses in bytes."""
    unit = ctx.addr_unit
    targets = [
        {
            "pid": str(t.pid_target) if t.pid_target else None,
            "obsolete": t.obsolete_target,
            "regions": [{"start": str(a * unit), "end": str(b * unit)} for a, b in t.regions],
        }
        for t in ctx.targets
    ]
    context = {
        "ops": ctx.operations,
        "addr_unit": "1",
        "targets": targets,
        "intervals": intervals_to_json(ctx.attrs),
        "nr_regions": {"min": str(ctx.attrs.min_nr_regions), "max": str(ctx.attrs.max_nr_regions)},
        "schemes": [_scheme_to_json(s, unit) for s in ctx.schemes],
    }
    return [{"state": "off", "pid": None, "refresh_ms": 0, "contexts": [context]}]


def filter_to_json(scheme_filter: DamosFilter, unit: int = 1) -> dict[str, Any]:
    """Return a filter in damo's format; addresses and sizes in bytes."""
    f = scheme_filter
    return {
        "filter_type": f.type,
        "matching": f.matching,
        "allow": f.allow,
        "memcg_path": f.memcg_path,
        "address_range": {"start": str(f.addr_start * unit), "end": str(f.addr_end * unit)},
        "damon_target_idx": str(f.damon_target_idx),
        "hugepage_size": [str(f.min), str(f.max)],
    }


def filter_from_json(value: Mapping[str, Any]) -> DamosFilter:
    """Return the filter. Raises UsageError for a type that no kernel knows, ValueError for other values."""
    addresses, sizes = value.get("address_range") or {}, value.get("hugepage_size") or (0, 0)
    if not isinstance(addresses, Mapping):  # the format of older versions
        addresses = dict(zip(("start", "end"), addresses, strict=True))
    return DamosFilter(
        type=str(value.get("filter_type")),
        matching=_flag(value.get("matching", True)),
        allow=_flag(value.get("allow", False)),
        memcg_path=str(value.get("memcg_path") or ""),
        addr_start=values.size(addresses.get("start") or 0),
        addr_end=values.size(addresses.get("end") or 0),
        min=values.size(sizes[0]),
        max=values.size(sizes[1]),
        damon_target_idx=values.count(value.get("damon_target_idx") or 0),
    )


def stats_to_json(stats: DamosStats, unit: int = 1) -> dict[str, str]:
    """Return counts and bytes of a scheme, without those that the kernel lacks."""
    shown = {
        "nr_tried": stats.nr_tried,
        "sz_tried": stats.sz_tried * unit,
        "nr_applied": stats.nr_applied,
        "sz_applied": stats.sz_applied * unit,
        "sz_ops_filter_passed": None
        if stats.sz_ops_filter_passed is None
        else stats.sz_ops_filter_passed * unit,
        "qt_exceeds": stats.qt_exceeds,
        "nr_snapshots": stats.nr_snapshots,
    }
    return {name: str(value) for name, value in shown.items() if value is not None}


def stats_from_json(value: Mapping[str, Any]) -> DamosStats:
    """Return the counters. Raises KeyError if a count that every kernel has is missing."""
    passed, snapshots = value.get("sz_ops_filter_passed"), value.get("nr_snapshots")
    return DamosStats(
        nr_tried=values.count(value["nr_tried"]),
        sz_tried=values.size(value["sz_tried"]),
        nr_applied=values.count(value["nr_applied"]),
        sz_applied=values.size(value["sz_applied"]),
        qt_exceeds=values.count(value["qt_exceeds"]),
        sz_ops_filter_passed=None if passed is None else values.size(passed),
        nr_snapshots=None if snapshots is None else values.count(snapshots),
    )


def _flag(value: object) -> bool:
    """Read a boolean as JSON, sysfs or damo write it."""
    if isinstance(value, bool):
        return value
    if value in ("Y", "N", 0, 1):
        return value in ("Y", 1)
    raise ValueError(f"{value!r} is neither true nor false")


def _ctx(value: Mapping[str, Any]) -> DamonCtx:
    counts = value.get("nr_regions") or {}
    attrs = DamonAttrs(
        min_nr_regions=values.count(counts.get("min", _PLAIN.min_nr_regions)),
        max_nr_regions=values.count(counts.get("max", _PLAIN.max_nr_regions)),
    )
    unit = values.size(value.get("addr_unit", 1))
    return DamonCtx(
        operations=str(value.get("ops", UNKNOWN)),
        addr_unit=unit,
        attrs=intervals(value.get("intervals") or {}, attrs),
        targets=tuple(_target(t) for t in value.get("targets") or ()),
        schemes=tuple(_scheme(s) for s in value.get("schemes") or ()),
    )


def _target(value: Mapping[str, Any]) -> DamonTarget:
    ranges = ((values.size(r["start"]), values.size(r["end"])) for r in value.get("regions") or ())
    pid = value.get("pid")
    return DamonTarget(values.count(pid) if pid is not None else 0, tuple(ranges))


def _scheme(value: Mapping[str, Any]) -> Damos:
    quota = value.get("quotas") or {}
    return Damos(
        action=str(value.get("action", "stat")),
        apply_interval_us=values.time_us(value.get("apply_interval_us") or 0),
        target_nid=-1 if value.get("target_nid") is None else values.count(value["target_nid"]),
        quota=DamosQuota(
            ms=values.time_ns(quota.get("time_ms", 0), 1_000_000) // 1_000_000,
            bytes=values.size(quota.get("sz_bytes", 0)),
            reset_interval_ms=values.time_ns(quota.get("reset_interval_ms", 0), 1_000_000) // 1_000_000,
            goals=tuple(DamosQuotaGoal() for _ in quota.get("goals") or ()),
        ),
        filters=tuple(filter_from_json(f) for f in value.get("filters") or ()),
    )


def _scheme_to_json(scheme: Damos, unit: int) -> dict[str, Any]:
    quota = scheme.quota
    weights = {
        "sz_permil": str(quota.weight_sz_permil),
        "nr_accesses_permil": str(quota.weight_nr_accesses_permil),
        "age_permil": str(quota.weight_age_permil),
    }
    quotas = {
        "time_ms": str(quota.ms),
        "sz_bytes": str(quota.bytes),
        "reset_interval_ms": str(quota.reset_interval_ms),
        "goals": [],
        "weights": weights,
    }
    every = (*scheme.core_filters, *scheme.filters, *scheme.ops_filters)
    return {
        "action": scheme.action,
        "target_nid": None if scheme.target_nid < 0 else str(scheme.target_nid),
        "apply_interval_us": str(scheme.apply_interval_us),
        "quotas": quotas,
        "filters": [filter_to_json(f, unit) for f in every],
    }


def _basis_points(value: object) -> int:
    if isinstance(value, str) and "%" in value:
        return int(values.percent(value) * 100)
    return values.count(value)

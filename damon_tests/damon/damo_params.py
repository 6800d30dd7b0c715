# SPDX-License-Identifier: GPL-2.0
"""damo's notes of the parameters of a recording: the file ``RECORD.kdamonds`` beside ``RECORD``.

JSON: a list of kdamonds, each with ``contexts``, each with ``ops``, ``addr_unit``, ``targets``,
``intervals``, ``nr_regions``, ``schemes``. Of schemes only what monitoring depends on is kept: whether they
act, and whether they cut regions (quotas, filters by address).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from damon_tests.damon import damo_values as values
from damon_tests.damon.params import (
    DamonAttrs,
    DamonCtx,
    DamonIntervalsGoal,
    DamonTarget,
    Damos,
    DamosFilter,
    DamosQuota,
    DamosQuotaGoal,
)

_PLAIN = DamonAttrs()


def contexts(kdamonds: Any) -> dict[tuple[int, int], DamonCtx]:
    """The request of every (kdamond, context). Raises ValueError, TypeError or KeyError for other shapes."""
    return {
        (k, c): _ctx(context)
        for k, kdamond in enumerate(kdamonds)
        for c, context in enumerate(kdamond["contexts"])
    }


def intervals(value: Mapping[str, Any], attrs: DamonAttrs = _PLAIN) -> DamonAttrs:
    """``attrs`` with the intervals of a record or context; a missing one keeps its default."""
    goal = value.get("intervals_goal") or {}
    return DamonAttrs(
        sample_us=values.time_us(value.get("sample_us", attrs.sample_us)),
        aggr_us=values.time_us(value.get("aggr_us", attrs.aggr_us)),
        update_us=values.time_us(value.get("ops_update_us", attrs.update_us)),
        intervals_goal=DamonIntervalsGoal(
            # In percent when it says so, else in basis points.
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
    """The file's content for one kdamond with one context; addresses in bytes."""
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
        "schemes": [_scheme_to_json(s) for s in ctx.schemes],
    }
    return [{"state": "off", "pid": None, "refresh_ms": 0, "contexts": [context]}]


def _ctx(value: Mapping[str, Any]) -> DamonCtx:
    counts = value.get("nr_regions") or {}
    attrs = DamonAttrs(
        min_nr_regions=values.count(counts.get("min", _PLAIN.min_nr_regions)),
        max_nr_regions=values.count(counts.get("max", _PLAIN.max_nr_regions)),
    )
    unit = values.size(value.get("addr_unit", 1))
    return DamonCtx(
        operations=str(value.get("ops", "unknown")),
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
        quota=DamosQuota(
            ms=values.time_ns(quota.get("time_ms", 0), 1_000_000) // 1_000_000,
            bytes=values.size(quota.get("sz_bytes", 0)),
            goals=tuple(DamosQuotaGoal() for _ in quota.get("goals") or ()),
        ),
        filters=tuple(DamosFilter(type=str(f.get("filter_type"))) for f in value.get("filters") or ()),
    )


def _scheme_to_json(scheme: Damos) -> dict[str, Any]:
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
    return {"action": scheme.action, "target_nid": None, "apply_interval_us": "0", "quotas": quotas}


def _basis_points(value: object) -> int:
    if isinstance(value, str) and "%" in value:
        return int(values.percent(value) * 100)
    return values.count(value)

# SPDX-License-Identifier: GPL-2.0
"""Read the staged values of a context directory as a request (``damon.params``)."""

from __future__ import annotations

from damon_tests.damon.params import (
    DamonAttrs,
    DamonCtx,
    DamonIntervalsGoal,
    DamonProbe,
    DamonProbeFilter,
    DamonTarget,
    Damos,
    DamosAccessPattern,
    DamosDest,
    DamosFilter,
    DamosQuota,
    DamosQuotaGoal,
    DamosWatermarks,
)
from damon_tests.reference.sysfs.kobjects import Dir, ListDir


class _Reader:
    """Typed values of one directory; what this version lacks has its default."""

    def __init__(self, directory: Dir) -> None:
        self._dir = directory

    def integer(self, name: str, default: int = 0) -> int:
        return int(self._dir.value(name, default))

    def boolean(self, name: str) -> bool:
        return bool(self._dir.value(name, False))

    def text(self, name: str, default: str = "") -> str:
        return str(self._dir.value(name, default))

    def sub(self, name: str) -> _Reader:
        """Return a directory; an empty one where this version has none."""
        return _Reader(self._dir.dir(name) if self._dir.has(name) else Dir())

    def items(self, name: str) -> list[_Reader]:
        child = self._dir.get(name)
        return [_Reader(item) for item in child.items()] if isinstance(child, ListDir) else []


def read_context(directory: Dir) -> DamonCtx:
    """Return ``contexts/0/`` as a request."""
    ctx = _Reader(directory)
    return DamonCtx(
        operations=ctx.text("operations"),
        addr_unit=ctx.integer("addr_unit", 1),
        pause=ctx.boolean("pause"),
        attrs=_attrs(ctx.sub("monitoring_attrs")),
        targets=tuple(_target(target) for target in ctx.items("targets")),
        schemes=tuple(_scheme(scheme) for scheme in ctx.items("schemes")),
    )


def _attrs(attrs: _Reader) -> DamonAttrs:
    intervals, nr_regions = attrs.sub("intervals"), attrs.sub("nr_regions")
    goal = intervals.sub("intervals_goal")
    return DamonAttrs(
        sample_us=intervals.integer("sample_us"),
        aggr_us=intervals.integer("aggr_us"),
        update_us=intervals.integer("update_us"),
        intervals_goal=DamonIntervalsGoal(
            goal.integer("access_bp"),
            goal.integer("aggrs"),
            goal.integer("min_sample_us"),
            goal.integer("max_sample_us"),
        ),
        min_nr_regions=nr_regions.integer("min"),
        max_nr_regions=nr_regions.integer("max"),
        probes=tuple(_probe(probe) for probe in attrs.items("probes")),
    )


def _probe(probe: _Reader) -> DamonProbe:
    filters = tuple(
        DamonProbeFilter(f.text("type"), f.boolean("matching"), f.boolean("allow"), f.text("path"))
        for f in probe.items("filters")
    )
    return DamonProbe(probe.integer("weight"), filters)


def _target(target: _Reader) -> DamonTarget:
    regions = tuple((r.integer("start"), r.integer("end")) for r in target.items("regions"))
    return DamonTarget(target.integer("pid_target"), regions, target.boolean("obsolete_target"))


def _scheme(scheme: _Reader) -> Damos:
    return Damos(
        action=scheme.text("action"),
        access_pattern=_pattern(scheme.sub("access_pattern")),
        apply_interval_us=scheme.integer("apply_interval_us"),
        target_nid=scheme.integer("target_nid", -1),
        quota=_quota(scheme.sub("quotas")),
        watermarks=_watermarks(scheme.sub("watermarks")),
        core_filters=tuple(_filter(f) for f in scheme.items("core_filters")),
        ops_filters=tuple(_filter(f) for f in scheme.items("ops_filters")),
        filters=tuple(_filter(f) for f in scheme.items("filters")),
        dests=tuple(DamosDest(d.integer("id"), d.integer("weight")) for d in scheme.items("dests")),
        max_nr_snapshots=scheme.sub("stats").integer("max_nr_snapshots"),
    )


def _pattern(pattern: _Reader) -> DamosAccessPattern:
    sz, nr, age = (pattern.sub(name) for name in ("sz", "nr_accesses", "age"))
    return DamosAccessPattern(
        sz.integer("min"),
        sz.integer("max"),
        nr.integer("min"),
        nr.integer("max"),
        age.integer("min"),
        age.integer("max"),
    )


def _quota(quota: _Reader) -> DamosQuota:
    weights = quota.sub("weights")
    return DamosQuota(
        ms=quota.integer("ms"),
        bytes=quota.integer("bytes"),
        reset_interval_ms=quota.integer("reset_interval_ms"),
        weight_sz_permil=weights.integer("sz_permil"),
        weight_nr_accesses_permil=weights.integer("nr_accesses_permil"),
        weight_age_permil=weights.integer("age_permil"),
        goals=read_goals(quota),
        goal_tuner=quota.text("goal_tuner", "consist"),
        fail_charge_num=quota.integer("fail_charge_num"),
        fail_charge_denom=quota.integer("fail_charge_denom"),
    )


def read_goals(quota: _Reader) -> tuple[DamosQuotaGoal, ...]:
    """Return the goals; those without a target value are dropped, as the kernel's sysfs code does."""
    goals = (
        DamosQuotaGoal(
            target_metric=g.text("target_metric", "user_input"),
            target_value=g.integer("target_value"),
            current_value=g.integer("current_value"),
            nid=g.integer("nid"),
            path=g.text("path"),
        )
        for g in quota.items("goals")
    )
    return tuple(goal for goal in goals if goal.target_value)


def _watermarks(marks: _Reader) -> DamosWatermarks:
    return DamosWatermarks(
        marks.text("metric"),
        marks.integer("interval_us"),
        marks.integer("high"),
        marks.integer("mid"),
        marks.integer("low"),
    )


def _filter(item: _Reader) -> DamosFilter:
    return DamosFilter(
        type=item.text("type"),
        matching=item.boolean("matching"),
        allow=item.boolean("allow"),
        memcg_path=item.text("memcg_path"),
        addr_start=item.integer("addr_start"),
        addr_end=item.integer("addr_end"),
        min=item.integer("min"),
        max=item.integer("max"),
        damon_target_idx=item.integer("damon_target_idx"),
    )

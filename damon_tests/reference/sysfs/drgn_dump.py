# SPDX-License-Identifier: GPL-2.0
"""Running kdamonds as a debugger of the kernel sees them: ``struct damon_ctx`` as plain data.

Fields have the names and enumerations the values that the kernel's own scripts for drgn expect
(tools/testing/selftests/damon). Lists stand where the structures have list heads.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from damon_tests.damon.keywords import WORDS
from damon_tests.damon.params import DamosFilter, DamosQuota
from damon_tests.reference.core.context import Context
from damon_tests.reference.core.schemes import Scheme

if TYPE_CHECKING:
    from damon_tests.reference.sysfs.system import ReferenceSystem

Struct = dict[str, Any]


def dump(system: ReferenceSystem) -> str:
    """Return all running contexts, by pid of their kdamond, as JSON."""
    kdamonds = (slot.kdamond for slot in system.tree.slots if slot.kdamond is not None)
    contexts = {str(k.pid): damon_ctx(k.ctx, system.version) for k in kdamonds if k.running}
    return json.dumps(contexts) + "\n"


def number(kind: str, word: str, version: tuple[int, int]) -> int:
    """Return the value of a word in the kernel's enumeration; 0 where the series has no such enumeration yet.

    A series does not know words that came later, which shifts the values of those behind them.
    """
    known = [w for w, since in WORDS[kind].items() if tuple(map(int, since.split("."))) <= version]
    return known.index(word) if known else 0


def damon_ctx(ctx: Context, version: tuple[int, int]) -> Struct:
    attrs, goal = ctx.attrs, ctx.attrs.intervals_goal
    return {
        "ops": {"id": number("operations", ctx.operations, version)},
        "attrs": {
            "sample_interval": attrs.sample_us,
            "aggr_interval": attrs.aggr_us,
            "ops_update_interval": attrs.update_us,
            "intervals_goal": {
                name: getattr(goal, name) for name in ("access_bp", "aggrs", "min_sample_us", "max_sample_us")
            },
            "min_nr_regions": attrs.min_nr_regions,
            "max_nr_regions": attrs.max_nr_regions,
        },
        "adaptive_targets": [_target(ctx, index) for index in range(len(ctx.targets))],
        "schemes": [_scheme(scheme, version) for scheme in ctx.schemes],
        "pause": ctx.pause,
    }


def _target(ctx: Context, index: int) -> Struct:
    regions = ctx.regions.of_target(index)
    sampled = ctx.sampled[ctx.regions.target == index] if len(ctx.sampled) == len(ctx.regions) else None
    rows = zip(
        *(regions.start.tolist(), regions.end.tolist(), regions.nr_accesses.tolist(), regions.age.tolist()),
        sampled.tolist() if sampled is not None else [0] * len(regions),
        strict=True,
    )
    listed = [
        {"ar": {"start": start, "end": end}, "sampling_addr": at, "nr_accesses": nr, "age": age}
        for start, end, nr, age, at in rows
    ]
    # A committed target is never obsolete: those are gone.
    pid = ctx.targets[index].pid
    return {"pid": pid, "nr_regions": len(regions), "regions_list": listed, "obsolete": False}


def _scheme(scheme: Scheme, version: tuple[int, int]) -> Struct:
    params = scheme.params
    (sz_min, sz_max), (nr_min, nr_max), (age_min, age_max) = scheme.bounds
    marks = params.watermarks
    return {
        "pattern": {
            "min_sz_region": sz_min,
            "max_sz_region": sz_max,
            "min_nr_accesses": nr_min,
            "max_nr_accesses": nr_max,
            "min_age_region": age_min,
            "max_age_region": age_max,
        },
        "action": number("action", params.action, version),
        "apply_interval_us": params.apply_interval_us,
        "target_nid": params.target_nid,
        "quota": _quota(params.quota, scheme, version),
        "wmarks": {
            "metric": number("watermark_metric", marks.metric, version),
            "interval": marks.interval_us,
            **{name: getattr(marks, name) for name in ("high", "mid", "low")},
        },
        "migrate_dests": {
            "nr_dests": len(params.dests),
            "node_id_arr": [dest.id for dest in params.dests],
            "weight_arr": [dest.weight for dest in params.dests],
        },
        **_filters(scheme, version),
    }


def _quota(quota: DamosQuota, scheme: Scheme, version: tuple[int, int]) -> Struct:
    goals = [
        {
            "metric": number("goal_metric", goal.target_metric, version),
            "target_value": goal.target_value,
            "current_value": goal.current_value,
            "last_psi_total": scheme.quota.psi_seen.get(index, 0),
            "nid": goal.nid,
        }
        for index, goal in enumerate(quota.goals)
    ]
    return {
        "reset_interval": quota.reset_interval_ms,
        "ms": quota.ms,
        "sz": quota.bytes,
        "goals": goals,
        "goal_tuner": number("goal_tuner", quota.goal_tuner, version),
        "esz": scheme.effective_bytes,
        "fail_charge_num": quota.fail_charge_num,
        "fail_charge_denom": quota.fail_charge_denom,
        "weight_sz": quota.weight_sz_permil,
        "weight_nr_accesses": quota.weight_nr_accesses_permil,
        "weight_age": quota.weight_age_permil,
    }


def _filters(scheme: Scheme, version: tuple[int, int]) -> Struct:
    lists = {"core_filters": scheme.lists.core, "ops_filters": scheme.lists.ops}
    return {name: [_filter(item, version) for item in items] for name, items in lists.items()}


def _filter(item: DamosFilter, version: tuple[int, int]) -> Struct:
    return {
        "type": number("filter_type", item.type, version),
        "matching": item.matching,
        "allow": item.allow,
        "memcg_id": 1,
        "addr_range": {"start": item.addr_start, "end": item.addr_end},
        "target_idx": item.damon_target_idx,
        "sz_range": {"min": item.min, "max": item.max},
    }

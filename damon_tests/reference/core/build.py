# SPDX-License-Identifier: GPL-2.0
"""Make a running context from a staged request: what ``on`` and ``commit`` check and install."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from damon_tests.damon.params import DamonCtx, Damos, DamosFilter
from damon_tests.ports import UsageError
from damon_tests.ports.ranges import Range
from damon_tests.reference.core.context import (
    Context,
    Target,
    check_attrs,
    check_weights,
    min_region_size,
    no_memory,
)
from damon_tests.reference.core.intervals import commit_attrs
from damon_tests.reference.core.regions import Regions, set_ranges
from damon_tests.reference.core.schemes import Scheme
from damon_tests.reference.machine.memory import Memory
from damon_tests.reference.rules.errors import CoreError, invalid
from damon_tests.reference.rules.ruleset import Rules


def check_request(params: DamonCtx, memory: Memory, rules: Rules) -> None:
    """Refuse what the tree cannot turn into a context, in its order. Raises CoreError, UsageError."""
    m = min_region_size(params.operations, params.addr_unit)
    if rules.power_of_two_min_region and m & (m - 1):
        raise invalid(f"addr_unit {params.addr_unit} makes the minimum region size {m}, no power of two")
    check_attrs(params.attrs)
    for probe in params.attrs.probes:
        for item in probe.filters:
            if item.type == "memcg" and _group_is_missing(item.path, memory, rules):
                raise invalid(f"no memory cgroup at {item.path!r}")
    _check_targets(params, memory, rules, m)
    for scheme in params.schemes:
        _check_scheme(scheme, memory, rules)
    check_modelled(params, memory)


def check_start(params: DamonCtx, rules: Rules) -> None:
    """Refuse at start what a commit would refuse: the dry run of ``on`` (7.3)."""
    if not rules.dry_run_at_start:
        return
    check_weights(params.attrs, rules)
    _check_goals(params)
    if any(target.obsolete_target for target in params.targets):
        raise invalid("an obsolete target has no running counterpart")


def _check_goals(params: DamonCtx) -> None:
    goals = [goal for scheme in params.schemes for goal in scheme.quota.goals if goal.target_value]
    if params.operations != "paddr" and any(g.target_metric == "node_eligible_mem_bp" for g in goals):
        raise invalid("node_eligible_mem_bp needs paddr")


def _check_targets(params: DamonCtx, memory: Memory, rules: Rules, min_region_sz: int) -> None:
    if params.operations == "paddr" and len(params.targets) > 1:
        raise invalid("paddr monitors one target only")
    for index, target in enumerate(params.targets):
        is_missing = params.operations != "paddr" and target.pid_target not in memory.processes
        if is_missing and rules.refuses_absent("process"):
            raise invalid(f"no process has pid {target.pid_target} (targets/{index})")
        check_ranges(target.regions, rules)
        if target.regions:
            _new_regions(target.regions, min_region_sz, index, rules)


def check_ranges(ranges: tuple[Range, ...], rules: Rules) -> None:
    """Raw ranges must be in order; whether each is non-empty is judged after alignment (7.3)."""
    previous_end = 0
    for start, end in ranges:
        if rules.raw_ranges_must_ascend and start > end:
            raise invalid(f"region {start}-{end} ends before it starts")
        if start < previous_end:
            raise invalid(f"region {start}-{end} starts before the previous one ends")
        previous_end = end


def _new_regions(ranges: tuple[Range, ...], min_region_sz: int, target: int, rules: Rules) -> Regions:
    regions = set_ranges(Regions.of_ranges([]), ranges, min_region_sz, target, rules)
    if regions is None:
        raise invalid(f"regions of targets/{target} are empty or overlap after alignment")
    return regions


def _group_is_missing(path: str, memory: Memory, rules: Rules) -> bool:
    return not memory.has_memcg(path) and rules.refuses_absent("group")


def _check_scheme(scheme: Damos, memory: Memory, rules: Rules) -> None:
    for item in (*scheme.core_filters, *scheme.ops_filters, *scheme.filters):
        _check_filter(item, memory, rules)
    for goal in scheme.quota.goals:
        if not goal.target_value:
            continue
        of_group = goal.target_metric in ("node_memcg_used_bp", "node_memcg_free_bp")
        if of_group and _group_is_missing(goal.path, memory, rules):
            raise no_memory(f"no memory cgroup at {goal.path!r}")
        of_node = goal.target_metric.startswith("node_")
        if of_node and not memory.has_node(goal.nid) and rules.refuses_absent("node"):
            raise no_memory(f"no memory node {goal.nid}")


def _check_filter(item: DamosFilter, memory: Memory, rules: Rules) -> None:
    if item.type == "memcg" and _group_is_missing(item.memcg_path, memory, rules):
        raise no_memory(f"no memory cgroup at {item.memcg_path!r}")
    if item.type == "addr" and item.addr_end < item.addr_start:
        raise no_memory("an address filter ends before it starts")
    if item.type == "hugepage_size" and item.min > item.max:
        raise no_memory("a hugepage_size filter has min above max")


def check_modelled(params: DamonCtx, memory: Memory) -> None:
    """Refuse what this simulated machine cannot show. Raises UsageError."""
    if params.operations == "paddr":
        memory.place()
    if params.operations == "paddr" and memory.unplaced_pages:
        raise UsageError(
            f"{memory.unplaced_pages} pages of simulated processes have no physical memory: "
            "make ReferenceSystem with a larger ram_bytes to monitor paddr"
        )


def build_context(params: DamonCtx, memory: Memory, rules: Rules, rng: np.random.Generator) -> Context:
    """Make a new context for ``on``. Raises CoreError or UsageError."""
    check_request(params, memory, rules)
    check_start(params, rules)
    ctx = Context(rules, rng, params)
    for index, target in enumerate(params.targets):
        _append_target(ctx, target.pid_target, memory)
        if target.regions:
            ctx.set_target_regions(index, _new_regions(target.regions, ctx.min_region_sz, index, rules))
    ctx.schemes = [Scheme(scheme, rules) for scheme in params.schemes]
    note_young(params, memory)
    return ctx


def note_young(params: DamonCtx, memory: Memory) -> None:
    """Have sampling note what it clears if a scheme asks whether pages are young."""
    for scheme in params.schemes:
        types = {item.type for item in (*scheme.core_filters, *scheme.ops_filters, *scheme.filters)}
        if scheme.action == "pageout" or "young" in types:
            memory.tracks_young = True


def _append_target(ctx: Context, pid: int, memory: Memory) -> None:
    process = None if ctx.operations == "paddr" else memory.processes.get(pid)
    ctx.targets.append(Target(pid, process))


def commit(ctx: Context, params: DamonCtx, memory: Memory) -> None:
    """Apply a request to a running context, matching everything by index.

    The whole request is checked first, so that a refused one leaves the context as it was.
    """
    rules = ctx.rules
    if rules.commit_is_checked_first:
        _check_commit(ctx, params, memory)
        _commit_schemes(ctx, params)
    else:
        _commit_schemes(ctx, params)
        _check_commit(ctx, params, memory)
    _commit_targets(ctx, params, memory)
    ctx.operations, ctx.addr_unit, ctx.pause = params.operations, params.addr_unit, params.pause
    commit_attrs(ctx, rules.committed_attrs(ctx.attrs, params.attrs))
    note_young(params, memory)


def _check_commit(ctx: Context, params: DamonCtx, memory: Memory) -> None:
    check_request(params, memory, ctx.rules)
    check_weights(params.attrs, ctx.rules)
    _check_goals(params)
    if any(target.obsolete_target for target in params.targets[len(ctx.targets) :]):
        raise invalid("an obsolete target has no running counterpart")


def _commit_schemes(ctx: Context, params: DamonCtx) -> None:
    del ctx.schemes[len(params.schemes) :]
    pairs = zip(ctx.schemes, params.schemes, strict=False)
    ctx.schemes = [ctx.rules.committed_scheme(old, Scheme(new, ctx.rules)) for old, new in pairs]
    for scheme, new in zip(ctx.schemes, params.schemes, strict=False):
        scheme.set_params(ctx.rules.committed_params(scheme.params, new))
        scheme.activated = scheme.activated or ctx.rules.commit_activates
    for new in params.schemes[len(ctx.schemes) :]:
        scheme = Scheme(ctx.rules.added_params(new), ctx.rules)
        scheme.schedule(ctx.passed, ctx.samples, ctx.attrs.aggr_us)
        ctx.schemes.append(scheme)


def _commit_targets(ctx: Context, params: DamonCtx, memory: Memory) -> None:
    m = min_region_size(params.operations, params.addr_unit)
    parts: list[Regions] = []
    targets: list[Target] = []
    for index, new in enumerate(params.targets):
        if new.obsolete_target:
            continue
        old = ctx.regions.of_target(index)
        if new.regions:
            fitted = set_ranges(old, ctx.rules.committed_ranges(new.regions), m, index, ctx.rules)
            if fitted is None:
                raise CoreError(22, "checked before: regions are valid")
            old = fitted
        old.target = np.full(len(old), len(targets), np.int64)
        parts.append(old)
        process = None if params.operations == "paddr" else memory.processes.get(new.pid_target)
        # A target that goes on stays the same one: quotas continue in it where they stopped.
        target = ctx.targets[index] if index < len(ctx.targets) else Target(new.pid_target, process)
        target.pid, target.process = new.pid_target, process
        targets.append(target)
    for scheme in ctx.schemes if ctx.rules.removed_target_is_forgotten else ():
        if scheme.quota.continue_target is not None and scheme.quota.continue_target not in targets:
            scheme.quota.forget()
    ctx.regions = Regions.concat(parts)
    ctx.targets = targets


def quota_goals_only(running: Damos, staged: Damos) -> Damos:
    """Return the running schemes with the staged goals: what ``commit_schemes_quota_goals`` commits."""
    return replace(running, quota=replace(running.quota, goals=staged.quota.goals))

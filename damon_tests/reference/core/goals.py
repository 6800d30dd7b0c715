# SPDX-License-Identifier: GPL-2.0
"""Current values of quota goals, by metric (specification §4.4)."""

from __future__ import annotations

import numpy as np

from damon_tests.damon.params import DamosQuotaGoal
from damon_tests.ports import page_size
from damon_tests.ports.arrays import Bools
from damon_tests.reference.core.context import Context
from damon_tests.reference.core.schemes import Scheme
from damon_tests.reference.machine.memory import Memory
from damon_tests.reference.rules.monitoring import BP


def achievements(ctx: Context, scheme: Scheme, memory: Memory, now_ns: int) -> list[tuple[int, int]]:
    """Return (current, target) of each goal of a scheme, now."""
    memory.settle_all(now_ns)
    return [
        (_current(ctx, scheme, index, goal, memory), goal.target_value)
        for index, goal in enumerate(scheme.params.quota.goals)
    ]


def _current(ctx: Context, scheme: Scheme, index: int, goal: DamosQuotaGoal, memory: Memory) -> int:
    rules, nid = scheme.rules, scheme.rules.goal_node(goal.nid)
    match rules.goal_metric(goal.target_metric):
        case "user_input":
            return goal.current_value
        case "some_mem_psi_us":
            return _pressure(scheme, index, goal, memory)
        case "node_mem_used_bp" | "node_mem_free_bp" as metric:
            return node_memory_bp(memory, nid, used=metric == "node_mem_used_bp")
        case "node_memcg_used_bp" | "node_memcg_free_bp" as metric:
            return node_memcg_bp(memory, nid, goal.path, used=metric == "node_memcg_used_bp")
        case "active_mem_bp" | "inactive_mem_bp" as metric:
            return lru_bp(memory, active=metric == "active_mem_bp")
        case _:
            return eligible_bp(ctx, scheme, memory, nid)


def _pressure(scheme: Scheme, index: int, goal: DamosQuotaGoal, memory: Memory) -> int:
    """Return the stall time since the last evaluation; there is none before the first."""
    quota, total = scheme.quota, memory.psi_some_us
    before = quota.psi_seen.get(index)
    quota.psi_seen[index] = total
    if before is not None:
        return total - before
    if not scheme.rules.first_pressure_is_neutral:
        return total
    if scheme.params.quota.goal_tuner == "temporal":
        return 0 if quota.effective_size else goal.target_value
    return goal.target_value


def node_memory_bp(memory: Memory, nid: int, used: bool) -> int:
    """Return the used or free share of a node; a node that does not exist is all free."""
    if not memory.has_node(nid):
        return 0 if used else BP
    total, in_use = memory.total_pages(nid), memory.used_pages(nid)
    if not total:
        return BP if used else 0
    return (in_use if used else total - in_use) * BP // total


def node_memcg_bp(memory: Memory, nid: int, path: str, used: bool) -> int:
    """Return a memory cgroup's LRU pages on a node over the node's; a missing group uses nothing."""
    name = path.removesuffix("\n")
    if not memory.has_node(nid) or not memory.has_memcg(name):
        return 0 if used else BP
    total = memory.total_pages(nid)
    if not total:
        return BP if used else 0
    pages = sum(memory.lru_pages(active, nid, name) for active in (True, False))
    return (pages if used else total - pages) * BP // total


def lru_bp(memory: Memory, active: bool) -> int:
    """Return the active or inactive share of the LRU lists."""
    pages = {side: memory.lru_pages(side) for side in (True, False)}
    return pages[active] * BP // max(sum(pages.values()), 1)


def eligible_bp(ctx: Context, scheme: Scheme, memory: Memory, nid: int) -> int:
    """Return the share on node ``nid`` of the bytes in regions that match the pattern. Only for paddr."""
    if ctx.operations != "paddr":
        return 0
    on_node = everywhere = 0
    for start, end in matching_ranges(ctx, scheme):
        first, last = start * ctx.addr_unit // page_size(), -(-end * ctx.addr_unit // page_size())
        frames = np.arange(first, min(last, memory.nr_frames))
        present = frames[memory.on_lru(frames)]
        everywhere += len(present)
        on_node += int((memory.node_of(present) == nid).sum())
    return on_node * BP // everywhere if everywhere else 0


def matching_ranges(ctx: Context, scheme: Scheme) -> list[tuple[int, int]]:
    regions = ctx.regions
    chosen: Bools = scheme.matches_all(regions.sizes, ctx.access_values(regions), regions.age)
    return regions.take(chosen).ranges()

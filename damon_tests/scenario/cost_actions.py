# SPDX-License-Identifier: GPL-2.0
"""Measure the cost of actions, sysfs commands and sysfs reads in exact instructions, and a region's
memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from damon_tests.damon.params import ANY, DamonCtx, Damos
from damon_tests.experiment.backend import Backend, Subject
from damon_tests.judge.cost.samples import CostSamples, instructions
from damon_tests.ports import HarnessError, page_size
from damon_tests.ports.cost import CallTree
from damon_tests.scenario import cost_setup as setup
from damon_tests.scenario.cost_runs import (
    HUGE_BLOCKS_SIZE,
    MEMORY_MIB,
    Request,
    on_data,
    on_frames,
    on_huge_blocks,
)
from damon_tests.scenario.cost_setup import MIB, NR_REGIONS, Watched
from damon_tests.workload.target import RunningTarget

# --- actions -------------------------------------------------------------------------------------

ACTIONS = (
    *("stat", "cold", "willneed", "lru_prio", "lru_deprio", "pageout", "migrate_cold", "hugepage"),
    "collapse",
)
_OF_FRAMES = ("lru_prio", "lru_deprio", "migrate_cold")
_OF_HUGE_BLOCKS = ("hugepage", "collapse")
_MACHINES: Mapping[str, Mapping[str, int]] = {
    "pageout": {"swap_zram_mib": 128},
    "migrate_cold": {"numa_nodes": 2},
    "hugepage": {"thp_on_advice": 1},
    "collapse": {"thp_on_advice": 1, "memory_mib": 1536},
}
_FAR_NODE = 1
"""Processes run on node 0, and so is their memory."""

ONCE_SAMPLE_US, ONCE_SAMPLES = 50_000, 10
"""Half a second: a measurement that ends soon after the pass sees the scheme applied exactly once."""


def action(backend: Backend, name: str, seed: int = 1) -> list[CostSamples]:
    """Return the instructions of an action per region tried, and per page that it was applied to.

    Every region is tried once. "lru_prio", "lru_deprio" and "migrate_cold" run with paddr, the others with
    fvaddr; regions of "hugepage" and "collapse" are blocks of 2 MiB. Raises HarnessError when regions were
    tried more or less than once.
    """
    size = HUGE_BLOCKS_SIZE if name in _OF_HUGE_BLOCKS else MEMORY_MIB * MIB
    with setup.watched(backend, setup.still(size), _once(name), seed, **_MACHINES.get(name, {})) as run:
        cost = run.cost_of(lambda: run.session.record(until=lambda: _all_tried(run)))
        stats = run.session.client.stats(0, 0)
    tree = setup.tree_of(cost)
    tried = setup.nr_calls(tree, setup.APPLY)
    used = tree.inclusive(*setup.APPLY)
    if (tried, stats.nr_tried) != (NR_REGIONS, NR_REGIONS):
        raise HarnessError(
            f"regions were tried {tried} times while that was counted, and {stats.nr_tried} times in all,"
            f" instead of {NR_REGIONS} times"
        )
    applying = tree.only(*setup.APPLY)
    samples = [instructions(f"action.{name}.region", [used / tried], applying)]
    if stats.sz_applied and name != "stat":
        per_page = used * page_size() / stats.sz_applied
        samples.append(instructions(f"action.{name}.page", [per_page], applying))
    return samples


def _all_tried(run: Watched) -> bool:
    return run.session.client.stats(0, 0).nr_tried >= NR_REGIONS


def _once(name: str) -> Request:
    nid = _FAR_NODE if name == "migrate_cold" else -1
    monitor = on_huge_blocks if name in _OF_HUGE_BLOCKS else on_data()

    def request(subject: Subject, target: RunningTarget) -> DamonCtx:
        ctx = on_frames(subject, target) if name in _OF_FRAMES else monitor(subject, target)
        attrs = replace(ctx.attrs, sample_us=ONCE_SAMPLE_US, aggr_us=ONCE_SAMPLES * ONCE_SAMPLE_US)
        return replace(ctx, attrs=attrs, schemes=(Damos(name, ANY, target_nid=nid),))

    return request


# --- commands and files --------------------------------------------------------------------------

MANY_REGIONS = 1000
COMMANDS = ("commit", "update_schemes_stats", "update_schemes_tried_regions")
SHORT_COMMANDS = (
    *("update_schemes_tried_bytes", "update_schemes_effective_quotas", "commit_schemes_quota_goals"),
    "update_tuned_intervals",
)
"""Commands that some kernels lack."""
LAST_COMMAND = "clear_schemes_tried_regions"
_READS = (
    *("kernfs_fop_read_iter", "kernfs_fop_open", "kernfs_fop_release", "kernfs_iop_lookup"),
    "kernfs_fop_readdir",
)


def commands(backend: Backend, seed: int = 1) -> list[CostSamples]:
    """Return the instructions of each command that the kernel has, with 1,000 regions and one scheme, and of
    reading tried_regions.

    Those of all threads count.
    """
    known = backend.capabilities()
    short = [word for word in SHORT_COMMANDS if known.has(f"commands.{word}")]
    pattern = setup.still(MEMORY_MIB * MIB)
    samples = []
    with setup.watched(backend, pattern, _observed, seed) as run:
        client = run.session.client
        for word in COMMANDS:
            samples.append(_command(run, word))
        tree = setup.tree_of(run.cost_of(lambda: client.tried_regions(0, 0, update=False), thread=""))
        reading = tree.only(*_READS)
        per_region = reading.instructions / MANY_REGIONS
        samples.append(instructions("read.tried_regions.region", [per_region], reading))
        for word in (LAST_COMMAND, *short):
            samples.append(_command(run, word))
        samples.append(_region_bytes(run.subject))
    return samples


def _observed(subject: Subject, target: RunningTarget) -> DamonCtx:
    ctx = on_data(nr_regions=MANY_REGIONS)(subject, target)
    return replace(ctx, schemes=(Damos("stat", ANY),))


def _command(run: Watched, word: str) -> CostSamples:
    tree = setup.tree_of(run.cost_of(lambda: run.session.client.command(0, word), thread=""))
    executed = _of_command(tree)
    return instructions(f"command.{word}", [executed.instructions], executed)


def _of_command(tree: CallTree) -> CallTree:
    """Return the part of the writer of ``state``, and of DAMON's sysfs functions in the kdamond.

    The writer's sleep until kdamond is ready is left out: it is the scheduler's work, two thirds of a short
    command, and depends on what else is runnable. Raises HarnessError when nobody executed state_store.
    """
    names = {name for p in tree.paths for name in p.names if name.startswith("damon_sysfs_")}
    executed = tree.only("state_store", *names).without(*setup.SLEEP)
    if not executed.instructions:
        raise HarnessError("nobody executed state_store while a command was counted")
    return executed


def _region_bytes(subject: Subject) -> CostSamples:
    """Return the bytes of one region: an object of its slab cache. Raises HarnessError without that cache."""
    for name in ("slab_size", "object_size"):
        try:
            size = int(subject.kernel_file(f"/sys/kernel/slab/damon_region/{name}"))
        except FileNotFoundError:
            continue
        return CostSamples("memory.region", "bytes", (float(size),))
    raise HarnessError("the kernel has no slab cache damon_region")

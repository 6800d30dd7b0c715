# SPDX-License-Identifier: GPL-2.0
"""Measure what schemes, filters, quotas and tuners add to each aggregation, in exact instructions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from damon_tests.damon.params import (
    ANY,
    DamonCtx,
    DamonIntervalsGoal,
    Damos,
    DamosFilter,
    DamosQuota,
    DamosQuotaGoal,
)
from damon_tests.experiment.backend import Backend, Subject
from damon_tests.judge.cost.samples import CostSamples, instructions
from damon_tests.ports import NotSupported, page_size
from damon_tests.ports.cost import CallTree, Cost
from damon_tests.scenario import cost_setup as setup
from damon_tests.scenario.cost_runs import CHUNK_PAGES, MEMORY_MIB, Request, on_data, on_frames, windows
from damon_tests.scenario.cost_setup import MIB, NR_REGIONS
from damon_tests.workload.target import RunningTarget

# Each differs from its reference in one thing, and none splits a region: the filter matches no address
# of the target, and the quota is larger than it.
_PLAIN = Damos("stat", ANY)
_FILTERED = replace(_PLAIN, filters=(DamosFilter("addr", matching=True, addr_start=0, addr_end=page_size()),))
_LIMITED = replace(
    _PLAIN,
    quota=DamosQuota(
        bytes=4 * MEMORY_MIB * MIB,
        reset_interval_ms=1,
        weight_sz_permil=1,
        weight_nr_accesses_permil=1,
        weight_age_permil=1,
    ),
)


_LONG_S, _LONG_WINDOWS = 1.0, 3
"""What is added is little beside the rest, which differs by a sampling interval from window to window: long
windows make that small."""


def schemes(backend: Backend, seed: int = 1) -> list[CostSamples]:
    """Return the instructions for each region and aggregation that a scheme adds to monitoring, and a filter
    and a quota to the scheme. What the action itself costs is not in them.
    """
    costs = {
        name: windows(
            backend, setup.still(MEMORY_MIB * MIB), _with(chosen), seed, seconds=_LONG_S, count=_LONG_WINDOWS
        )
        for name, chosen in (
            ("none", ()),
            ("scheme", (_PLAIN,)),
            ("filter", (_FILTERED,)),
            ("quota", (_LIMITED,)),
        )
    }
    return [
        _added(costs, "scheme", "none"),
        _added(costs, "filter", "scheme"),
        _added(costs, "quota", "scheme"),
    ]


# --- filters of the operations set ---------------------------------------------------------------

PAGE_FILTERS: Mapping[str, DamosFilter] = {
    "anon": DamosFilter("anon", matching=True),
    "young": DamosFilter("young", matching=False),
}
"""Filters that look at pages. Each rejects all pages of memory that nobody touches, so that the action does
nothing with them."""


def page_filter(backend: Backend, name: str, seed: int = 1) -> CostSamples:
    """Return the instructions for each page of finding it and rejecting it by a filter (paddr)."""

    def request(subject: Subject, target: RunningTarget) -> DamonCtx:
        scheme = Damos("lru_deprio", ANY, filters=(PAGE_FILTERS[name],))
        return replace(on_frames(subject, target), schemes=(scheme,))

    costs = windows(backend, setup.still(MEMORY_MIB * MIB), request, seed)
    trees = [setup.tree_of(cost) for cost in costs]
    values = [t.inclusive(*setup.APPLY) / setup.nr_calls(t, setup.APPLY) / CHUNK_PAGES for t in trees]
    return instructions(f"filter.{name}.page", values, trees[-1].only(*setup.APPLY))


# --- tuners --------------------------------------------------------------------------------------

# A goal that is never reached lets the tuner double the quota until the fixed one limits it. This takes
# about 30 windows of a sampling interval each, and ends before anything is counted.
_TUNED = replace(
    _LIMITED, quota=replace(_LIMITED.quota, goals=(DamosQuotaGoal("user_input", target_value=10_000),))
)
_INTERVALS_GOAL = DamonIntervalsGoal(
    access_bp=400, aggrs=1, min_sample_us=setup.SAMPLE_US, max_sample_us=setup.SAMPLE_US
)
"""A goal whose limits leave no choice, so that what is compared samples equally often."""


_QUOTA = ("damos_set_effective_quota", "damos_quota_score")
"""What computes the quota of a window. It is little beside the rest of a pass, so only this is compared."""


def quota_tuner(backend: Backend, seed: int = 1) -> CostSamples:
    """Return the instructions of a step of the quota's tuner with one goal.

    Raises NotSupported where the compiler left no function of it.
    """
    pattern = setup.still(MEMORY_MIB * MIB)
    costs = [windows(backend, pattern, _with((s,)), seed) for s in (_LIMITED, _TUNED)]
    plain, tuned = ([setup.tree_of(cost) for cost in of_request] for of_request in costs)
    if not tuned[-1].inclusive(*_QUOTA):
        raise NotSupported(f"functions of the tuner: this kernel has none of {', '.join(_QUOTA)}")
    values = [_per_pass(b) - _per_pass(a) for a, b in zip(plain, tuned, strict=True)]
    return instructions("tuner.quota", values, tuned[-1].only(*_QUOTA))


def _per_pass(tree: CallTree) -> float:
    return tree.inclusive(*_QUOTA) / setup.nr_calls(tree, setup.CHECK)


def intervals_tuner(backend: Backend, seed: int = 1) -> CostSamples:
    """Return the instructions of a step of the intervals' tuner for each region."""

    def request(subject: Subject, target: RunningTarget) -> DamonCtx:
        ctx = _with(())(subject, target)
        return replace(ctx, attrs=replace(ctx.attrs, intervals_goal=_INTERVALS_GOAL))

    pattern = setup.still(MEMORY_MIB * MIB)
    plain, tuned = (windows(backend, pattern, r, seed) for r in (_with(()), request))
    return _difference("tuner.intervals.region", plain, tuned, NR_REGIONS)


# --- differences ---------------------------------------------------------------------------------


def _with(chosen: tuple[Damos, ...]) -> Request:
    def request(subject: Subject, target: RunningTarget) -> DamonCtx:
        return replace(on_data(samples_per_aggr=1)(subject, target), schemes=chosen)

    return request


def _added(costs: Mapping[str, list[Cost]], name: str, to: str) -> CostSamples:
    return _difference(f"{name}.region", costs[to], costs[name], NR_REGIONS)


def _difference(
    metric: str, without: Sequence[Cost], with_it: Sequence[Cost], divisor: int = 1
) -> CostSamples:
    """Return the instructions that each sampling interval has more, divided by ``divisor``."""
    pairs = zip(without, with_it, strict=True)
    values = [(setup.rest_per_sample(b) - setup.rest_per_sample(a)) / divisor for a, b in pairs]
    return instructions(metric, values, setup.rest_of(with_it[-1]))

# SPDX-License-Identifier: GPL-2.0
"""Try many monitoring attributes on one pattern: how accurate the report is with each, for what cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from damon_tests.damon.params import DamonAttrs, DamonCtx, DamonIntervalsGoal, Kdamond
from damon_tests.experiment.backend import Backend
from damon_tests.experiment.experiment import derive_seed
from damon_tests.experiment.live import live
from damon_tests.experiment.observation import Observation
from damon_tests.judge.cost.budget import Budget
from damon_tests.judge.monitoring.tradeoff import Attempt, Hot, Point, estimated_instructions, judge_attempt
from damon_tests.kernel.guest.topology import Topology
from damon_tests.patterns.spec import Pattern
from damon_tests.ports import NSEC_PER_SEC, HarnessError, UsageError
from damon_tests.ports.cost import Cost

OPERATIONS = "vaddr"
SAMPLES_PER_AGGR = 20
MIN_NR_REGIONS = 10
GOAL_AGGRS = 3
"""Aggregations between two steps of the tuner, as DAMON's documentation suggests."""


@dataclass(frozen=True)
class Grid:
    """The attributes to try: every interval and every goal with every limit.

    ``sample_ms``: fixed sampling intervals; an aggregation has 20. ``max_nr_regions``: limits of regions.
    ``goals_bp``: access events to tune the intervals for, 0.01 %; the tuner stays between the smallest and
    the largest of ``sample_ms``.
    """

    sample_ms: tuple[float, ...] = (1, 5, 20, 100)
    max_nr_regions: tuple[int, ...] = (100, 1000)
    goals_bp: tuple[int, ...] = (100, 400)

    def attrs(self, with_goals: bool) -> list[DamonAttrs]:
        """Return all attributes, fixed intervals first. Raises UsageError for ones that DAMON refuses."""
        sample_us = [round(ms * 1000) for ms in self.sample_ms]
        if not sample_us or min(sample_us) < 1 or min(self.max_nr_regions) < MIN_NR_REGIONS:
            raise UsageError(
                f"give sampling intervals of 0.001 ms or more, and {MIN_NR_REGIONS} regions or more"
            )
        fixed = [
            DamonAttrs(us, us * SAMPLES_PER_AGGR, min_nr_regions=MIN_NR_REGIONS, max_nr_regions=limit)
            for limit, us in product(self.max_nr_regions, sample_us)
        ]
        if not with_goals:
            return fixed
        first_us = int(np.median(sample_us))
        tuned = [
            DamonAttrs(
                first_us,
                first_us * SAMPLES_PER_AGGR,
                min_nr_regions=MIN_NR_REGIONS,
                max_nr_regions=limit,
                intervals_goal=DamonIntervalsGoal(bp, GOAL_AGGRS, min(sample_us), max(sample_us)),
            )
            for limit, bp in product(self.max_nr_regions, self.goals_bp)
        ]
        return fixed + tuned


@dataclass(frozen=True)
class Plan:
    """``attempts``: recordings of ``seconds`` for each of the grid's attributes."""

    pattern: Pattern
    grid: Grid
    hot: Hot
    seconds: float
    attempts: int
    seed: int


def explore(
    backend: Backend, plan: Plan, budgets: Mapping[str, Budget], progress: Callable[[DamonAttrs], object]
) -> Iterator[Point]:
    """Yield a point for all attributes of the grid. The cost is counted where instructions can be, else
    estimated from ``budgets``. Raises what ``live`` and ``judge_attempt`` raise.
    """
    for attrs in plan.grid.attrs(backend.capabilities().has("attrs.intervals_goal")):
        progress(attrs)
        attempts: list[Attempt] = []
        counted: list[float] = []
        for number in range(1, plan.attempts + 1):
            observed, cost = _record(backend, plan, attrs, number)
            attempts.append(judge_attempt(observed, plan.hot))
            if cost is not None:
                counted.append(_instructions_per_s(cost))
        if counted:
            yield Point(attrs, tuple(attempts), float(np.median(counted)), counted=True)
        else:
            estimate = estimated_instructions(attempts, OPERATIONS, budgets, backend.level)
            yield Point(attrs, tuple(attempts), estimate)


def _record(backend: Backend, plan: Plan, attrs: DamonAttrs, number: int) -> tuple[Observation, Cost | None]:
    """Return an observation, and the cost of kdamond in instructions if they can be counted."""
    seed = derive_seed(plan.seed, f"explore {plan.pattern.name}", number, "target")
    topology = None if backend.simulated else replace(Topology(), instructions=True)
    kdamond = Kdamond(DamonCtx(OPERATIONS, attrs=attrs))
    cost: Cost | None = None
    with live(backend, [plan.pattern], [kdamond], seed, topology=topology, number=number) as run:
        length_ns = int(plan.seconds * NSEC_PER_SEC)
        if backend.simulated:
            run.session.record(length_ns)
        else:
            with run.subject.cost_probe().window("kdamond") as window:
                run.session.record(length_ns)
            cost = window.result
    if run.observation is None:
        raise HarnessError(f"nothing was recorded of {plan.pattern.name}")
    return run.observation, cost if cost is not None and cost.unit == "instructions" else None


def _instructions_per_s(cost: Cost) -> float:
    return cost.used / (cost.window_ns / NSEC_PER_SEC)


def describe(attrs: DamonAttrs) -> str:
    """Return attributes in a few words: "5 ms, 1000 regions", "tuned to 4 %, 100 regions"."""
    goal_bp = attrs.intervals_goal.access_bp
    intervals = f"tuned to {goal_bp / 100:g} %" if goal_bp else f"{attrs.sample_us / 1000:g} ms"
    return f"{intervals}, {attrs.max_nr_regions} regions"

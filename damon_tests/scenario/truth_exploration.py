# SPDX-License-Identifier: GPL-2.0
"""Try many monitoring attributes on the recorded truth of a program, without the program or a kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from damon_tests.damon.params import DamonAttrs
from damon_tests.experiment.experiment import derive_seed
from damon_tests.experiment.truth_replay import replay
from damon_tests.judge.cost.budget import Budget
from damon_tests.judge.monitoring.tradeoff import Hot, Point, estimated_instructions, judge_attempt
from damon_tests.ports import NSEC_PER_SEC, NSEC_PER_USEC, UsageError
from damon_tests.scenario.exploration import Grid
from damon_tests.workload.truth_file import SavedTruth

_FEWEST_AGGREGATIONS = 4


@dataclass(frozen=True)
class TruthPlan:
    """``attempts``: runs of the reference with other random numbers, for each of the grid's attributes.
    ``with_goals``: whether DAMON of this level tunes intervals."""

    saved: SavedTruth
    grid: Grid
    hot: Hot
    level: str
    with_goals: bool
    attempts: int
    seed: int


def fitting(plan: TruthPlan) -> tuple[list[DamonAttrs], list[DamonAttrs]]:
    """Return the grid's attributes that the truth can judge, and those that it cannot.

    It is too short for aggregations of which fewer than four fit into it, and too coarse for samples that are
    more frequent than its gap.
    """
    start_ns, end_ns = plan.saved.truth.span_ns()
    fit: list[DamonAttrs] = []
    unfit: list[DamonAttrs] = []
    for attrs in plan.grid.attrs(plan.with_goals):
        long_enough = _FEWEST_AGGREGATIONS * attrs.aggr_us * NSEC_PER_USEC <= end_ns - start_ns
        sample_us = attrs.intervals_goal.min_sample_us or attrs.sample_us
        fine_enough = sample_us * NSEC_PER_USEC >= plan.saved.truth.gap_ns
        (fit if long_enough and fine_enough else unfit).append(attrs)
    if not fit:
        seconds, gap_ms = (end_ns - start_ns) / NSEC_PER_SEC, plan.saved.truth.gap_ns / 1e6
        raise UsageError(
            f"{plan.saved.title} was recorded for {seconds:.1f} s, exact to {gap_ms:g} ms: give sampling"
            f" intervals (--sample-ms) from {gap_ms:g} to {seconds * 1000 / 80:.0f} ms"
        )
    return fit, unfit


def explore_truth(
    plan: TruthPlan, budgets: Mapping[str, Budget], progress: Callable[[DamonAttrs], object]
) -> Iterator[Point]:
    """Yield a point for all attributes that fit. Costs are estimated from the budgets."""
    seeds = [
        derive_seed(plan.seed, f"explore {plan.saved.title}", n, "replica") for n in range(plan.attempts)
    ]
    operations = "paddr" if plan.saved.space == "physical" else "vaddr"
    for attrs in fitting(plan)[0]:
        progress(attrs)
        observed = replay(plan.saved, attrs, plan.level, seeds)
        attempts = [judge_attempt(run, plan.hot) for run in observed]
        estimate = estimated_instructions(attempts, operations, budgets, plan.level)
        yield Point(attrs, tuple(attempts), estimate)

# SPDX-License-Identifier: GPL-2.0
"""List the benchmarks of DAMON's cost: what each measures, and how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from damon_tests.experiment.backend import Backend
from damon_tests.judge.cost.samples import CostSamples
from damon_tests.scenario import cost_actions, cost_runs, cost_schemes

REPEATS = 3
"""Number of guests for a cost that occurs once in each guest, so that its spread is known."""

Measure = Callable[[Backend, int], Sequence[CostSamples]]


@dataclass(frozen=True)
class Benchmark:
    """A benchmark of DAMON's cost.

    ``measure`` takes a backend and a seed. ``repeats``: how many guests give a sample each.
    """

    name: str
    about: str
    measure: Measure
    repeats: int = 1

    def run(self, backend: Backend, seed: int) -> list[CostSamples]:
        """Return all samples of its metrics. Raises NotSupported where the machine lacks a feature."""
        rounds = [self.measure(backend, seed + i) for i in range(self.repeats)]
        return [_joined([r[i] for r in rounds]) for i in range(len(rounds[0]))]


def _joined(samples: Sequence[CostSamples]) -> CostSamples:
    """Join the samples of one metric from several guests."""
    last = samples[-1]
    values = tuple(value for s in samples for value in s.values)
    return CostSamples(last.metric, last.unit, values, last.tree)


def _check(kind: str, backend: Backend, seed: int) -> list[CostSamples]:
    return [cost_runs.check(backend, kind, seed)]


def _action(name: str, backend: Backend, seed: int) -> list[CostSamples]:
    return cost_actions.action(backend, name, seed)


def _tracepoint(name: str, backend: Backend, seed: int) -> list[CostSamples]:
    return [cost_runs.tracepoint(backend, name, seed)]


def _page_filter(name: str, backend: Backend, seed: int) -> list[CostSamples]:
    return [cost_schemes.page_filter(backend, name, seed)]


def _quota_tuner(backend: Backend, seed: int) -> list[CostSamples]:
    return [cost_schemes.quota_tuner(backend, seed)]


def _intervals_tuner(backend: Backend, seed: int) -> list[CostSamples]:
    return [cost_schemes.intervals_tuner(backend, seed)]


BENCHMARKS: tuple[Benchmark, ...] = (
    *(
        Benchmark(f"check.{kind}", "instructions of one check of one region", partial(_check, kind))
        for kind in cost_runs.CHECKS
    ),
    Benchmark(
        "aggregation", "instructions that a region adds to an aggregation; wake-ups", cost_runs.aggregation
    ),
    Benchmark("update", "instructions of an update of a process's mappings", cost_runs.update),
    Benchmark("tracepoint", "instructions of tracing one region", partial(_tracepoint, "damon_aggregated")),
    Benchmark(
        "tracepoint.damos_before_apply",
        "instructions of tracing a scheme's try of one region",
        partial(_tracepoint, "damos_before_apply"),
    ),
    Benchmark(
        "schemes", "instructions that a scheme, a filter and a quota add for a region", cost_schemes.schemes
    ),
    *(
        Benchmark(f"filter.{name}", "instructions for a page that it rejects", partial(_page_filter, name))
        for name in cost_schemes.PAGE_FILTERS
    ),
    Benchmark("tuner.quota", "instructions of a step of the quota's tuner", _quota_tuner),
    Benchmark("tuner.intervals", "instructions of a step of the intervals' tuner", _intervals_tuner),
    *(
        Benchmark(f"action.{name}", "instructions for a region and a page", partial(_action, name), REPEATS)
        for name in cost_actions.ACTIONS
    ),
    Benchmark("commands", "instructions of commands with 1,000 regions", cost_actions.commands, REPEATS),
)
BY_NAME = {benchmark.name: benchmark for benchmark in BENCHMARKS}

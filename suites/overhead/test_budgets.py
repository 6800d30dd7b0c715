# SPDX-License-Identifier: GPL-2.0
"""What DAMON's operations cost, counted to the instruction and held to budgets of each kernel series."""

import pytest

from damon_tests.judge.cost.budget import within_budget
from damon_tests.scenario.cost_catalogue import BENCHMARKS

pytestmark = [pytest.mark.needs("ops.fvaddr", instructions=1)]

QUICK = ("check.fvaddr",)
"""The rest takes a minute or two and is for --profile full."""

WITHOUT_BUDGET = (
    *("check.hugetlb", "schemes", "tracepoint.damos_before_apply", "filter.anon", "filter.young"),
    *("tuner.quota", "tuner.intervals", "action.migrate_cold", "action.hugepage", "action.collapse"),
)
"""Measured by damon-tests bench only: they have no limits yet."""

NEEDED = {
    "check.vaddr": ["ops.vaddr"],
    "check.paddr": ["ops.paddr"],
    "update": ["ops.vaddr"],
    "tracepoint": ["damon_aggregated"],
    "action.lru_prio": ["ops.paddr"],
    "action.lru_deprio": ["ops.paddr"],
}


def case(benchmark):
    """A benchmark with what it needs of a kernel beyond what all do."""
    marks = [pytest.mark.needs(*NEEDED[benchmark.name])] if benchmark.name in NEEDED else []
    marks += [] if benchmark.name in QUICK else [pytest.mark.profile("full")]
    return pytest.param(benchmark, id=benchmark.name, marks=marks)


@pytest.mark.parametrize("benchmark", [case(b) for b in BENCHMARKS if b.name not in WITHOUT_BUDGET])
def test_operation_keeps_its_budget(backend, expect, budgets, benchmark):
    """No operation executes more instructions than its budget for this kernel series allows."""
    samples = benchmark.run(backend, seed=1)
    for metric in samples:
        if metric.metric in budgets:
            expect.add(within_budget(budgets[metric.metric], metric, backend.level))

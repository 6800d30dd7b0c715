# SPDX-License-Identifier: GPL-2.0
"""What DAMON's operations cost, counted to the instruction and held to budgets of each kernel series."""

import pytest

from damon_tests.judge.cost.budget import within_budget
from damon_tests.ports import NotSupported
from damon_tests.scenario.cost_catalogue import BENCHMARKS

pytestmark = [pytest.mark.needs("ops.fvaddr", instructions=1)]

QUICK = ("check.fvaddr",)
"""The rest takes a minute or two and is for --profile full."""

WITHOUT_BUDGET = {
    "6.12": (
        "command.commit_schemes_quota_goals",
        "command.update_schemes_effective_quotas",
        "command.update_schemes_tried_bytes",
    ),
    "7.2": (
        "action.collapse.",
        "action.hugepage.",
        "action.migrate_cold.",
        "check.hugetlb",
        "filter.anon.page",
        "filter.young.page",
        "tracepoint.damos_before_apply.",
    ),
    "7.3": ("action.collapse.",),
}
"""Beginnings of metrics that were not measured on a series yet, so that it has no limit of them."""

NEEDED = {
    "check.vaddr": ["ops.vaddr"],
    "check.paddr": ["ops.paddr"],
    "update": ["ops.vaddr"],
    "tracepoint": ["damon_aggregated"],
    "tracepoint.damos_before_apply": ["damos_before_apply"],
    "filter.anon": ["ops.paddr"],
    "filter.young": ["ops.paddr"],
    "tuner.intervals": ["attrs.intervals_goal"],
    "action.lru_prio": ["ops.paddr"],
    "action.lru_deprio": ["ops.paddr"],
    "action.migrate_cold": ["ops.paddr", "schemes.migrate_cold"],
    "action.hugepage": ["schemes.hugepage"],
    "action.collapse": ["schemes.collapse"],
}


def case(benchmark):
    """A benchmark with what it needs of a kernel beyond what all do."""
    marks = [pytest.mark.needs(*NEEDED[benchmark.name])] if benchmark.name in NEEDED else []
    marks += [] if benchmark.name in QUICK else [pytest.mark.profile("full")]
    return pytest.param(benchmark, id=benchmark.name, marks=marks)


@pytest.mark.parametrize("benchmark", [case(b) for b in BENCHMARKS])
def test_operation_keeps_its_budget(backend, expect, budgets, benchmark):
    """No operation executes more instructions than its budget for this kernel series allows."""
    samples = benchmark.run(backend, seed=1)
    unknown = WITHOUT_BUDGET.get(backend.level, ())
    limited = [metric for metric in samples if not metric.metric.startswith(unknown)]
    if not limited:
        raise NotSupported(
            f"budgets of {benchmark.name} for {backend.level}",
            remedy="measure it with damon-tests bench, then ci/bench/budgets_from_runs.py",
        )
    for metric in limited:
        expect.add(within_budget(budgets[metric.metric], metric, backend.level))

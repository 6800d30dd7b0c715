# SPDX-License-Identifier: GPL-2.0
"""What became dearer or cheaper in a run against an earlier one: the costs that budgets are checked on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from damon_tests.report.verdict_changes import compared_backends

LEAST = 0.01
"""Smaller changes are not listed. Counted costs of equal kernels differ by less than half of it."""

_BUDGET = "budget"  # the kind of such a check, see judge.cost.budget


@dataclass(frozen=True)
class CostChange:
    """``metric``: as in ``ci/bench`` and the budgets. ``before`` and ``after``: medians in ``unit``."""

    test: str
    backend: str
    metric: str
    unit: str
    before: float
    after: float

    @property
    def share(self) -> float:
        """Return how much dearer it became: 0.1 for a tenth, negative for cheaper."""
        return self.after / self.before - 1

    def __str__(self) -> str:
        return f"{self.metric}: {self.before:,.0f} → {self.after:,.0f} {self.unit} ({self.share:+.1%})"


def cost_changes(run: Mapping[str, Any], baseline: Mapping[str, Any]) -> list[CostChange]:
    """Return every cost that both runs have and that changed, the dearer ones first."""
    changes: list[CostChange] = []
    for backend, old in compared_backends(run, baseline):
        before, after = dict(_costs(baseline, old)), dict(_costs(run, backend))
        for (test, metric), (value, unit) in after.items():
            was, its_unit = before.get((test, metric), (0.0, ""))
            if was > 0 and its_unit == unit and abs(value / was - 1) >= LEAST:
                changes.append(CostChange(test, backend, metric, unit, was, value))
    return sorted(changes, key=lambda change: -change.share)


def _costs(run: Mapping[str, Any], backend: str) -> Iterator[tuple[tuple[str, str], tuple[float, str]]]:
    """Yield ((test, metric), (value, unit)) of what a budget was checked on."""
    for test in run["tests"]:
        if test["backend"] == backend:
            for check in test["checks"]:
                if check["kind"] == _BUDGET:
                    measured = check["measurement"]
                    yield (test["id"], measured["name"]), (float(measured["value"]), measured["unit"])

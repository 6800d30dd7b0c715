# SPDX-License-Identifier: GPL-2.0
"""Budgets: limits on cost (overhead, time, memory) with a reason, on repeated paired measurements.

A budget file is YAML, one entry a budget::

    kdamond cpu:
      limit: 0.03          # the median may be at most this
      unit: fraction
      reason: a production monitor must stay below 3 % of one CPU
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from damon_tests.judge.stats import binomial_tail
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports import UsageError

_FIELDS = {"limit", "unit", "reason"}


@dataclass(frozen=True)
class Budget:
    """The median of what is measured may be at most ``limit``; ``reason`` says why that number."""

    name: str
    limit: float
    unit: str
    reason: str


@dataclass(frozen=True)
class Pair:
    """One measurement without and one with what is judged, taken right after each other."""

    without: float
    with_: float


def load(path: Path) -> dict[str, Budget]:
    """Budgets by name. Raises UsageError with the file and the entry that is wrong."""
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not YAML ({error})") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path}: expected budgets by name")
    return {str(name): _budget(path, str(name), entry) for name, entry in content.items()}


def _budget(path: Path, name: str, entry: object) -> Budget:
    if not isinstance(entry, Mapping) or set(entry) != _FIELDS:
        raise UsageError(f"{path}: budget {name!r} needs exactly {', '.join(sorted(_FIELDS))}")
    fields: Mapping[str, Any] = entry
    if isinstance(fields["limit"], bool) or not isinstance(fields["limit"], int | float):
        raise UsageError(f"{path}: limit of {name!r} is not a number: {fields['limit']!r}")
    if not str(fields["reason"]).strip():
        raise UsageError(f"{path}: budget {name!r} has no reason")
    return Budget(name, float(fields["limit"]), str(fields["unit"]), str(fields["reason"]))


def overheads(pairs: Sequence[Pair]) -> tuple[float, ...]:
    """Relative cost of each pair: (with - without) / without."""
    return tuple((p.with_ - p.without) / p.without for p in pairs)


def within_budget(budget: Budget, samples: Sequence[float], alpha: float = 0.01) -> Check:
    """Whether the median keeps the budget, from independent samples.

    Decided by the exact confidence interval of the median (order statistics, no assumption about the
    distribution): holds when all of it keeps the limit, does not when none of it does, else undecided:
    more samples are needed.
    """
    low, high = median_interval(samples, alpha)
    value = float(np.median(samples)) if len(samples) else float("nan")
    m = Measurement(budget.name, value, budget.unit, tuple(float(s) for s in samples))
    holds = True if high <= budget.limit else False if low > budget.limit else None
    detail = f"{1 - alpha:.0%} interval of the median: {low:g} to {high:g}, {len(samples)} samples"
    return Check("budget", m, f"<= {budget.limit:g}", budget.reason, holds, detail, alpha)


def median_interval(samples: Sequence[float], alpha: float = 0.01) -> tuple[float, float]:
    """Exact confidence interval of the median; infinite where there are too few samples to say."""
    ordered, n = sorted(samples), len(samples)
    # k samples lie below the median with Binomial(n, 1/2): leave out as many as alpha / 2 allows.
    k = -1
    while 2 * (k + 1) < n and binomial_tail(k + 1, n, 0.5, "low") <= alpha / 2:
        k += 1
    if k < 0:
        return float("-inf"), float("inf")
    return ordered[k], ordered[n - 1 - k]

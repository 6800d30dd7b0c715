# SPDX-License-Identifier: GPL-2.0
"""Judge budgets: limits on DAMON's cost, each with a reason and a source.

A budget file is YAML::

    budgets:
      - metric: check.fvaddr
        unit: instructions          # exact; "fraction" and other units have noise
        reason: checks are nearly all that kdamond does
        limits:
          - {series: "7.3", limit: 2300, source: "2254 on Debian's 7.3.4, plus 2 %"}

``series`` "any" applies to all series without a limit of their own. A limit may have ``functions``, which
say where the measured cost went, so that a failure names what became dearer::

    functions: "walk_pgd_range 600.2, lock_vma_under_rcu 166"
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from damon_tests.judge.cost.samples import CostSamples
from damon_tests.judge.stats import binomial_tail
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.patterns.yaml_nodes import Value, read
from damon_tests.ports import UsageError
from damon_tests.ports.numbers import number

ANY_SERIES = "any"
LOOKS = (10, 20, 40)
"""Numbers of pairs after which a noisy budget is judged; undecided after the last one is INCONCLUSIVE."""

_LARGEST = 1e15


@dataclass(frozen=True)
class Limit:
    """The largest value that keeps the budget. ``source``: where the number comes from.

    ``functions``: the dearest functions when it was measured, and the instructions of each.
    """

    limit: float
    source: str
    functions: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Budget:
    """The limits of one metric by kernel series; ``reason``: why it is limited."""

    metric: str
    unit: str
    reason: str
    limits: Mapping[str, Limit] = field(default_factory=dict)

    def of(self, series: str) -> Limit | None:
        """Return the limit of a kernel series; None: there is none."""
        return self.limits.get(series, self.limits.get(ANY_SERIES))


@dataclass(frozen=True)
class Pair:
    """Two consecutive measurements: without and with what is judged."""

    without: float
    with_: float


# --- files ---------------------------------------------------------------------------------------


def load(path: Path) -> dict[str, Budget]:
    """Return the budgets by metric. Raises UsageError that names the file and the wrong line."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: is no text") from None
    if not text.strip():
        raise UsageError(f"{path}:1: the file is empty; it needs a list 'budgets'")
    top = read(text, str(path))
    budgets: dict[str, Budget] = {}
    for entry in top.required(top.mapping("budgets"), "budgets").items():
        budget = _budget(entry)
        if budget.metric in budgets:
            raise entry.error(f"the metric {budget.metric} has a budget already; keep one")
        budgets[budget.metric] = budget
    return budgets


def _budget(entry: Value) -> Budget:
    values = entry.mapping("metric", "unit", "reason", "limits")
    metric, unit, reason = (_words(entry, values, name) for name in ("metric", "unit", "reason"))
    limits: dict[str, Limit] = {}
    for item in entry.required(values, "limits").items():
        fields = item.mapping("series", "limit", "source", "functions")
        series = _words(item, fields, "series")
        if series in limits:
            raise item.error(f"the series {series} has a limit already; keep one")
        limit = item.required(fields, "limit").decimal(0, _LARGEST)
        functions = _functions(fields["functions"]) if "functions" in fields else {}
        limits[series] = Limit(limit, _words(item, fields, "source"), functions)
    if not limits:
        raise entry.error("a budget without limits limits nothing")
    return Budget(metric, unit, reason, limits)


def _functions(value: Value) -> dict[str, float]:
    functions: dict[str, float] = {}
    for part in value.text().split(","):
        name, _, count = part.strip().partition(" ")
        try:
            functions[name] = float(count)
        except ValueError:
            raise value.error(f"{part.strip()!r} is no function with its instructions") from None
    return functions


def _words(entry: Value, values: Mapping[str, Value], name: str) -> str:
    value = entry.required(dict(values), name)
    words = value.text().strip()
    if not words:
        raise value.error("is empty; say it in words")
    return words


# --- decisions -----------------------------------------------------------------------------------


def within_budget(budget: Budget, samples: CostSamples, series: str) -> Check:
    """Check that exact samples keep the budget of a series: all of them pass, or none does.

    Undecided otherwise, and for a series without a limit. Raises UsageError for another unit.
    """
    if samples.unit != budget.unit:
        raise UsageError(
            f"the budget of {budget.metric} is in {budget.unit}, and it was measured in {samples.unit}"
        )
    limit = budget.of(series)
    if limit is None:
        detail = f"no limit for the series {series}: measure it and add one"
        return Check("budget", samples.measurement, "a limit", budget.reason, None, detail)
    low, high = min(samples.values), max(samples.values)
    detail = f"{number(low)} to {number(high)} in {len(samples.values)} windows; limit: {limit.source}"
    holds = _decision(low, high, limit.limit)
    dearest = _dearest(samples)
    if holds is not True and (dearer := _dearer(samples, limit.functions)):
        detail += f"; dearer than when the limit was set: {dearer}"
    return Check(
        "budget",
        samples.measurement,
        f"<= {number(limit.limit)}",
        budget.reason,
        holds,
        f"{detail}; dearest functions: {dearest}" if dearest else detail,
    )


def _dearest(samples: CostSamples, count: int = 5) -> str:
    """Return the functions that execute the largest shares, for a message."""
    if samples.tree is None or not samples.tree.instructions:
        return ""
    total = samples.tree.instructions
    first = list(samples.tree.functions().items())[:count]
    return ", ".join(f"{name} {own / total:.1%}" for name, own in first)


def _dearer(samples: CostSamples, known: Mapping[str, float], count: int = 5) -> str:
    """Return the functions whose instructions grew most, for a message; a new one grew from what the cheapest
    known one has, at most."""
    if samples.tree is None or not samples.tree.instructions or not known:
        return ""
    scale = samples.values[-1] / samples.tree.instructions
    now = {name: own * scale for name, own in samples.tree.functions().items()}
    least = min(known.values())
    grown = {name: own - known.get(name, least) for name, own in now.items()}
    first = sorted(grown, key=lambda name: -grown[name])[:count]
    before = {name: f"{known[name]:.0f}" if name in known else f"at most {least:.0f}" for name in first}
    return ", ".join(f"{name} {before[name]} -> {now[name]:.0f}" for name in first if grown[name] > 0.5)


def _decision(low: float, high: float, limit: float) -> bool | None:
    """Return True if [low, high] keeps the limit, False if all of it exceeds it, else None."""
    return True if high <= limit else False if low > limit else None


def median_within(measurement: Measurement, limit: float, reason: str, alpha: float = 0.01) -> Check:
    """Check that the median of independent, noisy samples keeps a limit.

    The exact confidence interval of the median decides (order statistics, for any distribution): below the
    limit is a pass, above a fail, else undecided.
    """
    low, high = median_interval(measurement.samples, alpha)
    detail = f"{1 - alpha:.2%} interval of the median: {number(low)} to {number(high)}"
    detail += f", {len(measurement.samples)} samples"
    holds = _decision(low, high, limit)
    return Check("budget", measurement, f"<= {number(limit)}", reason, holds, detail, alpha)


def paired(
    budget: Budget, limit: Limit, take: Callable[[], Pair], looks: Sequence[int] = LOOKS, alpha: float = 0.01
) -> Check:
    """Take pairs until their median overhead is decided, at most ``looks[-1]`` of them.

    ``alpha``: the false-alarm probability, spent equally on the looks. Raises UsageError without looks.
    """
    pairs: list[Pair] = []
    check: Check | None = None
    for count in looks:
        while len(pairs) < count:
            pairs.append(take())
        values = overheads(pairs)
        measured = Measurement(budget.metric, float(np.median(values)), budget.unit, values)
        check = median_within(measured, limit.limit, budget.reason, alpha / len(looks))
        if check.holds is not None:
            return check
    if check is None:
        raise UsageError("pairs that are never looked at decide nothing")
    return check


def overheads(pairs: Sequence[Pair]) -> tuple[float, ...]:
    """Return the relative cost of each pair: (with - without) / without."""
    return tuple((p.with_ - p.without) / p.without for p in pairs)


def median_interval(samples: Sequence[float], alpha: float = 0.01) -> tuple[float, float]:
    """Return the exact 1 - alpha confidence interval of the median; infinite with too few samples."""
    ordered, n = sorted(samples), len(samples)
    # k samples lie below the median with Binomial(n, 1/2): leave out as many as alpha / 2 allows.
    k = -1
    while 2 * (k + 1) < n and binomial_tail(k + 1, n, 0.5, "low") <= alpha / 2:
        k += 1
    if k < 0:
        return -math.inf, math.inf
    return ordered[k], ordered[n - 1 - k]

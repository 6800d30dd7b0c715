# SPDX-License-Identifier: GPL-2.0
"""Compare the cost of DAMON in two kernels, metric by metric: dearer, cheaper, the same, or not decided.

Each metric gets Student's interval of the relative difference of means, at a level divided by the number of
metrics, so that all outcomes together are wrong at most as often as stated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from damon_tests.judge.cost.samples import EXACT_UNITS, CostSamples
from damon_tests.ports import UsageError

Outcome = Literal["dearer", "cheaper", "same", "cannot tell"]

ALPHA = 0.01
SAME_WITHIN = 0.0025
"""Differences up to a quarter of a percent do not count: compilers place code differently in each build."""

RATES_SAME_WITHIN = 0.05
"""The same for rates, which are not exact: a window of a quarter second has some 40 wake-ups, give or take
one."""

RESOLUTION = 1e-4
"""Least half width of an interval: counts are exact, but few windows may agree by chance."""


@dataclass(frozen=True)
class Effect:
    """How one metric changed: relative difference of means, with its interval [low, high]."""

    metric: str
    unit: str
    before: float
    after: float
    change: float
    low: float
    high: float
    outcome: Outcome


def compare(
    before: Mapping[str, CostSamples],
    after: Mapping[str, CostSamples],
    alpha: float = ALPHA,
) -> list[Effect]:
    """Return the effects of all metrics that both have, sorted by name.

    Raises UsageError without a common metric, or for a metric in different units.
    """
    common = sorted(before.keys() & after.keys())
    if not common:
        raise UsageError("the two have no metric in common: nothing can be compared")
    for name in common:
        if before[name].unit != after[name].unit:
            raise UsageError(
                f"{name} is in {before[name].unit} in one and in {after[name].unit} in the other:"
                " instructions and time are never compared"
            )
    return [_effect(before[name], after[name], alpha / len(common)) for name in common]


def _effect(before: CostSamples, after: CostSamples, alpha: float) -> Effect:
    first, second = np.asarray(before.values), np.asarray(after.values)
    base = float(first.mean())
    change = float(second.mean()) / base - 1 if base else math.nan
    half = _half_width(first, second, alpha) / abs(base) if base else math.inf
    half += RESOLUTION
    low, high = change - half, change + half
    same_within = SAME_WITHIN if before.unit in EXACT_UNITS else RATES_SAME_WITHIN
    outcome = _outcome(low, high, same_within)
    return Effect(before.metric, before.unit, base, float(second.mean()), change, low, high, outcome)


def _outcome(low: float, high: float, same_within: float) -> Outcome:
    if low > same_within:
        return "dearer"
    if high < -same_within:
        return "cheaper"
    if -same_within <= low and high <= same_within:
        return "same"
    return "cannot tell"


def _half_width(first: np.ndarray, second: np.ndarray, alpha: float) -> float:
    """Return half of Student's interval of a difference of means; infinite with a single sample of either.

    The variance is pooled, because both were measured in the same way.
    """
    n, m = len(first), len(second)
    if min(n, m) < 2:
        return math.inf
    freedom = n + m - 2
    variance = ((n - 1) * first.var(ddof=1) + (m - 1) * second.var(ddof=1)) / freedom
    if variance == 0:
        return 0.0
    return t_quantile(1 - alpha / 2, freedom) * math.sqrt(variance * (1 / n + 1 / m))


@lru_cache(maxsize=256)
def t_quantile(p: float, freedom: int) -> float:
    """Return the quantile of Student's t distribution with whole degrees of freedom, 0.5 < p < 1."""
    low, high = 0.0, 1.0
    while t_cdf(high, freedom) < p:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if t_cdf(middle, freedom) < p else (low, middle)
    return high


def t_cdf(t: float, freedom: int) -> float:
    """Return P(T <= t) for t >= 0, by the finite sums of Abramowitz and Stegun 26.7.3 and 26.7.4."""
    theta = math.atan2(t, math.sqrt(freedom))
    cosine, sine = math.cos(theta), math.sin(theta)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = term if freedom > 1 else 0.0
    for k in range(3 if odd else 2, freedom - 1, 2):
        term *= (k - 1) / k * cosine**2
        total += term
    between = 2 / math.pi * (theta + sine * total) if odd else sine * total
    return 0.5 + between / 2


# --- what may be compared ------------------------------------------------------------------------

CHECKED = ("architecture", "qemu", "accel", "clock", "memory_mib", "cpus", "numa_nodes", "bench", "config")
"""Facts about a bench run that must be equal in a comparison."""


def differences(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    """Return the CHECKED facts in which two bench runs differ; empty when they may be compared."""
    return [
        f"{name}: {before.get(name)!r} and {after.get(name)!r}"
        for name in CHECKED
        if before.get(name) != after.get(name)
    ]


# --- by function ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class FunctionChange:
    """A function's own instructions per unit of the metric, before and after."""

    name: str
    before: float
    after: float


def by_function(before: CostSamples, after: CostSamples, count: int = 5) -> list[FunctionChange]:
    """Return the functions whose own share of the metric changed most; of equal changes, growth first.

    The trees count whole windows, and are scaled so that each adds up to the metric's value.
    """
    if before.tree is None or after.tree is None:
        return []
    old, new = _scaled(before), _scaled(after)
    changes = [FunctionChange(n, old.get(n, 0.0), new.get(n, 0.0)) for n in sorted({*old, *new})]
    changes.sort(key=lambda c: (-abs(c.after - c.before), -c.after))
    return [c for c in changes[:count] if c.after != c.before]


def _scaled(samples: CostSamples) -> dict[str, float]:
    assert samples.tree is not None
    total = samples.tree.instructions
    return (
        {n: own / total * samples.values[-1] for n, own in samples.tree.functions().items()} if total else {}
    )


def summary(effects: Sequence[Effect]) -> dict[Outcome, int]:
    """Return how many metrics have each outcome."""
    counts: dict[Outcome, int] = {"dearer": 0, "cheaper": 0, "same": 0, "cannot tell": 0}
    for effect in effects:
        counts[effect.outcome] += 1
    return counts

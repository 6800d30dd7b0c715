# SPDX-License-Identifier: GPL-2.0
"""Statistics with numpy alone, each test exact at its stated false-alarm probability.

This module knows nothing about DAMON. A *p value* is valid when P(p <= a) <= a for every a if the hypothesis
is true; ties always count in favour of the hypothesis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from damon_tests.ports.arrays import F64

Side = Literal["low", "high", "both"]
State = Literal["continue", "pass", "fail", "inconclusive"]

# Outcomes as likely as the observed one, up to rounding, count as at least as extreme.
_RELATIVE_ROUNDING = 1e-9


# --- binomial --------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def binomial_pmf(n: int, p: float) -> F64:
    """Return P(X = k) for k = 0..n, X ~ Binomial(n, p)."""
    if not 0 < p < 1:
        pmf = np.zeros(n + 1)
        pmf[n if p >= 1 else 0] = 1
        return pmf
    k = np.arange(n + 1)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    logs = log_factorial[n] - log_factorial - log_factorial[::-1] + k * math.log(p) + (n - k) * math.log1p(-p)
    return np.asarray(np.exp(logs), dtype=np.float64)


def binomial_tail(k: int, n: int, p: float, side: Literal["low", "high"]) -> float:
    """Return P(X <= k) ("low") or P(X >= k) ("high")."""
    pmf = binomial_pmf(n, p)
    part = pmf[: k + 1] if side == "low" else pmf[max(0, k) :]
    return min(1.0, float(np.sort(part).sum()))


def binomial_test(k: int, n: int, p: float, side: Side = "both") -> float:
    """Return the exact p value of k successes in n trials with probability p.

    "both": the total probability of all outcomes that are no likelier than k.
    """
    if side != "both":
        return binomial_tail(k, n, p, side)
    pmf = binomial_pmf(n, p)
    return min(1.0, float(pmf[pmf <= pmf[k] * (1 + _RELATIVE_ROUNDING)].sum()))


def binomial_interval(n: int, p: float, alpha: float) -> tuple[int, int]:
    """Return the smallest and largest k that the two-sided test at ``alpha`` accepts."""
    pmf = binomial_pmf(n, p)
    order = np.sort(pmf)
    below = np.cumsum(order)
    # p value of k: all mass of outcomes no likelier than k.
    last = np.searchsorted(order, pmf * (1 + _RELATIVE_ROUNDING), side="right") - 1
    accepted = np.flatnonzero(below[last] > alpha)
    return int(accepted[0]), int(accepted[-1])


def clopper_pearson(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the two-sided exact confidence interval of a proportion: k successes in n trials."""
    tail = (1 - confidence) / 2
    return lower_bound(k, n, 1 - tail), upper_bound(k, n, 1 - tail)


def upper_bound(k: int, n: int, confidence: float = 0.95) -> float:
    """Return the one-sided exact upper bound of a proportion, such as a false-alarm rate: k in n."""
    if k >= n:
        return 1.0
    return _solve(lambda p: binomial_tail(k, n, p, "low") - (1 - confidence))


def lower_bound(k: int, n: int, confidence: float = 0.95) -> float:
    """Return the one-sided exact lower bound of a proportion."""
    if k <= 0:
        return 0.0
    return _solve(lambda p: (1 - confidence) - binomial_tail(k, n, p, "high"))


def _solve(decreasing: Callable[[float], float]) -> float:
    """Return the root in [0, 1] of a decreasing function, by bisection to the last bit that matters."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if decreasing(middle) > 0 else (low, middle)
    return (low + high) / 2


# --- observations against replicas -----------------------------------------------------------


def rank_test(strata: Sequence[tuple[Sequence[float], Sequence[float]]], side: Side = "both") -> float:
    """Return the exact p value of the hypothesis that observations and replicas have one distribution.

    ``strata``: (replicas, observations) that share nothing with each other, such as attempts with truths of
    their own; observations that share their replicas are in one stratum. The statistic is the sum of the
    observations' ranks. Under the hypothesis ranks are an even draw, whatever the distribution and
    however few the replicas: no normality, no estimated quantile, no finite-N error. With k observations and
    N replicas the smallest p is 1 / C(N + k, k) on one side.
    """
    if side == "both":
        return min(1.0, 2 * min(rank_test(strata, "low"), rank_test(strata, "high")))
    sign = 1.0 if side == "high" else -1.0
    null, total = np.ones(1), 0
    for replicas, observed in strata:
        r = np.sort(sign * np.asarray(replicas, np.float64))
        # A tie with a replica counts as below it: against rejection.
        total += int(np.searchsorted(r, sign * np.asarray(observed, np.float64), side="left").sum())
        null = np.convolve(null, _rank_sums(len(r), len(observed)))
    return min(1.0, float(null[total:].sum()))


@lru_cache(maxsize=64)
def _rank_sums(n: int, k: int) -> F64:
    """Return P(U = u) for u = 0..n*k, shape (n*k + 1,): the null distribution of Mann and Whitney.

    U counts the (replica, observation) pairs whose replica is below, with k observations among n replicas in
    random order.
    """
    size = n * k + 1
    ways = [np.zeros(size) for _ in range(k + 1)]
    ways[0][0] = 1.0
    # Place from low to high: an observation placed after i replicas adds i pairs.
    for i in range(n + 1):
        for j in range(1, k + 1):
            ways[j][i:] += ways[j - 1][: size - i]
    return np.asarray(ways[k] / math.comb(n + k, k), dtype=np.float64)


def smallest_p(replicas: int, observations: int, side: Side) -> float:
    """Return the least p value that ``rank_test`` can give with one shared stratum."""
    return min(1.0, (2 if side == "both" else 1) / math.comb(replicas + observations, observations))


# --- the sequential rule ---------------------------------------------------------------------


@dataclass(frozen=True)
class SequentialRule:
    """A sequential test: look at all independent attempts so far after ``looks`` of them, by default 1, 3, 5.

    At look i the p value of *all* attempts so far decides: a fail up to ``spend[i] * alpha``, a pass above
    ``comfort[i]``, else more attempts. At the last look: a fail up to half of its share, inconclusive up to
    its share, else a pass. The shares add up to 1, so P(fail or inconclusive) <= alpha for a correct DAMON.
    No attempt is ever left out.

    The default suits a gate of some hundred such tests: less than one run in a hundred has a false alarm. Of
    wrong DAMONs that are off by 3 standard deviations of a correct one it notices two in three, by 4 19 in
    20, by 6 all, mostly at the last look (two metrics, 40 replicas; simulated in
    tests/judge/test_judge_alpha.py).
    """

    alpha: float = 1e-4
    looks: tuple[int, ...] = (1, 3, 5)
    spend: tuple[float, ...] = (0.25, 0.25, 0.5)
    comfort: tuple[float, ...] = (0.1, 0.05)

    def __post_init__(self) -> None:
        if len(self.spend) != len(self.looks) or len(self.comfort) != len(self.looks) - 1:
            raise ValueError("a share of alpha for each look, and a comfort level for each but the last")
        if sum(self.spend) > 1 + 1e-12 or list(self.looks) != sorted(set(self.looks)):
            raise ValueError("shares of alpha add up to at most 1, looks ascend")

    def next_look(self, attempts: int) -> int:
        """Return how many attempts the next decision needs; at a look, ``attempts`` itself."""
        return next((look for look in self.looks if look >= attempts), self.looks[-1])

    def threshold(self, attempts: int) -> float:
        """Return the largest p value that fails after this number of attempts; 0 between looks."""
        if attempts not in self.looks:
            return 0.0
        share = self.alpha * self.spend[self.looks.index(attempts)]
        return share / 2 if attempts == self.looks[-1] else share

    def decide(self, attempts: int, p: float) -> State:
        """Return the decision for the pooled p value of this number of attempts."""
        if attempts not in self.looks:
            return "continue"
        i = self.looks.index(attempts)
        if p <= self.threshold(attempts):
            return "fail"
        if i == len(self.looks) - 1:
            return "inconclusive" if p <= self.alpha * self.spend[i] else "pass"
        return "pass" if p > self.comfort[i] else "continue"

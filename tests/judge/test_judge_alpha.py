# SPDX-License-Identifier: GPL-2.0
"""The whole decision at the α that suites use: how often it accuses a correct DAMON, and what it notices.

Hundreds of thousands of made-up tests. For that the procedure is written once more, over arrays; on some
of them it is held against the real one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest

from damon_tests.judge import stats
from damon_tests.judge.oracle import Band, BandMetric, decide_sequentially
from damon_tests.judge.stats import SequentialRule

F64 = npt.NDArray[np.float64]
RULE = SequentialRule()
ATTEMPTS = RULE.looks[-1]
BLOCK = 20_000


@dataclass(frozen=True)
class Shape:
    """The shape of a suite's test: metrics, their side, replicas, a band shared by all attempts or one for
    each."""

    metrics: int
    replicas: int
    side: stats.Side
    shared: bool


SHAPES = [
    Shape(2, 40, "both", True),  # simulated targets that are not drawn: regions, rate bias
    Shape(2, 40, "both", False),  # kernels: each attempt has a truth of its own
    Shape(3, 40, "low", False),
    Shape(3, 60, "both", True),
]


@cache
def upper_tails(shape: Shape, attempts: int) -> F64:
    """Return P(sum of ranks >= u) for a number of observations."""
    if shape.shared:
        null = stats._rank_sums(shape.replicas, attempts)
    else:
        null = np.ones(1)
        for _ in range(attempts):
            null = np.convolve(null, stats._rank_sums(shape.replicas, 1))
    return np.cumsum(null[::-1])[::-1]


def drawn(shape: Shape, tests: int, shift: float, seed: int) -> tuple[F64, F64]:
    """Return (replicas, observations) of skewed metrics, shifted the wrong way by ``shift`` standard
    deviations."""
    rng = np.random.default_rng(seed)
    bands = 1 if shape.shared else ATTEMPTS
    sign = -1 if shape.side == "low" else 1
    replicas = rng.gumbel(size=(tests, shape.metrics, bands, shape.replicas))
    observed = rng.gumbel(size=(tests, shape.metrics, ATTEMPTS))
    return replicas, observed + sign * shift * np.pi / np.sqrt(6)


def p_values(shape: Shape, below: F64, attempts: int) -> F64:
    """Of (tests, metrics, attempts): how many replicas lie below each observation."""
    tails = upper_tails(shape, attempts)
    ranks = below[:, :, :attempts].sum(axis=2).astype(int)
    high, low = tails[ranks], tails[shape.replicas * attempts - ranks]
    p = {"high": high, "low": low, "both": 2 * np.minimum(high, low)}[shape.side]
    adjusted: F64 = np.minimum(1.0, shape.metrics * p.min(axis=1))
    return adjusted


def states(shape: Shape, replicas: F64, observed: F64) -> list[str]:
    below = np.empty(observed.shape)
    for i in range(ATTEMPTS):
        band = replicas[:, :, 0 if shape.shared else i]
        below[:, :, i] = (band < observed[:, :, i, None]).sum(axis=2)
    state_of_test = np.full(len(observed), "continue", dtype="<U12")
    for look in RULE.looks:
        waiting = np.flatnonzero(state_of_test == "continue")
        adjusted = p_values(shape, below[waiting], look)
        state_of_test[waiting] = [RULE.decide(look, p) for p in adjusted]
    return state_of_test.tolist()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_simulation_decides_as_the_real_procedure(shape: Shape) -> None:
    replicas, observations = drawn(shape, 60, 2.0, seed=5)
    metrics = [BandMetric(f"m{i}", "count", shape.side) for i in range(shape.metrics)]

    def decided(test: int) -> str:
        def attempt(n: int) -> tuple[Band, dict[str, float]]:
            band = 0 if shape.shared else n - 1
            values = {m.name: tuple(replicas[test, i, band].tolist()) for i, m in enumerate(metrics)}
            observed = {m.name: float(observations[test, i, n - 1]) for i, m in enumerate(metrics)}
            return Band(f"{test}/{band}", values), observed

        return decide_sequentially(attempt, metrics, RULE).state

    expected = [decided(test) for test in range(len(observations))]
    assert states(shape, replicas, observations) == expected
    assert len(set(expected)) > 1


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_correct_damon_fails_at_most_at_stated_rate(shape: Shape) -> None:
    """FAIL and INCONCLUSIVE together stay within α = 1e-4, over all metrics and attempts."""
    alarms, tests = 0, 10 * BLOCK
    for block in range(10):
        decided = states(shape, *drawn(shape, BLOCK, 0.0, seed=block))
        alarms += sum(state != "pass" for state in decided)
    assert stats.lower_bound(alarms, tests, 0.999) <= RULE.alpha


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_wrong_damon_fails_at_stated_rate(shape: Shape) -> None:
    """Every metric is off by ``shift`` standard deviations of a correct DAMON."""
    for shift, least in ((3.0, 0.6), (4.0, 0.94), (6.0, 0.99)):
        decided = states(shape, *drawn(shape, 2000, shift, seed=9))
        assert sum(state == "fail" for state in decided) / len(decided) >= least

# SPDX-License-Identifier: GPL-2.0
"""Do two samples come from one distribution? By random relabelling, valid for any distribution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from damon_tests.ports.arrays import F64


def ks_test(a: Sequence[float], b: Sequence[float], seed: int, rounds: int = 9_999) -> float:
    """Return the p value that a and b come from one distribution.

    The statistic is the largest distance of their empirical distribution functions, of the sample among
    random relabellings of it: two-sided, for any difference, ties allowed.
    """
    rng = np.random.default_rng(seed)
    pooled = np.concatenate([np.asarray(a, np.float64), np.asarray(b, np.float64)])
    at = np.sort(pooled)
    observed = _distance(pooled[: len(a)], pooled[len(a) :], at)
    at_least = 1  # the observed labelling counts as one round
    for _ in range(rounds):
        shuffled = rng.permuted(pooled)
        # Up to rounding, an equal distance is at least as large.
        at_least += _distance(shuffled[: len(a)], shuffled[len(a) :], at) >= observed - 1e-9
    return at_least / (rounds + 1)


def _distance(a: F64, b: F64, at: F64) -> float:
    fa = np.searchsorted(np.sort(a), at, side="right") / len(a)
    fb = np.searchsorted(np.sort(b), at, side="right") / len(b)
    return float(np.abs(fa - fb).max())

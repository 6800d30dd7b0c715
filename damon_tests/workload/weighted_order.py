# SPDX-License-Identifier: GPL-2.0
"""Weighted draws of slots, for ``order: zipf`` and ``order: gaussian``.

A weighted draw takes two steps, in whole numbers: draw a *bucket* of neighbouring slots by its
weight, then draw one of its slots uniformly. Python computes the buckets and passes them to the engine, so
that both draw the same slots, however their C libraries round exp() and pow(). With the 64 bits
``r`` of a draw (``generator``)::

    bucket = the first whose cumulative weight is larger than r >> 32     (the last has 2**32)
    slot   = begin + ((r & 0xffffffff) * (end - begin) >> 32)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from damon_tests.patterns.spec import Access

TOTAL = 1 << 32
# Each of the first slots of a Zipf hot spot has its own bucket; later buckets grow in length.
_EXACT_RANKS = 64
_GROWTH = 1.1
_GAUSSIAN_BUCKETS = 128
_GAUSSIAN_SIGMAS = 4.0


@dataclass(frozen=True, eq=False)
class Buckets:
    """``ends[i]``: the first slot after bucket ``i``; ``cumulative[i]``: weight of 0 to ``i``, of 2**32."""

    ends: npt.NDArray[np.uint64]
    cumulative: npt.NDArray[np.uint64]

    def slots_of(self, draws: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Return the slot of each draw, same shape."""
        shift = np.uint64(32)
        bucket = np.searchsorted(self.cumulative, draws >> shift, side="right")
        begins = np.concatenate(([np.uint64(0)], self.ends[:-1]))
        lengths = self.ends - begins
        within = (draws & np.uint64(0xFFFFFFFF)) * lengths[bucket] >> shift
        slots: npt.NDArray[np.int64] = (begins[bucket] + within).astype(np.int64)
        return slots


@lru_cache(maxsize=64)
def buckets_of(access: Access) -> Buckets:
    """Return the buckets of a zipf or gaussian access."""
    if access.order == "zipf":
        ends = _zipf_ends(access.slots)
        weights = _zipf_weights(ends, access.skew)
    else:
        center = (access.center_bytes - access.start_bytes) / access.stride_bytes
        sigma = access.sigma_bytes / access.stride_bytes
        ends = _gaussian_ends(access.slots, center, sigma)
        weights = _gaussian_weights(ends, center, sigma)
    shares = np.cumsum(weights) / sum(weights)
    cumulative = np.round(shares * TOTAL).astype(np.uint64)
    cumulative[-1] = TOTAL
    return Buckets(np.array(ends, dtype=np.uint64), cumulative)


def _zipf_ends(slots: int) -> list[int]:
    ends = list(range(1, min(slots, _EXACT_RANKS) + 1))
    while ends[-1] < slots:
        ends.append(min(slots, math.ceil(ends[-1] * _GROWTH)))
    return ends


def _zipf_weights(ends: list[int], skew: float) -> list[float]:
    """Return the sum of rank ** -skew over each bucket's ranks, for long buckets the integral instead."""
    weights, begin = [], 0
    for end in ends:
        if end - begin == 1:
            weights.append(float(end) ** -skew)
        else:
            weights.append(_power_integral(begin + 0.5, end + 0.5, skew))
        begin = end
    return weights


def _power_integral(low: float, high: float, skew: float) -> float:
    if skew == 1:
        return math.log(high / low)
    return float((high ** (1 - skew) - low ** (1 - skew)) / (1 - skew))


def _gaussian_ends(slots: int, center: float, sigma: float) -> list[int]:
    """Return buckets of equal length within four sigma, with a bucket of weight 0 on each side of them."""
    low = max(0.0, center - _GAUSSIAN_SIGMAS * sigma)
    high = min(float(slots), center + _GAUSSIAN_SIGMAS * sigma)
    edges = np.linspace(low, high, _GAUSSIAN_BUCKETS + 1)
    inner = {min(slots, max(1, round(edge))) for edge in edges.tolist()}
    return sorted({*inner, slots})


def _gaussian_weights(ends: list[int], center: float, sigma: float) -> list[float]:
    def below(slot: float) -> float:
        sigmas = min(max((slot - center) / sigma, -_GAUSSIAN_SIGMAS), _GAUSSIAN_SIGMAS)
        return math.erf(sigmas / math.sqrt(2))

    begins = [0, *ends[:-1]]
    return [below(end) - below(begin) for begin, end in zip(begins, ends, strict=True)]

# SPDX-License-Identifier: GPL-2.0
"""Check DAMON's claim about scale: its cost depends on regions and sampling, not on the monitored size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

from damon_tests.judge.verdict import Check, Measurement
from damon_tests.ports.numbers import number

FLAT_BOUND = 0.02
"""Largest growth from a size to a larger one. A page-table walk has as many levels for any size; only regions
that cross from one page table to the next differ."""

LINEAR_BOUND = 0.02
"""Largest relative difference of the cost of one more region, between few and many regions."""

CHANGING_REGIONS = 0.10
"""Allowance for regions that merge and split in every aggregation, which regions of a fixed number do not."""

PROPORTIONAL_BOUND = 0.02
"""Largest relative difference of the cost of one sample, between slow and fast sampling."""


@dataclass(frozen=True)
class Point:
    """``cost`` in instructions at ``x``: monitored bytes, regions, or samples per second."""

    x: float
    cost: float


def flat(name: str, points: Sequence[Point], bound: float = FLAT_BOUND) -> Check:
    """Check that the cost grows by at most ``bound``, a fraction, from any ``x`` to any larger one.

    It may fall: a page-table walk ends earlier where nothing near is mapped. Raises ValueError for one point.
    """
    _several(points, 2)
    ordered = sorted(points, key=lambda p: p.x)
    growth = max(b.cost / a.cost - 1 for a, b in combinations(ordered, 2) if b.x > a.x)
    because = "DAMON's overhead does not depend on the size of the memory that it monitors"
    return _check(f"growth of {name}", growth, bound, because, points)


def linear(name: str, points: Sequence[Point], bound: float = LINEAR_BOUND) -> Check:
    """Check that each step of ``x`` costs the same: slopes between neighbours differ by at most ``bound``.

    Raises ValueError for fewer than three points.
    """
    _several(points, 3)
    ordered = sorted(points, key=lambda p: p.x)
    slopes = [(b.cost - a.cost) / (b.x - a.x) for a, b in pairwise(ordered)]
    spread = max(slopes) / min(slopes) - 1 if min(slopes) > 0 else float("inf")
    because = "DAMON's overhead grows linearly with the number of regions"
    return _check(f"spread of slopes of {name}", spread, bound, because, points)


def proportional(name: str, points: Sequence[Point], bound: float = PROPORTIONAL_BOUND) -> Check:
    """Check that the cost is ``x`` times a constant, up to ``bound``. Raises ValueError for one point."""
    _several(points, 2)
    ratios = [p.cost / p.x for p in points]
    spread = max(ratios) / min(ratios) - 1
    because = "DAMON's overhead is proportional to the sampling rate"
    return _check(f"spread of {name} per sample", spread, bound, because, points)


def within_bound(name: str, costs: Mapping[str, float], most: float) -> Check:
    """Check that no pattern costs more than ``most``, the cost of as many regions as the limit allows.

    ``costs``: by pattern. Raises ValueError without any.
    """
    if not costs:
        raise ValueError("no pattern was measured, which says nothing about a bound")
    dearest, cost = max(costs.items(), key=lambda item: item[1])
    share = cost / most
    because = "the limit of regions bounds DAMON's overhead, whatever a process does"
    m = Measurement(
        f"{name}, of those of a fixed number of regions", share, "fraction", tuple(costs.values())
    )
    detail = f"dearest: {dearest}; " + ", ".join(f"{name} {number(value)}" for name, value in costs.items())
    bound = 1 + CHANGING_REGIONS
    return Check(
        "budget", m, f"<= {number(bound)}", because, share <= bound, f"{detail}; bound {number(most)}"
    )


def _several(points: Sequence[Point], least: int) -> None:
    if len({p.x for p in points}) < least:
        raise ValueError(f"{len(points)} points say nothing about scale: {least} different ones are needed")


def _check(name: str, value: float, bound: float, because: str, points: Sequence[Point]) -> Check:
    m = Measurement(name, value, "fraction", tuple(p.cost for p in points))
    detail = ", ".join(f"{number(p.cost)} at {number(p.x)}" for p in points)
    return Check("budget", m, f"<= {number(bound)}", because, value <= bound, detail)

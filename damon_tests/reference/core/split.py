# SPDX-License-Identifier: GPL-2.0
"""Split regions at random points, so that differences inside them can be found (specification §2.7)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from damon_tests.ports.arrays import U64, Bools
from damon_tests.reference.core.regions import Regions
from damon_tests.reference.rules.monitoring import can_split, can_split_partially
from damon_tests.reference.rules.ruleset import Rules


@dataclass
class SplitHistory:
    """What split steps remember, shared by all contexts of a system, as in the kernel (quirk Q8)."""

    last_nr_regions: int = 0
    rotation: int = 0


def split_regions(
    regions: Regions,
    rules: Rules,
    max_nr_regions: int,
    min_region_sz: int,
    history: SplitHistory,
    rng: np.random.Generator,
) -> Regions:
    """Do the split step after an aggregation: in two, in three, every few regions only, or not at all."""
    n = len(regions)
    step = rules.partial_split_step(n, max_nr_regions)
    parts = rules.split_parts(n, history.last_nr_regions, max_nr_regions)
    new = regions
    if step:
        chosen = _rotated(n, step, history) & can_split_partially(regions.sizes, min_region_sz)
        new = cut(regions, rules, _cut_points(regions.sizes, chosen, min_region_sz, rules, rng))
    elif parts > 1:
        new = _split_all(regions, rules, parts, min_region_sz, rng)
    if step or parts > 1 or rules.split_history_always:
        history.last_nr_regions = n
    return new


def _rotated(n: int, step: int, history: SplitHistory) -> Bools:
    offset = history.rotation % step
    history.rotation += 1
    chosen: Bools = np.arange(n) % step == offset
    return chosen


def _cut_points(sizes: U64, chosen: Bools, min_region_sz: int, rules: Rules, rng: np.random.Generator) -> U64:
    """Return the size of the left part of each chosen region, 0 where it cannot be cut."""
    points = np.zeros(len(sizes), np.uint64)
    tenths = rng.integers(1, 10, size=int(chosen.sum()), dtype=np.uint64)
    points[chosen] = rules.split_size(tenths, sizes[chosen], min_region_sz)
    return points


def _split_all(
    regions: Regions, rules: Rules, parts: int, min_region_sz: int, rng: np.random.Generator
) -> Regions:
    """Split every region in ``parts``; each further part is taken from the left part of the cut before."""
    left = regions.sizes
    cuts: list[U64] = []
    for _ in range(parts - 1):
        points = _cut_points(left, can_split(left, min_region_sz), min_region_sz, rules, rng)
        cuts.append(points)
        left = np.where(points > 0, points, left)
    return cut(regions, rules, *reversed(cuts))


def cut(regions: Regions, rules: Rules, *points: U64) -> Regions:
    """Cut each region at the given offsets; per region they ascend, and 0 means no cut."""
    cut_rows = [np.flatnonzero(offsets) for offsets in points]
    pieces = np.ones(len(regions), np.int64)
    for rows in cut_rows:
        pieces[rows] += 1
    # First every region as often as it will have parts, as copies; then the bounds between the parts.
    row = np.repeat(np.arange(len(regions)), pieces)
    if len(row) == len(regions):
        return regions
    firsts = np.cumsum(pieces) - pieces
    new = regions.take(row)
    place = firsts.copy()
    for offsets, rows in zip(points, cut_rows, strict=True):
        place[rows] += 1
        new.start[place[rows]] = regions.start[rows] + offsets[rows]
    is_right = np.ones(len(row), np.bool_)
    is_right[firsts] = False
    # A part ends where its right neighbour starts, unless it is the last of its region.
    followed = np.flatnonzero(is_right) - 1
    new.end[followed] = new.start[followed + 1]
    rules.split_counters(new, is_right)
    return new

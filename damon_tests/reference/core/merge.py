# SPDX-License-Identifier: GPL-2.0
"""Merge neighbours that were accessed alike, and age regions (specification §2.5)."""

from __future__ import annotations

import numpy as np

from damon_tests.ports.arrays import I64, Bools
from damon_tests.reference.core.regions import NR_PROBES_MAX, Regions
from damon_tests.reference.rules.ruleset import Rules

Weights = tuple[int, ...]
"""Weights of the probes; empty, or all zero, when the score is nr_accesses."""


def scores(regions: Regions, weights: Weights, last: bool = False) -> I64:
    """Return what merging and ageing compare: nr_accesses, or the weighted sum of probe hits."""
    if not any(weights):
        return regions.last_nr_accesses if last else regions.nr_accesses
    hits = regions.last_probe_hits if last else regions.probe_hits
    padded = np.zeros(NR_PROBES_MAX, np.int64)
    padded[: len(weights)] = weights
    total: I64 = hits @ padded
    return total


def merge_regions(
    regions: Regions,
    rules: Rules,
    threshold: int,
    size_limit: int,
    window: int,
    max_nr_regions: int,
    weights: Weights = (),
) -> Regions:
    """Merge once, with ageing, then again with growing thresholds while there are more than
    ``max_nr_regions``.

    ``window`` is the largest threshold.
    """
    regions.age = rules.next_age(
        regions.age, scores(regions, weights), scores(regions, weights, last=True), threshold
    )
    while True:
        regions = merge_pass(regions, rules, threshold, size_limit, weights)
        if rules.may_stop_merging(len(regions), max_nr_regions, threshold, window):
            return regions
        threshold = rules.next_merge_threshold(threshold, window)


def merge_pass(
    regions: Regions, rules: Rules, threshold: int | I64, size_limit: int, weights: Weights = ()
) -> Regions:
    """Merge each region into its left neighbour if the neighbour, as merged so far, allows it.

    ``threshold`` may differ by row (where targets of several systems are kept together).
    """
    touching = rules.may_join(regions.end[:-1], regions.start[1:])
    touching = touching & (regions.target[1:] == regions.target[:-1])
    score = scores(regions, weights)
    # The kernel walks from region to region and compares with what was merged so far. A group of merged
    # regions can only begin with two unmerged neighbours that fit together: numpy finds these, most often few
    # or none, and only from there on is walked.
    sizes = regions.sizes
    by_row = threshold if isinstance(threshold, np.ndarray) else np.full(len(score), threshold)
    pairs = touching & (np.abs(np.diff(score)) <= by_row[1:])
    pairs &= sizes[1:] + sizes[:-1] <= np.uint64(min(size_limit, (1 << 64) - 1))
    if not pairs.any():
        return regions
    columns = _Columns(regions, rules, weights)
    dropped = columns.merge_groups(touching, pairs, by_row.tolist(), size_limit)
    return columns.result(dropped)


class _Columns:
    """The columns as lists: merging is sequential, and Python is faster on lists than on scalars."""

    def __init__(self, regions: Regions, rules: Rules, weights: Weights) -> None:
        self.regions, self.rules, self.weights = regions, rules, weights
        self.weighted = any(weights)
        self.size: list[int] = regions.sizes.tolist()
        self.nr: list[int] = regions.nr_accesses.tolist()
        # Without weights the score is nr_accesses: the same list.
        self.score: list[int] = scores(regions, weights).tolist() if self.weighted else self.nr
        self.age: list[int] = regions.age.tolist()
        self.with_hits = bool(regions.probe_hits.any())
        self.hits: list[list[int]] = regions.probe_hits.tolist() if self.with_hits else []

    def merge_groups(self, touching: Bools, pairs: Bools, threshold: list[int], limit: int) -> list[int]:
        """Merge in place; return the rows that were merged away."""
        n = len(self.size)
        size, score = self.size, self.score
        joined = [False, *touching.tolist()]
        dropped: list[int] = []
        done = 0  # rows up to this one are final or have become the left neighbour
        for row in (np.flatnonzero(pairs) + 1).tolist():
            if row <= done:
                continue
            left = row - 1
            while (
                row < n
                and joined[row]
                and abs(score[left] - score[row]) <= threshold[row]
                and size[left] + size[row] <= limit
            ):
                self.merge_two(left, row)
                dropped.append(row)
                row += 1  # noqa: PLW2901
            done = row
        return dropped

    def merge_two(self, left: int, right: int) -> None:
        size_l, size_r = self.size[left], self.size[right]
        rules = self.rules
        self.nr[left] = rules.merged_accesses(self.nr[left], size_l, self.nr[right], size_r)
        self.age[left] = rules.merged_age(self.age[left], size_l, self.age[right], size_r)
        if self.with_hits:
            self.hits[left] = [
                rules.merged_accesses(a, size_l, b, size_r)
                for a, b in zip(self.hits[left], self.hits[right], strict=True)
            ]
        self.size[left] = size_l + size_r
        if self.weighted:
            self.score[left] = self.weighted_score(left)

    def weighted_score(self, row: int) -> int:
        if not self.with_hits:
            return 0
        return sum(w * h for w, h in zip(self.weights, self.hits[row], strict=False))

    def result(self, dropped: list[int]) -> Regions:
        keep = np.ones(len(self.size), np.bool_)
        keep[dropped] = False
        merged = self.regions.take(keep)
        # Each kept region ends where its last merged one ended: just before the next kept one.
        last_row = np.append(np.flatnonzero(keep)[1:] - 1, len(self.size) - 1)
        merged.end = self.rules.merged_end(merged.end, self.regions.end[last_row])
        merged.nr_accesses = np.array(self.nr, np.int64)[keep]
        merged.age = np.array(self.age, np.int64)[keep]
        if self.with_hits:
            merged.probe_hits = np.array(self.hits, np.int64)[keep]
        if self.rules.step_bp is not None:
            was_merged = last_row != np.flatnonzero(keep)
            merged.nr_accesses_bp = np.where(was_merged, merged.nr_accesses * 10_000, merged.nr_accesses_bp)
        return merged


def merge_alike(regions: Regions, size_limit: int) -> Regions:
    """Merge neighbours with equal counters and age, as a scheme's walk does behind itself.

    The left region's probe hits stay (§4.2, quirk Q4).
    """
    alike = (regions.start[1:] == regions.end[:-1]) & (regions.target[1:] == regions.target[:-1])
    for column in (regions.age, regions.last_nr_accesses, regions.nr_accesses):
        alike &= column[1:] == column[:-1]
    if not alike.any():
        return regions
    size: list[int] = regions.sizes.tolist()
    keep = np.ones(len(size), np.bool_)
    left = previous = -1
    for row in (np.flatnonzero(alike) + 1).tolist():
        if row - 1 != previous:  # another group of alike neighbours begins
            left = row - 1
        previous = row
        if size[left] + size[row] <= size_limit:
            size[left] += size[row]
            keep[row] = False
        else:
            left = row
    merged = regions.take(keep)
    kept = np.flatnonzero(keep)
    merged.end = regions.end[np.append(kept[1:] - 1, len(size) - 1)]
    return merged

# SPDX-License-Identifier: GPL-2.0
"""Merge neighbours that were accessed alike, and age regions (specification §2.5)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

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
    score = scores(regions, weights)
    sizes = regions.sizes
    thresholds = threshold if isinstance(threshold, np.ndarray) else np.full(len(score), threshold)
    limit = np.uint64(min(size_limit, (1 << 64) - 1))
    # The kernel walks from region to region and compares with what was merged so far. A group of merged
    # regions can only begin with two unmerged neighbours that fit together, which numpy finds.
    touching = rules.may_join(regions.end[:-1], regions.start[1:])
    touching = touching & (regions.target[1:] == regions.target[:-1])
    pairs = touching & (np.abs(np.diff(score)) <= thresholds[1:]) & (sizes[1:] + sizes[:-1] <= limit)
    if not pairs.any():
        return regions
    if len(regions) >= MANY and score is regions.nr_accesses and not regions.probe_hits.any():
        groups = _Groups(regions, rules, touching, pairs)
        if groups.grow(thresholds, limit):
            return groups.result()
    columns = _Columns(regions, rules, weights)
    dropped = columns.merge_groups(touching, pairs, thresholds.tolist(), size_limit)
    return columns.result(dropped)


MANY = 200
"""Regions from which on growing all groups at once is faster than walking from region to region."""


class _Groups:
    """Groups of merged regions, grown all at once: one for each row that could begin a group, also those
    that turn out to be within another's. Much faster than a walk where there are many short groups."""

    def __init__(self, regions: Regions, rules: Rules, touching: Bools, pairs: Bools) -> None:
        self.regions, self.rules = regions, rules
        self.joined = np.concatenate(([False], touching, [False]))  # with its left neighbour, by row
        self.row_size = regions.sizes
        self.row_nr, self.row_age = regions.nr_accesses.astype(np.uint64), regions.age.astype(np.uint64)
        self.first = np.flatnonzero(pairs)
        self.begun = np.append(np.cumsum(pairs), len(self.first))  # groups that begin up to each row
        self.end = self.first + 1  # the row behind the group
        self.size, self.nr = self.row_size[self.first], self.row_nr[self.first]
        self.age = self.row_age[self.first]

    def grow(self, thresholds: I64, limit: np.uint64) -> bool:
        """Have each group take the next row until that does not fit; return False if groups are too long
        for this."""
        growing, work = np.arange(len(self.first)), 0
        while len(growing):
            work += 1_000 + len(growing)  # the fixed cost of a round is that of about so many groups
            if work > 16 * len(self.row_size):
                return False
            growing = growing[self.joined[self.end[growing]]]
            row, nr, size = self.end[growing], self.nr[growing], self.size[growing]
            difference = np.abs(nr.astype(np.int64) - self.regions.nr_accesses[row])
            fits = (difference <= thresholds[row]) & (size + self.row_size[row] <= limit)
            growing, row, nr, size = growing[fits], row[fits], nr[fits], size[fits]
            rules, right_size = self.rules, self.row_size[row]
            self.nr[growing] = rules.merged_accesses(nr, size, self.row_nr[row], right_size)
            self.age[growing] = rules.merged_age(self.age[growing], size, self.row_age[row], right_size)
            self.size[growing] = size + right_size
            self.end[growing] = row + 1
        return True

    def _chosen(self) -> npt.NDArray[np.intp]:
        """Choose the groups that the walk from the first row makes: none begins within the one before."""
        number = np.arange(len(self.first))
        following = self.begun[self.end - 1]  # the first group that begins behind each
        within = np.zeros(len(number) + 1, np.int64)  # +1 at the first group in a chosen one, -1 behind
        overlapping = np.flatnonzero(following > number + 1)
        free = 0
        for group, behind in zip(overlapping.tolist(), following[overlapping].tolist(), strict=True):
            if group >= free:
                within[group + 1] += 1
                within[behind] -= 1
                free = behind
        return np.flatnonzero(np.cumsum(within[:-1]) == 0)

    def result(self) -> Regions:
        chosen = self._chosen()
        first, end = self.first[chosen], self.end[chosen]
        within = np.zeros(len(self.row_size) + 1, np.int64)
        within[first + 1], within[end] = 1, -1
        kept = np.flatnonzero(np.cumsum(within[:-1]) == 0)
        self.row_nr[first], self.row_age[first] = self.nr[chosen], self.age[chosen]
        nr, age = self.row_nr[kept].astype(np.int64), self.row_age[kept].astype(np.int64)
        return _merged(self.regions, self.rules, kept, nr, age)


class _Columns:
    """The columns as lists, for the walk from region to region: Python is faster on lists than on scalars."""

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
        kept = np.flatnonzero(keep)
        nr, age = np.array(self.nr, np.int64)[kept], np.array(self.age, np.int64)[kept]
        merged = _merged(self.regions, self.rules, kept, nr, age)
        if self.with_hits:
            merged.probe_hits = np.array(self.hits, np.int64)[kept]
        return merged


def _merged(regions: Regions, rules: Rules, kept: npt.NDArray[np.intp], nr: I64, age: I64) -> Regions:
    """Return the kept rows with their merged counters."""
    merged = regions.take(kept)
    # Each kept region ends where its last merged one ended: just before the next kept one.
    last_row = np.append(kept[1:] - 1, len(regions) - 1)
    merged.end = rules.merged_end(merged.end, regions.end[last_row])
    merged.nr_accesses, merged.age = nr, age
    if rules.step_bp is not None:
        merged.nr_accesses_bp = np.where(last_row != kept, nr * 10_000, merged.nr_accesses_bp)
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

# SPDX-License-Identifier: GPL-2.0
"""Merging and splitting agree with the plainly written rule, and keep coverage and bounds."""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from reference_support import RULES

from damon_tests.reference.core import merge
from damon_tests.reference.core.merge import merge_pass, merge_regions
from damon_tests.reference.core.regions import Regions, cut_to_limit, set_ranges
from damon_tests.reference.core.split import SplitHistory, split_regions
from damon_tests.reference.rules import monitoring as core

OLD_RULES = replace(RULES, partial_split_step=core.no_partial_split, split_history_always=False)


@st.composite
def region_lists(draw, max_size=25, m=4):
    """Regions of up to three targets, some touching, with random counters."""
    n = draw(st.integers(0, max_size))
    at, rows, target = 0, [], 0
    for _ in range(n):
        if draw(st.integers(0, 9)) == 0:
            target, at = target + 1, 0
        at += m * draw(st.sampled_from([0, 0, 0, 1, 5]))
        size = m * draw(st.integers(1, 40))
        rows.append((at, at + size, target))
        at += size
    regions = Regions.of_ranges([row[:2] for row in rows])
    regions.target = np.array([row[2] for row in rows], np.int64)
    counters = st.lists(st.integers(0, 20), min_size=n, max_size=n)
    for name in ("nr_accesses", "last_nr_accesses", "age"):
        setattr(regions, name, np.array(draw(counters), np.int64))
    return regions


def rows_of(regions):
    return [
        list(row)
        for row in zip(
            regions.target.tolist(),
            regions.start.tolist(),
            regions.end.tolist(),
            regions.nr_accesses.tolist(),
            regions.age.tolist(),
            regions.last_nr_accesses.tolist(),
            strict=True,
        )
    ]


def plain_merge(regions, threshold, limit):
    """The kernel's walk, one region after the other."""
    out = []
    for row in rows_of(regions):
        target, start, end, nr, age, _ = row
        if out:
            prev = out[-1]
            left, right = prev[2] - prev[1], end - start
            if (
                prev[0] == target
                and prev[2] == start
                and abs(prev[3] - nr) <= threshold
                and left + right <= limit
            ):
                prev[3] = (prev[3] * left + nr * right) // (left + right)
                prev[4] = (prev[4] * left + age * right) // (left + right)
                prev[2] = end
                continue
        out.append(row)
    return out


@given(region_lists(), st.integers(0, 20), st.integers(4, 400))
def test_merge_pass_equals_the_plain_walk(regions, threshold, limit):
    expected = plain_merge(regions, threshold, limit)
    assert rows_of(merge_pass(regions, RULES, threshold, limit)) == expected
    with mock.patch.object(merge, "MANY", 0):
        assert rows_of(merge_pass(regions, RULES, threshold, limit)) == expected


@given(st.integers(0, 1 << 20), st.integers(0, 20), st.integers(1, 40))
def test_merge_pass_over_many_regions_equals_the_plain_walk(seed, threshold, longest):
    """Short groups grow all at once, long ones are walked."""
    rng, n = np.random.default_rng(seed), 400
    ends = np.cumsum(rng.integers(1, 9, n))
    regions = Regions.of_ranges(list(zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)))
    regions.target = np.sort(rng.integers(0, 4, n))
    regions.nr_accesses, regions.age = rng.integers(0, 21, n), rng.integers(0, 99, n)
    regions.nr_accesses[: n // 2] = 0
    assert n >= merge.MANY
    expected = plain_merge(regions, threshold, limit=4 * longest)
    assert rows_of(merge_pass(regions, RULES, threshold, 4 * longest)) == expected


def coverage(regions):
    """Covered ranges by target, touching ones joined."""
    joined = []
    for target, start, end, *_ in rows_of(regions):
        if joined and joined[-1][0] == target and joined[-1][2] == start:
            joined[-1][2] = end
        else:
            joined.append([target, start, end])
    return joined


def check_geometry(regions, m):
    for before, after in zip(rows_of(regions), rows_of(regions)[1:], strict=False):
        assert after[0] > before[0] or after[1] >= before[2]
    assert (regions.start < regions.end).all()
    assert not (regions.start % np.uint64(m)).any()
    assert not (regions.end % np.uint64(m)).any()


@given(region_lists(), st.integers(0, 5), st.integers(4, 4000), st.integers(3, 20))
def test_merge_regions_keeps_coverage_and_bounds_values(regions, threshold, limit, maximum):
    before = coverage(regions)
    high = int(regions.nr_accesses.max()) if len(regions) else 0
    merged = merge_regions(regions, RULES, threshold, limit, 20, maximum)
    assert coverage(merged) == before
    check_geometry(merged, 4)
    assert not len(merged) or int(merged.nr_accesses.max()) <= high
    # Enough passes were made: nothing that the largest threshold allows is left undone.
    if len(merged) > maximum:
        assert rows_of(merge_pass(merged, RULES, 20, limit)) == rows_of(merged)


@given(region_lists(), st.integers(3, 60), st.integers(0, 30), st.integers(0, 99), st.booleans())
def test_split_keeps_coverage_and_the_limit(regions, maximum, last_n, seed, old):
    before, n = coverage(regions), len(regions)
    history = SplitHistory(last_n, rotation=seed)
    rules = OLD_RULES if old else RULES
    parts = split_regions(regions, rules, maximum, 4, history, np.random.default_rng(seed))
    assert coverage(parts) == before
    check_geometry(parts, 4)
    assert len(parts) <= max(maximum, n)
    if n > maximum or (old and n > maximum // 2):
        assert len(parts) == n
    if n <= maximum // 2 and (regions.sizes >= np.uint64(40)).all():
        three = last_n == n and n < maximum // 3
        assert 2 * n <= len(parts) <= (3 if three else 2) * n
    copied = {tuple(row[3:]) for row in rows_of(parts)} <= {tuple(row[3:]) for row in rows_of(regions)}
    assert copied


def test_a_split_lies_between_a_tenth_and_nine_tenths():
    rng = np.random.default_rng(3)
    lefts = set()
    for _ in range(300):
        parts = split_regions(Regions.of_ranges([(0, 4096 * 1000)]), RULES, 10, 4096, SplitHistory(), rng)
        assert len(parts) == 2
        lefts.add(int(parts.end[0]) // 4096)
    assert lefts == {100 * tenths for tenths in range(1, 10)}


def test_full_split_needs_more_than_two_minimum_regions_partial_needs_two():
    rng = np.random.default_rng(0)
    two = Regions.of_ranges([(0, 2)])
    for _ in range(50):
        assert len(split_regions(two, RULES, 10, 1, SplitHistory(), rng)) == 1
    seven = Regions.of_ranges([(2 * i, 2 * i + 2) for i in range(7)])
    counts = {len(split_regions(seven, RULES, 10, 1, SplitHistory(), rng)) for _ in range(50)}
    assert max(counts) > 7


def test_partial_split_rotates_over_all_regions():
    """With 7 of at most 10 regions every third is split, beginning one further each time."""
    rng, history = np.random.default_rng(0), SplitHistory()
    seven = Regions.of_ranges([(100 * i, 100 * i + 100) for i in range(7)])
    cut_rows = []
    for _ in range(3):
        parts = split_regions(seven, RULES, 10, 1, history, rng)
        cut_rows.append({int(s) // 100 for s in parts.start if s % 100})
    assert cut_rows == [{0, 3, 6}, {1, 4}, {2, 5}]


def test_three_way_split_takes_the_third_part_from_the_left_one():
    rng = np.random.default_rng(5)
    for _ in range(100):
        parts = split_regions(Regions.of_ranges([(0, 1000)]), RULES, 100, 1, SplitHistory(1), rng)
        assert len(parts) == 3
        left = int(parts.start[2])
        assert left % 100 == 0
        assert int(parts.start[1]) in {left * tenths // 10 for tenths in range(1, 10)}


@given(region_lists(), st.integers(1, 50))
def test_no_region_is_above_the_limit_after_a_cut(regions, pages):
    limit = 4 * pages
    pieces = cut_to_limit(regions, limit)
    assert coverage(pieces) == coverage(regions)
    assert not len(pieces) or int(pieces.sizes.max()) <= limit
    assert len(pieces) == sum(-(-int(size) // limit) for size in regions.sizes)


@st.composite
def range_lists(draw):
    at, ranges = 0, []
    for _ in range(draw(st.integers(1, 4))):
        at += draw(st.integers(0, 30))
        size = draw(st.integers(1, 40))
        ranges.append((at, at + size))
        at += size
    return ranges


@given(region_lists(max_size=12, m=1), range_lists())
def test_region_setter_covers_exactly_the_ranges(regions, ranges):
    target_regions = regions.take(regions.target == 0)
    fitted = set_ranges(target_regions, ranges, 1, 0, RULES)
    assert fitted is not None
    check_geometry(fitted, 1)
    covered = []
    for start, end in fitted.ranges():
        if covered and covered[-1][1] == start:
            covered[-1] = (covered[-1][0], end)
        else:
            covered.append((start, end))
    joined = []
    for start, end in ranges:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    assert covered == joined

# SPDX-License-Identifier: GPL-2.0
"""Range arithmetic against sets of integers."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from damon_tests.ports import page_size
from damon_tests.ports.ranges import Range, clip, joined, page_ranges, without

SPAN = st.tuples(st.integers(0, 40), st.integers(1, 8)).map(lambda pair: (pair[0], sum(pair)))
ANY = st.lists(SPAN, max_size=6)
DISJOINT = ANY.map(joined)


def points(ranges: Iterable[Range]) -> set[int]:
    return {point for start, end in ranges for point in range(start, end)}


@given(ANY)
def test_joined_ranges_cover_the_same_and_do_not_touch(ranges: list[Range]) -> None:
    result = joined(ranges)
    assert points(result) == points(ranges)
    assert all(a[1] < b[0] for a, b in itertools.pairwise(result))


def test_a_gap_up_to_the_limit_is_closed() -> None:
    assert joined([(10, 12), (0, 5), (7, 8)], gap=2) == [(0, 12)]
    assert joined([(10, 12), (0, 5), (7, 8)], gap=1) == [(0, 5), (7, 8), (10, 12)]


@given(DISJOINT, DISJOINT)
def test_clip_and_without_split_ranges_in_two(ranges: list[Range], others: list[Range]) -> None:
    inside, outside = clip(ranges, others), without(ranges, others)
    assert points(inside) == points(ranges) & points(others)
    assert points(outside) == points(ranges) - points(others)
    assert outside == joined(outside)


@given(st.sets(st.integers(0, 60)))
def test_page_ranges_hold_exactly_the_pages(pages: set[int]) -> None:
    result = page_ranges(np.array(sorted(pages), dtype=np.int64))
    assert points((a // page_size(), b // page_size()) for a, b in result) == pages
    assert result == joined(result)

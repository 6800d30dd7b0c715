# SPDX-License-Identifier: GPL-2.0
"""The specification's numbers (§10) for monitoring, as tables."""

from __future__ import annotations

import numpy as np
import pytest
from reference_support import RULES

from damon_tests.reference.core.filters import address_matches
from damon_tests.reference.core.merge import merge_pass
from damon_tests.reference.core.regions import Regions, cut_to_limit, set_ranges
from damon_tests.reference.core.split import cut
from damon_tests.reference.rules import monitoring as core
from damon_tests.reference.rules.monitoring import tuning_score


def column(*values):
    return np.array(values, np.int64)


@pytest.mark.parametrize(
    ("score", "adaptation"),
    [
        (0, 20000),
        (1, 19999),
        (400, 19600),
        (5000, 15000),
        (9999, 10001),
        (10000, 10000),
        (10001, 9999),
        (12000, 9000),
        (15000, 7500),
        (19999, 5000),
        (20000, 5000),
        (10**9, 5000),
    ],
)
def test_interval_adaptation_has_the_specified_values(score, adaptation):
    assert RULES.tuning_adaptation(score) == adaptation


def test_tuning_score_of_half_the_goal():
    """400 of 10000 possible events wanted, 200 seen."""
    assert tuning_score(max_events=10_000, events=200, access_bp=400) == 5000
    assert tuning_score(max_events=10, events=0, access_bp=1) == 0


THREE = [(5, 27), (45, 55), (73, 104)]
MANY = [(10, 20), (20, 30), (50, 55), (55, 57), (57, 59), (70, 80), (80, 90), (90, 100)]


@pytest.mark.parametrize(
    ("old", "ranges", "new"),
    [
        ([], [(5, 15), (15, 25)], [(5, 15), (15, 25)]),
        ([(4, 16), (24, 32)], [(18, 23)], [(18, 23)]),
        ([(4, 16), (24, 32)], [(8, 28)], [(8, 16), (16, 24), (24, 28)]),
        ([(0, 4), (4, 17)], [(0, 15), (25, 40)], [(0, 4), (4, 15), (25, 40)]),
        ([(0, 4), (42, 52)], [(0, 15), (25, 40), (44, 50)], [(0, 15), (25, 40), (44, 50)]),
        (MANY, THREE, [(5, 20), (20, 27), (45, 55), (73, 80), (80, 90), (90, 104)]),
        (
            MANY,
            [(5, 27), (56, 57), (65, 104)],
            [(5, 20), (20, 27), (56, 57), (65, 80), (80, 90), (90, 104)],
        ),
        (
            MANY,
            [(5, 27), (61, 63), (65, 104)],
            [(5, 20), (20, 27), (61, 63), (65, 80), (80, 90), (90, 104)],
        ),
        (MANY, [(5, 7), (30, 32), (65, 68)], [(5, 7), (30, 32), (65, 68)]),
        ([(3, 8), (8, 10)], [(4, 6)], [(4, 6)]),
    ],
)
def test_region_setter_has_the_specified_results(old, ranges, new):
    fitted = set_ranges(Regions.of_ranges(old), ranges, 1, 0, RULES)
    assert fitted is not None
    assert fitted.ranges() == new


def test_region_setter_keeps_counters_of_survivors_only():
    old = Regions.of_ranges([(4, 16), (24, 32)])
    old.nr_accesses = column(3, 7)
    old.age = column(30, 70)
    fitted = set_ranges(old, [(8, 28)], 1, 0, RULES)
    assert fitted.nr_accesses.tolist() == [3, 0, 7]
    assert fitted.age.tolist() == [30, 0, 70]


@pytest.mark.parametrize(
    ("ranges", "valid"),
    [
        ([(4095, 1)], True),
        ([(5, 5)], True),
        ([(4096, 4096)], False),
        ([(8192, 4096)], False),
        ([(0, 8192), (4096, 12288)], False),
        ([(0, 4096), (4096, 8192)], True),
        ([(0, 4097), (5000, 12288)], False),
        ([(0, (1 << 64) - 1)], False),
    ],
)
def test_region_setter_judges_ranges_after_alignment(ranges, valid):
    """Judged after alignment to a page; the end of the address space wraps to 0."""
    assert (set_ranges(Regions.of_ranges([]), ranges, 4096, 0, RULES) is not None) == valid


def test_three_ranges_leave_out_the_two_largest_gaps():
    vmas = [(10, 20), (20, 25), (200, 210), (210, 220), (300, 305), (307, 330)]
    scaled = [(a * 4096, b * 4096) for a, b in vmas]
    assert RULES.three_ranges(scaled) == [(a * 4096, b * 4096) for a, b in [(10, 25), (200, 220), (300, 330)]]


@pytest.mark.parametrize("vmas", [[], [(0, 10)], [(0, 10), (20, 30)], [(0, 10), (10, 20), (30, 40)]])
def test_three_ranges_need_two_gaps(vmas):
    assert RULES.three_ranges(vmas) is None


def test_three_ranges_tie_keeps_the_earlier_gaps():
    page = 4096
    vmas = [(a * page, (a + 1) * page) for a in (0, 2, 4, 6)]
    assert RULES.three_ranges(vmas) == [(0, page), (2 * page, 3 * page), (4 * page, 7 * page)]


def test_merged_counters_are_means_weighted_by_size():
    assert RULES.merged_accesses(10, 100, 20, 200) == 16
    assert RULES.merged_age(9, 100, 21, 200) == 17


def test_merge_pass_compares_with_what_is_merged_so_far():
    rows = [
        (0, 100, 0),
        (100, 112, 0),
        (114, 122, 10),
        (122, 130, 10),
        (130, 156, 20),
        (156, 170, 30),
        (170, 184, 1),
        (184, 230, 2),
        (230, 10170, 5),
    ]
    regions = Regions.of_ranges([row[:2] for row in rows])
    regions.nr_accesses = column(*(row[2] for row in rows))
    merged = merge_pass(regions, RULES, threshold=9, size_limit=9999)
    assert merged.ranges() == [(0, 112), (114, 130), (130, 156), (156, 170), (170, 230), (230, 10170)]


def test_split_copies_counters():
    whole = Regions.of_ranges([(0, 100)])
    whole.nr_accesses, whole.last_nr_accesses, whole.age = column(42), column(15), column(10)
    parts = cut(whole, RULES, np.array([25], np.uint64))
    assert parts.ranges() == [(0, 25), (25, 100)]
    for values, expected in ((parts.nr_accesses, 42), (parts.last_nr_accesses, 15), (parts.age, 10)):
        assert values.tolist() == [expected, expected]


@pytest.mark.parametrize(
    ("total", "m", "minimum", "limit", "count"),
    [
        (10, 1, 10, 1, 10),
        (10, 1, 15, 1, 10),
        (10, 2, 2, 6, 2),
        (10, 2, 10, 2, 5),
        (409600, 4096, 30, 16384, 25),
    ],
)
def test_regions_are_cut_to_the_limit_of_min_nr_regions(total, m, minimum, limit, count):
    computed = core.align_up(RULES.merge_size_limit(total, minimum, m), m)
    assert computed == limit
    pieces = cut_to_limit(Regions.of_ranges([(0, total)]), computed)
    assert len(pieces) == count
    assert pieces.total_size() == total


@pytest.mark.parametrize(
    ("n", "maximum", "step"),
    [
        (760, 1500, 2),
        (501, 1000, 2),
        (667, 1000, 3),
        (999, 1000, 1000),
        (7, 10, 3),
        (9, 10, 10),
        (500, 1000, 0),
        (1000, 1000, 0),
        (1200, 1000, 0),
    ],
)
def test_partial_split_step_has_the_specified_values(n, maximum, step):
    assert RULES.partial_split_step(n, maximum) == step


@pytest.mark.parametrize(
    ("n", "last", "maximum", "parts"), [(10, 9, 100, 2), (10, 10, 100, 3), (33, 33, 100, 2), (51, 1, 100, 1)]
)
def test_split_parts_have_the_specified_values(n, last, maximum, parts):
    assert RULES.split_parts(n, last, maximum) == parts


class _Row:
    def __init__(self, start, end):
        self.start, self.end = start, end
        self.cuts = []

    def split_at(self, address):
        self.cuts.append((address, self.end))
        self.end = address


@pytest.mark.parametrize(
    ("start", "end", "inside", "cuts"),
    [
        (3, 5, True, []),
        (1, 2, False, []),
        (6, 8, False, []),
        (1, 4, False, [(2, 4)]),
        (2, 8, True, [(6, 8)]),
    ],
)
def test_address_filter_cuts_at_its_borders(start, end, inside, cuts):
    row = _Row(start, end)
    assert address_matches(row, 2, 6, 1, RULES) is inside
    assert row.cuts == cuts


@pytest.mark.parametrize(
    ("nr", "old", "new", "expected"),
    [
        (15, 100, 100, 15),
        (15, 100, 1000, 150),
        (7, 20, 60, 21),
        (20, 20, 3, 3),
        (1, 3, 7, 2),
        (2, 3, 9, 5),
        (19, 20, 1, 0),
        (13, 30, 30, 12),
    ],
)
def test_rescaled_accesses_have_the_specified_values(nr, old, new, expected):
    assert RULES.rescale_accesses(column(nr), old, new).tolist() == [expected]


def test_age_is_rescaled_by_the_aggregation_interval():
    assert RULES.rescale_age(column(20), 1000, 10_000).tolist() == [2]
    assert RULES.rescale_age(column(2), 10_000, 1000).tolist() == [20]
    assert RULES.rescale_age(column(19), 1000, 10_000).tolist() == [1]


@pytest.mark.parametrize(
    ("nr", "last", "left", "window", "expected"),
    [
        (5, 3, 10, 10, 3),
        (3, 10, 5, 10, 8),
        (3, 10, 2, 10, 5),
        (42, 49, 0, 10, 42),
        (7, 20, 13, 20, 20),
        (0, 1, 19, 20, 0),
    ],
)
def test_moving_value_has_the_specified_values(nr, last, left, window, expected):
    assert RULES.access_value(column(nr), column(last), column(0), left, window).tolist() == [expected]


@pytest.mark.parametrize("window", [1, 2, 7, 20, 30])
def test_moving_value_never_exceeds_the_window(window):
    for left in range(window + 1):
        nr, last = np.meshgrid(np.arange(window - left + 1), np.arange(window + 1))
        value = RULES.access_value(nr.ravel(), last.ravel(), column(0), left, window)
        assert value.max() <= window
        assert (value >= nr.ravel()).all() or left == window
        assert (value <= nr.ravel() + last.ravel()).all()


def test_age_grows_within_the_threshold_and_resets_at_zero():
    """Within the threshold it grows; a change, or a step from or to zero, resets it."""
    score, last = column(5, 5, 0, 1, 0), column(5, 8, 1, 0, 0)
    assert RULES.next_age(column(7, 7, 7, 7, 7), score, last, 2).tolist() == [8, 0, 0, 0, 8]
    assert core.next_age_ignoring_zero(column(7, 7, 7, 7, 7), score, last, 2).tolist() == [8, 0, 8, 8, 8]


def test_merge_thresholds_double_up_to_the_window():
    assert [RULES.merge_threshold(x) for x in (0, 9, 10, 19, 20)] == [0, 0, 1, 1, 2]
    raised, t = [], 0
    while t < 20:
        t = RULES.next_merge_threshold(t, 20)
        raised.append(t)
    assert raised == [1, 2, 4, 8, 16, 20]


# Widths: where 64 or 32 bits are not enough, the kernel's results wrap, and so must these.

U32_MAX, U64_MAX = (1 << 32) - 1, (1 << 64) - 1


@pytest.mark.parametrize(
    ("x", "numerator", "denominator", "expected"),
    [
        (7, 10_000, 20, 3500),
        (U64_MAX, 10_000, U64_MAX, 10_000),
        (U64_MAX - 1, 10_000, U64_MAX, 0),
        (1 << 40, 10_000, 1 << 20, 10_000 << 20),
        (U64_MAX, 3, 2, (U64_MAX // 2 * 3 + 1) & U64_MAX),
    ],
)
def test_muldiv_overflows_as_in_the_kernel(x, numerator, denominator, expected):
    assert core.muldiv(x, numerator, denominator) == expected


@pytest.mark.parametrize(
    ("left", "left_size", "right", "right_size", "expected"),
    [
        (1 << 20, 1 << 44, 1 << 20, 1 << 44, 0),
        ((1 << 20) - 1, 1 << 43, (1 << 20) - 1, 1 << 43, (1 << 20) - 1),
        (1 << 20, 1 << 44, 7, 1 << 44, 3),
        (U32_MAX, 4096, U32_MAX, 4096, U32_MAX),
    ],
)
def test_products_of_merging_wrap(left, left_size, right, right_size, expected):
    assert RULES.merged_age(left, left_size, right, right_size) == expected
    assert RULES.merged_accesses(left, left_size, right, right_size) == expected


def test_ages_wrap_at_32_bits():
    for rule in (RULES.next_age, core.next_age_ignoring_zero):
        assert rule(column(U32_MAX, U32_MAX - 1), column(1, 1), column(1, 1), 0).tolist() == [0, U32_MAX]
    assert RULES.rescale_age(column(1 << 31), 6, 2).tolist() == [(3 << 31) & U32_MAX]


def test_rescaled_counters_wrap_at_32_bits():
    """10000 bp of 500,000 samples are more than 2^32."""
    assert RULES.rescale_accesses(column(20), 20, 500_000).tolist() == [
        (10_000 * 500_000 & U32_MAX) // 10_000
    ]


def test_tuning_events_wrap_at_64_bits():
    assert tuning_score(max_events=1 << 60, events=3, access_bp=10_000) == 30_000
    assert tuning_score(max_events=(1 << 64) + 20_000, events=1, access_bp=5_000) == 1
    assert tuning_score(max_events=20_000, events=(1 << 64) + 5_000, access_bp=5_000) == 5_000


@pytest.mark.parametrize(
    ("bp", "last", "accessed", "moved"),
    [(100_000, 10, True, 105_000), (100_000, 10, False, 95_000), (0, 10, False, (1 << 32) - 5_000)],
)
def test_the_kept_moving_sum_wraps_at_32_bits(bp, last, accessed, moved):
    """6.7 to 7.2; a sum below 0 came of the bug that a split did not copy the last counter."""
    assert core.step_bp(column(bp), column(last), 20, np.array([accessed])).tolist() == [moved]


def test_the_whole_address_space_is_cut_into_pieces_too():
    whole, limit = Regions.of_ranges([(0, (1 << 64) - 4096)]), 1 << 61
    pieces = cut_to_limit(whole, limit)
    assert len(pieces) == 8
    assert pieces.ranges()[-1] == (7 << 61, (1 << 64) - 4096)

# SPDX-License-Identifier: GPL-2.0
"""Truth as huge pages show it."""

from __future__ import annotations

import numpy as np

from damon_tests.patterns.load import load
from damon_tests.ports import Truth, pages_per_huge
from damon_tests.workload.huge_page_truth import HugePages
from damon_tests.workload.layout import plan_layout
from damon_tests.workload.pattern_truth import PatternTruth

MSEC = 1_000_000


def test_one_touch_marks_its_whole_block_and_no_other() -> None:
    pattern = load("phase_switch")  # 4 to 12 MiB, then 52 to 60 MiB
    layout = plan_layout(pattern)
    start = layout["data"][0]
    plain = PatternTruth(pattern, layout, 1, 0)
    page = start // 4096 + np.arange(0, 64 << 8, 64)
    truth: Truth = HugePages(plain, [(start + (3 << 20), start + (9 << 20))])
    np.testing.assert_array_equal(truth.touched(page, 0, 5 * MSEC), plain.touched(page, 0, 5 * MSEC))

    sparse = load("sparse_thp")
    layout = plan_layout(sparse)
    start = layout["data"][0]
    first = start // 4096
    plain = PatternTruth(sparse, layout, 1, 0)
    # From the middle of a block to the middle of another: only whole blocks can be huge.
    truth = HugePages(plain, [(start + (1 << 20), start + (7 << 20))])
    pages = first + np.array([1, pages_per_huge() + 1, 3 * pages_per_huge() - 1, 3 * pages_per_huge() + 1])
    expected = [False, True, True, False]
    assert plain.touched(pages, 0, 5 * MSEC).tolist() == [False] * 4
    assert truth.touched(pages, 0, 5 * MSEC).tolist() == expected
    assert truth.touched_each(pages, np.zeros(4, np.int64), np.full(4, 5 * MSEC)).tolist() == expected
    assert truth.touched(pages, 5, 5 + MSEC).tolist() == [False] * 4
    assert truth.rate(pages, 0, 20 * MSEC, 5 * MSEC).tolist() == [0, 1, 1, 0]
    assert (truth.ranges(), truth.span_ns()) == (plain.ranges(), plain.span_ns())


def test_without_huge_ranges_the_truth_is_unchanged() -> None:
    pattern = load("hot_cold")
    layout = plan_layout(pattern)
    plain = PatternTruth(pattern, layout, 1, 0)
    pages = layout["data"][0] // 4096 + np.arange(0, 64 << 8, 100)
    np.testing.assert_array_equal(HugePages(plain, []).touched(pages, 0, MSEC), plain.touched(pages, 0, MSEC))

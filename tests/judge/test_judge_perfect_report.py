# SPDX-License-Identifier: GPL-2.0
"""The ages of the truth as a recording: since accesses began, ended, or changed by more than a tenth."""

from __future__ import annotations

from damon_tests.judge.monitoring.perfect_report import Row, _aged

MOST_CHANGE = 2


def test_ages_grow_where_counts_stay() -> None:
    before: list[Row] = [(0, 10, 5, 3), (10, 20, 0, 7)]
    assert _aged([(0, 10, 7), (10, 20, 0)], before, MOST_CHANGE) == [(0, 10, 7, 4), (10, 20, 0, 8)]


def test_ages_restart_where_accesses_begin_end_or_change() -> None:
    before: list[Row] = [(0, 10, 5, 3), (10, 20, 0, 7), (20, 30, 1, 9)]
    rows = _aged([(0, 10, 8), (10, 20, 1), (20, 30, 0)], before, MOST_CHANGE)
    assert rows == [(0, 10, 8, 0), (10, 20, 1, 0), (20, 30, 0, 0)]


def test_regions_are_cut_where_ages_differ() -> None:
    before: list[Row] = [(0, 10, 5, 3), (10, 20, 5, 1)]
    assert _aged([(0, 20, 5)], before, MOST_CHANGE) == [(0, 10, 5, 4), (10, 20, 5, 2)]
    assert _aged([(5, 15, 5)], before, MOST_CHANGE) == [(5, 10, 5, 4), (10, 15, 5, 2)]


def test_regions_of_equal_counts_and_ages_are_joined() -> None:
    before: list[Row] = [(0, 10, 5, 3), (10, 20, 5, 3)]
    assert _aged([(0, 10, 5), (10, 20, 5)], before, MOST_CHANGE) == [(0, 20, 5, 4)]
    assert _aged([(0, 10, 5), (12, 20, 5)], before, MOST_CHANGE) == [(0, 10, 5, 4), (12, 20, 5, 4)]


def test_memory_that_was_not_monitored_before_is_new() -> None:
    before: list[Row] = [(10, 20, 5, 3), (30, 40, 5, 3)]
    rows = _aged([(0, 50, 5)], before, MOST_CHANGE)
    assert rows == [(0, 10, 5, 0), (10, 20, 5, 4), (20, 30, 5, 0), (30, 40, 5, 4), (40, 50, 5, 0)]
    assert _aged([(0, 10, 5)], [], MOST_CHANGE) == [(0, 10, 5, 0)]

# SPDX-License-Identifier: GPL-2.0
"""Where regions are split, read from passes, and the distribution of the tenths."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from damon_tests.damon.trace import AggregatedEvent
from damon_tests.judge.schemes.split_points import NOWHERE, cuts, evenly_cut, tenth_of
from damon_tests.judge.schemes.watched_passes import Try, Visit, WatchedPass
from damon_tests.ports import page_size

SIZE = 100 * page_size()


def pass_over(number: int, bounds: list[int], aggregated: bool) -> WatchedPass:
    """Return a pass over regions with these bounds."""
    tries = [Try(0, 0, a, b, 0, 0) for a, b in pairwise(bounds)]
    visits = tuple(Visit(t, len(tries), ()) for t in tries)
    event = AggregatedEvent.__new__(AggregatedEvent)
    return WatchedPass(number, number, visits, (), (event,) if aggregated else ())


def history(tenths: list[int]) -> list[WatchedPass]:
    """Each tenth cuts a region of SIZE once."""
    passes = []
    for number, tenth in enumerate(tenths):
        passes.append(pass_over(2 * number, [0, SIZE], True))
        passes.append(pass_over(2 * number + 1, [0, tenth * SIZE // 10, SIZE], False))
    return passes


def test_cuts_of_two_and_three_parts_are_read() -> None:
    three = [pass_over(0, [0, SIZE], True), pass_over(1, [0, SIZE // 4, SIZE // 2, SIZE], False)]
    assert list(cuts(three)) == [(SIZE, SIZE // 2), (SIZE // 2, SIZE // 4)]
    assert list(cuts(history([3]))) == [(SIZE, 30 * page_size())]


def test_tenths_are_aligned_down() -> None:
    assert tenth_of(13 * page_size(), page_size()) == 1
    assert tenth_of(13 * page_size(), 3 * page_size()) == 3
    assert tenth_of(SIZE, 33 * page_size()) == NOWHERE


def test_equally_frequent_tenths_hold() -> None:
    tenths = np.random.default_rng(3).integers(1, 10, 900).tolist()
    assert all(check.holds for check in evenly_cut(history(tenths), 1e-6))


def test_cuts_in_the_first_half_only_fail() -> None:
    tenths = np.random.default_rng(3).integers(1, 6, 900).tolist()
    assert [check.holds for check in evenly_cut(history(tenths), 1e-6)].count(False) == 9


def test_without_cuts_it_is_undecided() -> None:
    (check,) = evenly_cut([pass_over(0, [0, SIZE], True), pass_over(1, [0, SIZE], False)], 1e-6)
    assert check.holds is None

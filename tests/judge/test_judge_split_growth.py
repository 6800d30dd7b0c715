# SPDX-License-Identifier: GPL-2.0
"""Splits grow the number of regions as documented, keep the memory, and leave counters that add up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from damon_tests.damon.params import DamonAttrs, DamonCtx
from damon_tests.damon.series import Series
from damon_tests.damon.trace import AggregatedEvent
from damon_tests.judge.schemes.moving_values import moving_values
from damon_tests.judge.schemes.split_growth import growth_follows, growth_range, memory_stays
from damon_tests.judge.schemes.watched_passes import Try, Visit, WatchedPass

PAGE = 4096
SIZE = 200 * PAGE
NEWEST, OLDER = Series(7, 3), Series(7, 2)


def passed(number: int, count: int, values: tuple[int, ...] = (), ended: bool = False) -> WatchedPass:
    """A pass over ``count`` equal regions of one range; an aggregation of the same ones if it ``ended``."""
    size = 40 * SIZE // count
    spans = [(i * size, (i + 1) * size) for i in range(count)]
    rates = values or (0,) * count
    visits = tuple(
        Visit(Try(0, 0, start, end, nr, 0), count, ()) for (start, end), nr in zip(spans, rates, strict=True)
    )
    events = tuple(
        AggregatedEvent(number, 0, count, start, end, nr, 0)
        for (start, end), nr in zip(spans, rates, strict=True)
    )
    return WatchedPass(number, number, visits, (), events if ended else ())


def test_split_makes_as_many_regions_as_documented() -> None:
    assert growth_range(10, 100, NEWEST) == (20, 30)
    assert growth_range(40, 100, NEWEST) == (80, 80)
    assert growth_range(60, 100, NEWEST) == (90, 90)
    assert growth_range(67, 100, NEWEST) == (67 + 22, 67 + 23)
    assert growth_range(60, 100, OLDER) == (60, 60)
    assert growth_range(100, 100, NEWEST) == (100, 100)


@pytest.mark.parametrize(("after", "holds"), [(20, True), (19, False), (10, False), (31, False)])
def test_growth_is_held_from_both_sides(after: int, holds: bool) -> None:
    ctx = DamonCtx("fvaddr", attrs=DamonAttrs(max_nr_regions=100))
    checks = growth_follows([passed(1, 10, ended=True), passed(2, after)], ctx, NEWEST)
    assert checks[0].holds is holds


def test_split_of_nothing_is_undecided() -> None:
    ctx = DamonCtx("fvaddr", attrs=DamonAttrs(max_nr_regions=100))
    assert [c.holds for c in growth_follows([passed(1, 10)], ctx, NEWEST)] == [None, None]


def test_lost_memory_fails() -> None:
    whole, shorter = passed(1, 10), passed(2, 20)
    assert memory_stays([whole, shorter]).holds is True
    assert memory_stays([whole, replace(shorter, visits=shorter.visits[1:])]).holds is False
    middle = shorter.visits[:5] + shorter.visits[6:]
    assert memory_stays([whole, replace(shorter, visits=middle)]).holds is False


CTX = DamonCtx("fvaddr", attrs=DamonAttrs(10_000, 40_000))


@pytest.mark.parametrize(
    ("values", "holds"),
    [
        # The last counter was 4 of 4; 3, 2 and 1 of it are left after one, two and three samples.
        ([(3, 4), (3, 4), (2, 4)], True),
        ([(3, 3), (2, 2), (1, 1)], True),
        ([(3, 5), (3, 4), (2, 4)], False),  # above W
        ([(3, 4), (1, 4), (1, 4)], False),  # a counter that shrank
        ([(3, 3), (2, 4), (1, 4)], False),  # two accesses in one sample
        ([(0, 1), (0, 1), (0, 1)], False),  # the last counter was lost in the split
    ],
)
def test_values_are_the_counter_and_a_share_of_the_last(values: list[tuple[int, int]], holds: bool) -> None:
    window = [passed(0, 1, (4,), ended=True), *(passed(i, 2, v) for i, v in enumerate(values, 1))]
    assert moving_values([*window, passed(4, 1, (4,), ended=True)], CTX).holds is holds


def test_without_a_whole_window_values_are_undecided() -> None:
    assert moving_values([passed(0, 1, (4,), ended=True), passed(1, 2)], CTX).holds is None

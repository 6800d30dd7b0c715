# SPDX-License-Identifier: GPL-2.0
"""Counts of merged regions are the mean of their parts, weighted by size; few regions come from schemes."""

from __future__ import annotations

import pytest

from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, Damos, DamosQuota
from damon_tests.damon.trace import AggregatedEvent
from damon_tests.judge.schemes.merged_counters import merged_counters
from damon_tests.judge.schemes.split_growth import schemes_add_few
from damon_tests.judge.schemes.watched_passes import Try, Visit, WatchedPass

CTX = DamonCtx("fvaddr", attrs=DamonAttrs(5_000, 500_000))
PAGE = 4096


def over(*regions: tuple[int, int, int], ended: bool = False) -> WatchedPass:
    """A pass over regions (first page, end page, count), an aggregation of them if it ``ended``."""
    spans = [(start * PAGE, end * PAGE, nr) for start, end, nr in regions]
    visits = tuple(Visit(Try(0, 0, start, end, nr, 0), len(regions), ()) for start, end, nr in spans)
    events = tuple(AggregatedEvent(1, 0, len(regions), *span, 0) for span in spans)
    return WatchedPass(1, 1, visits, (), events if ended else ())


@pytest.mark.parametrize(
    ("count", "holds"), [(49, False), (50, False), (51, True), (53, True), (54, False), (60, False)]
)
def test_count_of_a_merged_region_is_the_weighted_mean(count: int, holds: bool) -> None:
    # Three pages of 50, one of 60: 52.5, and up to a sample more, or two less (last window, truncation).
    passes = [over((0, 3, 50), (3, 4, 60)), over((0, 4, count), ended=True)]
    (check,) = merged_counters(passes, CTX, "7.3")
    assert check.holds is holds


def test_parts_that_are_alike_decide_nothing() -> None:
    passes = [over((0, 3, 50), (3, 4, 52)), over((0, 4, 50), ended=True)]
    assert [check.holds for check in merged_counters(passes, CTX, "7.3")] == [None]


def growing(*counts: int) -> WatchedPass:
    visits = tuple(Visit(Try(0, 0, i, i + 1, 0, 0), count, ()) for i, count in enumerate(counts))
    return WatchedPass(1, 1, visits)


@pytest.mark.parametrize(
    ("counts", "holds"), [((5, 5, 5), None), ((5, 6, 7), True), ((5, 6, 8), False), ((5, 8, 5), False)]
)
def test_schemes_with_one_quota_add_two_regions_at_most(counts: tuple[int, ...], holds: bool | None) -> None:
    limited = Damos("stat", ANY, quota=DamosQuota(bytes=PAGE))
    ctx = DamonCtx("fvaddr", schemes=(Damos("stat", ANY), limited))
    assert schemes_add_few([growing(*counts)], ctx).holds is holds

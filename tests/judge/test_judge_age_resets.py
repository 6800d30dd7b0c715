# SPDX-License-Identifier: GPL-2.0
"""Checks of the regions after a pass: unions of its regions with the right ages hold, others fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, Damos
from damon_tests.damon.series import Level
from damon_tests.damon.trace import AggregatedEvent, BeforeApplyEvent, TypedEvent
from damon_tests.judge.schemes import age_resets, watched_passes
from damon_tests.judge.schemes.watched_passes import Try
from damon_tests.ports import UsageError

ATTRS = DamonAttrs(10_000, 30_000, min_nr_regions=3)
CTX = DamonCtx(
    "fvaddr",
    attrs=ATTRS,
    schemes=(Damos("stat", ANY, apply_interval_us=10_000), Damos("willneed"), Damos("stat")),
)
PAGE = 4096


def tried(start: int, end: int, nr: int = 0, age: int = 0, *, scheme: int = 0) -> BeforeApplyEvent:
    return BeforeApplyEvent(1000, 0, scheme, 0, 1, start * PAGE, end * PAGE, nr, age)


def aggregated(start: int, end: int, nr: int = 0, age: int = 0) -> AggregatedEvent:
    return AggregatedEvent(1000, 0, 1, start * PAGE, end * PAGE, nr, age)


def recorded(*events: TypedEvent) -> tuple[watched_passes.WatchedPass, ...]:
    return watched_passes.passes([*events, tried(0, 1)])


def regions(ctx: DamonCtx, *events: TypedEvent) -> bool | None:
    return age_resets.regions_and_ages(recorded(*events), ctx, "7.3").holds


def test_equal_neighbours_may_become_one_region() -> None:
    parts = (tried(0, 1, 2, 5), tried(1, 2, 2, 5), tried(2, 3, 2, 6))
    assert regions(CTX, *parts, aggregated(0, 2, 2, 5), aggregated(2, 3, 2, 6)) is True
    assert (
        regions(CTX, *parts, aggregated(0, 1, 2, 5), aggregated(1, 2, 2, 5), aggregated(2, 3, 2, 6)) is True
    )
    assert regions(CTX, *parts, aggregated(0, 3, 2, 5)) is False
    assert regions(CTX, *parts, aggregated(0, 2, 1, 5), aggregated(2, 3, 2, 6)) is False
    assert regions(CTX, *parts, aggregated(0, 2, 2, 5)) is False
    assert regions(CTX, *parts, aggregated(0, 2, 2, 5), aggregated(2, 4, 2, 6)) is False


def test_only_an_action_resets_age() -> None:
    acted = (tried(0, 1, 0, 5), tried(0, 1, 0, 5, scheme=1), tried(1, 2, 0, 5), tried(1, 2, 0, 5, scheme=2))
    assert regions(CTX, *acted, aggregated(0, 1), aggregated(1, 2, 0, 5)) is True
    assert regions(CTX, *acted, aggregated(0, 2, 0, 5)) is False
    assert regions(CTX, *acted, aggregated(0, 1), aggregated(1, 2)) is False


def test_next_pass_in_a_window_has_the_reset_age() -> None:
    acted = (tried(0, 1, 0, 5), tried(0, 1, 0, 5, scheme=1), tried(1, 2, 3, 5))
    assert regions(CTX, *acted, tried(0, 1, 1, 0), tried(1, 2, 2, 5)) is True  # counts go on meanwhile
    assert regions(CTX, *acted, tried(0, 1, 1, 5), tried(1, 2, 2, 5)) is False


def test_split_copies_age() -> None:
    before = (tried(0, 4, 0, 5), aggregated(0, 4, 0, 5))
    assert regions(CTX, *before, tried(0, 1, 0, 5), tried(1, 4, 0, 5)) is True
    assert regions(CTX, *before, tried(0, 1, 0, 5), tried(1, 4, 0, 4)) is False
    assert regions(CTX, *before, tried(0, 5, 0, 5)) is False


def test_aggregation_adds_at_most_one_to_age() -> None:
    parts = (tried(0, 2, 0, 5), tried(2, 4, 0, 7))
    assert (
        regions(
            CTX, *parts, tried(0, 2, 0, 6), tried(2, 4, 0, 8), aggregated(0, 2, 0, 6), aggregated(2, 4, 0, 8)
        )
        is True
    )
    assert (
        regions(
            CTX, *parts, tried(0, 2, 0, 7), tried(2, 4, 0, 8), aggregated(0, 2, 0, 7), aggregated(2, 4, 0, 8)
        )
        is False
    )
    # 6.18.15 counts it in each pass of merging, of which there are several above max_nr_regions.
    old = recorded(*parts, tried(0, 4, 0, 9), aggregated(0, 4, 0, 9))
    few = replace(CTX, attrs=replace(CTX.attrs, min_nr_regions=1, max_nr_regions=1))
    assert age_resets.regions_and_ages(old, few, Level("6.18", "6.18.15")).holds is True
    assert age_resets.regions_and_ages(old, CTX, Level("6.18", "6.18.15")).holds is False
    assert age_resets.regions_and_ages(old, few, "6.18").holds is False


def test_quota_cut_leaves_two_regions() -> None:
    cut = (tried(0, 4, 0, 5), tried(0, 3, 0, 5, scheme=1), tried(3, 4, 0, 5))
    (only_pass,) = recorded(*cut)
    assert age_resets.left_by(only_pass, CTX) == [
        Try(0, 0, 0, 3 * PAGE, 0, 0),
        Try(0, 0, 3 * PAGE, 4 * PAGE, 0, 5),
    ]
    (unvisited,) = recorded(*cut[:2])  # before 7.2 the rest waits for the next pass
    assert age_resets.left_by(unvisited, CTX) == age_resets.left_by(only_pass, CTX)


def test_aggregation_at_another_pass_fails() -> None:
    def holds(*events: TypedEvent) -> bool | None:
        return age_resets.aggregations_in_step(recorded(*events), CTX).holds

    assert holds(tried(0, 1), tried(0, 1), tried(0, 1), aggregated(0, 1)) is True
    assert holds(tried(0, 1), tried(0, 1), aggregated(0, 1), tried(0, 1)) is False
    assert holds(tried(0, 1), tried(0, 1), tried(0, 1)) is False
    assert holds() is None


def test_watcher_not_due_at_aggregations_is_refused() -> None:
    late = replace(CTX, schemes=(replace(CTX.schemes[0], apply_interval_us=20_000),))
    with pytest.raises(UsageError):
        age_resets.aggregations_in_step((), late)


@pytest.mark.parametrize(
    ("left", "holds"),
    [
        ([(0, 2, 4), (2, 6, 4)], True),  # 6 of 6 pages: more than a third
        ([(0, 1, 4), (1, 2, 4), (2, 6, 4)], False),
        ([(0, 1, 4), (1, 2, 3), (2, 6, 3)], True),
    ],
)
def test_equal_neighbours_must_merge_up_to_the_limit(
    left: Sequence[tuple[int, int, int]], holds: bool
) -> None:
    quiet = (tried(0, 6, 0, 3), tried(0, 6, 0, 3), tried(0, 6, 0, 3), aggregated(0, 6, 0, 3))
    after = [aggregated(start, end, 0, age) for start, end, age in left]
    (check,) = age_resets.merged_back(recorded(*quiet, tried(0, 6, 0, 4), *after), CTX)
    assert check.holds is holds


def test_merging_back_is_judged_only_without_accesses() -> None:
    apart = (aggregated(0, 1, 0, 4), aggregated(1, 2, 0, 4), aggregated(2, 6, 0, 4))
    unknown = recorded(tried(0, 6, 0, 3), *apart)  # nothing is known of the window before
    assert age_resets.merged_back(unknown, CTX) == []
    assert [check.holds for check in age_resets.merged_back(unknown, CTX, idle=True)] == [None]
    loud = (tried(0, 6, 1, 3), aggregated(0, 6, 1, 3), tried(0, 6, 0, 4), *apart)
    assert age_resets.merged_back(recorded(*loud), CTX) == []

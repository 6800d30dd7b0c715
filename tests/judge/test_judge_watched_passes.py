# SPDX-License-Identifier: GPL-2.0
"""The replay of passes: the watcher's events determine what must be tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import pytest

from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, Damos, DamosQuota
from damon_tests.damon.trace import AggregatedEvent, BeforeApplyEvent, LostEvent, StatEvent, TypedEvent
from damon_tests.judge.schemes import watched_passes
from damon_tests.judge.schemes.watched_passes import Try
from damon_tests.ports import UsageError

ATTRS = DamonAttrs(10_000, 100_000)
WATCHER = Damos("stat", ANY)
PAGE = 4096


def context(*schemes: Damos, attrs: DamonAttrs = ATTRS) -> DamonCtx:
    return DamonCtx("fvaddr", attrs=attrs, schemes=schemes)


def apply(
    scheme: int, start: int, end: int, nr: int = 0, age: int = 0, *, target: int = 0, count: int = 2
) -> BeforeApplyEvent:
    return BeforeApplyEvent(1000, 0, scheme, target, count, start * PAGE, end * PAGE, nr, age)


def stat(scheme: int, nr_snapshots: int = 0) -> StatEvent:
    return StatEvent(1000, 0, scheme, 0, 0, 0, 0, 0, 0, nr_snapshots)


END = apply(0, 0, 1)
"""Begins an incomplete pass, and so completes the one before."""


def verdict(events: Sequence[TypedEvent], ctx: DamonCtx) -> bool | None:
    (check,) = watched_passes.tried_as_asked(watched_passes.passes([*events, END]), ctx)
    return check.holds


def test_descending_address_or_later_event_ends_a_pass() -> None:
    aggregated = AggregatedEvent(1000, 0, 1, 0, PAGE, 0, 0)
    events: list[TypedEvent] = [
        apply(0, 0, 1), apply(1, 0, 1), apply(0, 1, 2), apply(0, 0, 9, target=1),
        apply(0, 0, 2), stat(0), aggregated,
        apply(0, 2, 3), apply(0, 0, 2),
    ]  # fmt: skip
    complete = watched_passes.passes(events)
    assert [len(p.visits) for p in complete] == [3, 1, 1]
    assert [p.number for p in complete] == [1, 2, 3]
    assert complete[0].visits[0].tried == (Try(1, 0, 0, PAGE, 0, 0),)
    assert complete[1].stats == (stat(0),)
    assert complete[1].aggregated == (aggregated,)
    assert len(complete[0].tries) == 4


def test_events_after_lost_ones_and_before_first_visit_are_ignored() -> None:
    whole = apply(0, 0, 1)
    events: list[TypedEvent] = [apply(1, 0, 1), stat(0), whole, whole, LostEvent(0, 3), whole, END]
    assert [len(p.visits) for p in watched_passes.passes(events)] == [1]


@pytest.mark.parametrize(
    ("bounds", "values", "within"),
    [
        ({"sz_min": 8, "sz_max": 9}, (8, 0, 0), True),
        ({"sz_min": 8, "sz_max": 9}, (9, 0, 0), True),
        ({"sz_min": 8, "sz_max": 9}, (10, 0, 0), False),
        ({"sz_min": 8}, (7, 0, 0), False),
        ({"sz_min": 9, "sz_max": 8}, (8, 0, 0), False),
        ({"sz_min": 1 << 32}, (8, 0, 0), False),
        ({"nr_accesses_max": 1 << 32}, (8, 1, 0), False),
        ({"nr_accesses_max": (1 << 32) + 1}, (8, 1, 0), True),
        ({"nr_accesses_min": (1 << 32) + 2}, (8, 1, 0), False),
        ({"age_max": 1 << 32}, (8, 0, 0), True),
        ({"age_min": (3 << 32) + 5, "age_max": (9 << 32) + 5}, (8, 0, 5), True),
        ({"age_min": 6}, (8, 0, 5), False),
    ],
)
def test_pattern_bounds_are_inclusive_and_nr_accesses_and_age_have_32_bits(
    bounds: dict[str, int], values: tuple[int, int, int], within: bool
) -> None:
    assert watched_passes.matches(replace(ANY, **bounds), *values) is within


def test_schemes_are_due_after_whole_samples() -> None:
    def every(us: int) -> Damos:
        return Damos("stat", ANY, apply_interval_us=us)

    schemes = (every(10_000), every(1), every(29_999), every(0), every(30_000))
    due = list(islice(watched_passes.due_in(schemes, ATTRS), 10))
    assert [i for i, d in enumerate(due, 1) if 1 in d] == list(range(1, 11))
    assert [i for i, d in enumerate(due, 1) if 2 in d] == [2, 4, 6, 8, 10]
    assert [i for i, d in enumerate(due, 1) if 3 in d] == [10]
    assert [i for i, d in enumerate(due, 1) if 4 in d] == [3, 6, 9]
    steps = list(islice(watched_passes.due_in((every(20_000), every(60_000)), ATTRS), 6))
    assert steps == [(0,), (0,), (0, 1), (0,), (0,), (0, 1)]


def test_action_resets_age_for_later_schemes_only() -> None:
    young, old = Damos("stat", replace(ANY, age_max=0)), Damos("stat", replace(ANY, age_min=3))
    acts = Damos("willneed", replace(ANY, age_min=3))
    ctx = context(WATCHER, old, acts, young, old)
    right = [apply(0, 0, 1, 0, 3, count=1), apply(1, 0, 1, 0, 3), apply(2, 0, 1, 0, 3), apply(3, 0, 1)]
    assert verdict(right, ctx) is True
    assert verdict([*right, apply(4, 0, 1, 0, 3)], ctx) is False
    assert verdict(right[:-1], ctx) is False
    assert verdict([right[0], right[2], right[1], right[3]], ctx) is False
    assert verdict([*right[:3], apply(3, 0, 1, 0, 3)], ctx) is False


def test_try_of_a_scheme_that_is_not_due_fails() -> None:
    ctx = context(replace(WATCHER, apply_interval_us=50_000), Damos("stat", ANY))
    first, second = [apply(0, 0, 1, count=1)], [apply(0, 0, 1, count=1), apply(1, 0, 1)]
    assert verdict([*first, *second], ctx) is True
    assert verdict([*second, *second], ctx) is False
    assert verdict([*first, *first], ctx) is False


def test_wrong_nr_regions_or_nr_snapshots_fails() -> None:
    ctx = context(WATCHER, Damos("stat"))
    regions = [apply(0, 0, 1), apply(0, 1, 2)]
    assert verdict(regions, ctx) is True
    assert verdict(regions[:1], ctx) is False
    assert verdict([*regions, stat(0, 1), stat(1, 1)], ctx) is True
    assert verdict([*regions, stat(0, 1)], ctx) is False
    assert verdict([*regions, stat(1, 1), stat(0, 1)], ctx) is False
    assert verdict([*regions, stat(0, 1), stat(1, 2)], ctx) is False


def test_max_nr_snapshots_counts_each_target() -> None:
    ctx = context(WATCHER, replace(WATCHER, max_nr_snapshots=3), Damos(max_nr_snapshots=1))

    def one_pass(*limited: int) -> list[TypedEvent]:
        events: list[TypedEvent] = []
        for target in range(2):
            events.append(apply(0, 0, 1, target=target, count=1))
            if target in limited:
                events.append(apply(1, 0, 1, target=target))
        return events

    traced_stats = [stat(0, 6), stat(1, 3), stat(2, 1)]
    assert verdict([*one_pass(0, 1), *one_pass(0), *one_pass(), *traced_stats], ctx) is True
    assert verdict([*one_pass(0, 1), *one_pass(0, 1), *one_pass(), *traced_stats], ctx) is False
    assert verdict([*one_pass(0, 1), *one_pass(0), *one_pass(0), *traced_stats], ctx) is False
    assert verdict([*one_pass(0, 1), *one_pass(), *one_pass(), *traced_stats], ctx) is False


def test_run_without_passes_is_undecided() -> None:
    assert verdict([], context(WATCHER)) is None


@pytest.mark.parametrize(
    "schemes",
    [
        (),
        (Damos("stat"),),
        (Damos("cold", ANY),),
        (WATCHER, Damos("stat", ANY, quota=DamosQuota(bytes=1))),
        (WATCHER, Damos("stat", ANY, apply_interval_us=50_000)),
    ],
)
def test_requests_that_cannot_be_replayed_are_refused(schemes: tuple[Damos, ...]) -> None:
    with pytest.raises(UsageError):
        watched_passes.ExpectedTries(context(*schemes))


def test_bounds_are_tested_only_by_values_at_and_beyond_them() -> None:
    recorded = watched_passes.passes([apply(0, 0, 1, 3, 5), apply(0, 1, 2, 4, 9), END])
    checks = watched_passes.edges_met(
        recorded, (WATCHER, Damos("stat", replace(ANY, nr_accesses_max=3))), ("nr_accesses",)
    )
    assert [check.holds for check in checks] == [True, True]
    checks = watched_passes.edges_met(recorded, (WATCHER, Damos("stat", replace(ANY, age_max=5))), ("age",))
    assert [check.holds for check in checks] == [True, None]
    empty = replace(ANY, age_min=9, age_max=5)  # matches nothing: its bounds are no edges
    assert watched_passes.edges_met(recorded, (WATCHER, Damos("stat", empty)), ("age",))[0].holds is None

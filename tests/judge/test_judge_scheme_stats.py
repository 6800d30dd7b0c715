# SPDX-License-Identifier: GPL-2.0
"""Checks of schemes' counters against the traced tries."""

from __future__ import annotations

from dataclasses import replace

import pytest

from damon_tests.damon.params import ANY, DamonAttrs, DamonCtx, Damos, DamosQuota
from damon_tests.damon.records import DamosStats
from damon_tests.damon.trace import BeforeApplyEvent, StatEvent, TypedEvent
from damon_tests.judge.schemes import stats, watched_passes
from damon_tests.judge.schemes.stats import Reading, Total
from damon_tests.ports import UsageError

PAGE = 4096
WATCHER = Damos("stat", ANY)
CTX = DamonCtx("fvaddr", attrs=DamonAttrs(), schemes=(WATCHER, Damos("willneed", ANY)))


def apply(time_us: int, scheme: int, start: int, end: int) -> BeforeApplyEvent:
    return BeforeApplyEvent(time_us * 1000, 0, scheme, 0, 1, start * PAGE, end * PAGE, 0, 0)


def stat(scheme: int, nr: int, pages: int, *, applied: tuple[int, int] = (0, 0), qt: int = 0) -> StatEvent:
    return StatEvent(0, 0, scheme, nr, pages * PAGE, applied[0], applied[1] * PAGE, 0, qt, 1)


def one_pass(time_us: int) -> list[TypedEvent]:
    """Return a pass over two regions, of two pages and of one page, both tried by scheme 1."""
    return [
        apply(time_us, 0, 0, 2),
        apply(time_us, 1, 0, 2),
        apply(time_us, 0, 2, 3),
        apply(time_us, 1, 2, 3),
    ]


def holds_for(*events: StatEvent) -> bool | None:
    recorded = watched_passes.passes([*one_pass(1), *events, *one_pass(2)])
    (check,) = stats.stats_after_passes(recorded, CTX, "7.3", [(0, 2 * PAGE)])
    return check.holds


def test_traced_counters_must_equal_traced_tries() -> None:
    watcher, right = stat(0, 2, 3), stat(1, 2, 3, applied=(1, 2))
    assert holds_for(watcher, right) is True
    assert holds_for(stat(0, 3, 3), right) is False
    assert holds_for(stat(0, 2, 4), right) is False
    assert holds_for(stat(0, 2, 3, applied=(1, 2)), right) is False  # stat applies nothing
    assert holds_for(watcher, stat(1, 2, 3, applied=(2, 3))) is False  # one page is not mapped
    assert holds_for(watcher, stat(1, 2, 3, applied=(1, 0))) is False
    assert holds_for(watcher, right, stat(1, 2, 3, applied=(1, 2), qt=1)) is True
    assert holds_for(watcher, stat(1, 2, 3, applied=(1, 2), qt=1), right) is False  # never smaller again


def test_without_traced_counters_there_is_no_check() -> None:
    silent = watched_passes.passes([*one_pass(1), *one_pass(2)])
    assert stats.stats_after_passes(silent, CTX, "6.18") == []  # does not trace them
    assert [check.holds for check in stats.stats_after_passes(silent, CTX, "7.3")] == [None]


def test_region_across_touching_mappings_counts_as_applied() -> None:
    recorded = watched_passes.passes([*one_pass(1), *one_pass(2)])
    after = stats.totals(recorded, CTX.schemes, [(0, PAGE), (PAGE, 2 * PAGE)])
    assert after[1] == [Total(2, 3 * PAGE, 0, 0), Total(2, 3 * PAGE, 1, 2 * PAGE)]
    assert stats.totals(recorded, CTX.schemes)[1][1] == Total(2, 3 * PAGE)


def reading(begin_us: int, end_us: int, nr: int, pages: int) -> Reading:
    return Reading(begin_us * 1000, end_us * 1000, 0, DamosStats(nr, pages * PAGE, 0, 0, 0))


@pytest.mark.parametrize(
    ("asked", "holds"),
    [
        (reading(50, 60, 0, 0), True),  # before the first pass
        (reading(50, 60, 2, 3), False),
        (reading(110, 150, 2, 3), True),
        (reading(110, 150, 4, 6), False),
        (reading(110, 250, 4, 6), True),  # during the second
        (reading(110, 250, 2, 3), True),
        (reading(110, 250, 0, 0), False),
        (reading(350, 450, 6, 9), None),  # perhaps after the last recorded pass
    ],
)
def test_read_counters_must_be_those_during_the_command(asked: Reading, holds: bool | None) -> None:
    recorded = watched_passes.passes([*one_pass(100), *one_pass(200), *one_pass(300), *one_pass(400)])
    assert stats.stats_when_read(recorded, [asked], CTX).holds is holds


def test_qt_exceeds_must_count_full_windows() -> None:
    limited = replace(CTX, schemes=(WATCHER, replace(WATCHER, quota=DamosQuota(bytes=3 * PAGE))))

    def holds(*counts: int, level: str = "7.3", ctx: DamonCtx = limited) -> bool | None:
        events: list[TypedEvent] = []
        for i, count in enumerate(counts):
            events += [*one_pass(100 * (i + 1)), stat(1, 0, 0, qt=count)]
        recorded = watched_passes.passes([*events, *one_pass(1000)])
        return stats.exceeded(recorded, ctx, level, ()).holds

    assert holds(0, 1, 2) is True  # the last window is still open
    assert holds(1, 2, 3) is False
    assert holds(0, 0, 0) is False
    almost = replace(CTX, schemes=(WATCHER, replace(WATCHER, quota=DamosQuota(bytes=3 * PAGE + 4095))))
    assert holds(0, 1, 2, ctx=almost) is True  # less than a page is left
    assert holds(0, 0, 0, ctx=almost, level="7.1") is True
    larger = replace(CTX, schemes=(WATCHER, replace(WATCHER, quota=DamosQuota(bytes=4 * PAGE))))
    assert holds(0, 0, 0, ctx=larger) is True
    assert holds(0, 1, 2, ctx=larger) is False
    assert holds() is None
    with pytest.raises(UsageError):
        holds(0, ctx=replace(CTX, schemes=(WATCHER, replace(WATCHER, quota=DamosQuota(ms=1)))))


def test_qt_exceeds_is_compared_with_the_passes_that_the_reading_shows() -> None:
    """A command that lasts longer than a pass takes leaves several numbers of passes, its tries only one."""
    limited = replace(CTX, schemes=(replace(WATCHER, quota=DamosQuota(bytes=3 * PAGE)), WATCHER))
    recorded = watched_passes.passes([event for i in range(1, 6) for event in one_pass(100 * i)])

    def holds(nr_tried: int, pages: int, qt_exceeds: int) -> bool | None:
        shown = DamosStats(nr_tried, pages * PAGE, 0, 0, qt_exceeds)
        return stats.exceeded(recorded, limited, "7.3", [Reading(110_000, 350_000, 0, shown)]).holds

    assert holds(4, 6, 1) is True  # after two passes, within the window of the second
    assert holds(4, 6, 2) is False
    assert holds(6, 9, 1) is False  # as many as after two, but it was read after three
    assert holds(6, 9, 2) is True
    assert holds(6, 8, 1) is True  # tries that no pass explains are for stats_when_read

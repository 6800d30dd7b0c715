# SPDX-License-Identifier: GPL-2.0
"""Where a test's time went: every second is counted once, whoever reports it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from damon_tests.ports import stopwatch
from damon_tests.ports.stopwatch import timed


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """A clock that stands still unless a test moves it; nothing of other tests is left in the stopwatch."""
    now = [0.0]
    before = stopwatch.take()
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    yield now
    stopwatch.take()
    stopwatch._seconds.update(before)


def test_inner_block_is_not_counted_twice(clock: list[float]) -> None:
    with timed("outer"):
        clock[0] += 1
        with timed("inner"):
            clock[0] += 2
        clock[0] += 4
    assert stopwatch.take() == {"outer": 5.0, "inner": 2.0}
    assert stopwatch.take() == {}


def test_attempts_time_is_no_time_of_the_run_around_it(clock: list[float]) -> None:
    """A live run's own seconds are those that its attempt does not name."""
    attempt: dict[str, float] = {}
    with timed("live runs"):
        clock[0] += 1
        with timed("monitor", attempt):
            clock[0] += 10
            with timed("write results"):
                clock[0] += 3
            with timed("collect", attempt):
                clock[0] += 2
    taken = stopwatch.take()
    assert attempt == {"monitor": 10.0, "collect": 2.0}
    assert taken == {"live runs": 1.0, "write results": 3.0}
    assert sum(attempt.values()) + sum(taken.values()) == clock[0]


def test_time_counts_when_the_block_raises(clock: list[float]) -> None:
    def broken() -> None:
        with timed("outer"):
            clock[0] += 1
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        broken()
    assert stopwatch.take() == {"outer": 1.0}

# SPDX-License-Identifier: GPL-2.0
"""The median sleep between two samples is held from both sides."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from damon_tests.judge.monitoring.sampling_interval import sampling_interval

MS = 1_000_000


def attempt(sleep_us: float, *, asked_us: int = 5_000, traced: bool = True, aggregations: int = 10) -> Any:
    """An attempt of 20 samples an aggregation, each after a sleep of ``sleep_us``."""
    step = int(sleep_us * 1000)
    sleeps = tuple((i * 2 * step, i * 2 * step + step) for i in range(20 * aggregations)) if traced else ()
    snapshots = [SimpleNamespace(time_ns=n * 20 * step) for n in range(aggregations + 1)]
    recording = SimpleNamespace(sample_us=asked_us, samples_per_aggr=20, of_target=lambda _: snapshots)
    return SimpleNamespace(recording=recording, sleeps=sleeps)


@pytest.mark.parametrize("traced", [True, False])
@pytest.mark.parametrize(
    ("sleep_us", "holds"),
    [
        (5_000, True),
        (5_095, True),
        (5_200, True),
        (4_900, False),
        (5_300, False),
        (6_000, False),
        (10_000, False),
    ],
)
def test_sleep_is_neither_shorter_nor_longer_than_asked(sleep_us: float, holds: bool, traced: bool) -> None:
    assert sampling_interval(attempt(sleep_us, traced=traced)).holds is holds


def test_one_more_tick_is_allowed_where_sleeps_are_counted_in_ticks() -> None:
    assert sampling_interval(attempt(24_000, asked_us=20_000)).holds is True
    assert sampling_interval(attempt(40_000, asked_us=20_000)).holds is False


def test_few_sleeps_are_undecided() -> None:
    assert sampling_interval(attempt(5_000, aggregations=0)).holds is None

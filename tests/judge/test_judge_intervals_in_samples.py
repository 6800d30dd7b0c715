# SPDX-License-Identifier: GPL-2.0
"""Intervals are counted in samples, and the time between watermark checks is held from both sides."""

from __future__ import annotations

from itertools import accumulate, repeat
from types import SimpleNamespace
from typing import Any

import pytest

from damon_tests.judge.monitoring.intervals_in_samples import interval_in_samples, samples_between
from damon_tests.judge.schemes.watermarks import checked_once_per_interval

MS = 1_000_000


def attempt(sleeps: int = 0, work_ns: int = 0) -> Any:
    """An attempt with a sampling interval of 5 ms, whose sleeps were traced if there are some."""
    step = 5 * MS + work_ns
    traced = tuple((i * step, i * step + 5 * MS) for i in range(sleeps))
    return SimpleNamespace(recording=SimpleNamespace(sample_us=5_000), sleeps=traced)


@pytest.mark.parametrize(
    ("samples", "holds"), [(20, True), (19, False), (21, False), (24, False), (16, False)]
)
@pytest.mark.parametrize("work_ns", [0, 9 * MS])
def test_traced_samples_are_counted_whatever_the_work_takes(samples: int, holds: bool, work_ns: int) -> None:
    step = 5 * MS + work_ns
    times = [5 * MS + i * samples * step for i in range(6)]
    check = interval_in_samples("a pass", times, attempt(200, work_ns), 20, "why", "I35")
    assert check.holds is holds


@pytest.mark.parametrize(
    ("gap_ms", "holds"), [(100, True), (103, True), (99, False), (105, False), (120, False)]
)
def test_without_a_trace_a_sample_takes_sample_us(gap_ms: int, holds: bool) -> None:
    times = [i * gap_ms * MS for i in range(6)]
    assert interval_in_samples("a pass", times, attempt(), 20, "why", "I35").holds is holds


def test_intervals_before_the_trace_are_left_out() -> None:
    late = SimpleNamespace(recording=SimpleNamespace(sample_us=5_000), sleeps=((50 * MS, 55 * MS),))
    assert samples_between([0, 40 * MS, 60 * MS, 80 * MS], late) == [0]


def test_few_intervals_are_undecided() -> None:
    assert interval_in_samples("a pass", [0, 100 * MS, 200 * MS], attempt(), 20, "why", "I35").holds is None


@pytest.mark.parametrize(
    ("gap_ms", "holds"), [(500, True), (515, True), (525, True), (499, False), (535, False), (600, False)]
)
@pytest.mark.parametrize("traced", [True, False])
def test_watermarks_are_checked_once_per_interval(gap_ms: int, holds: bool, traced: bool) -> None:
    answers = list(accumulate(repeat(gap_ms * MS, 6), initial=0))
    # Traced sleeps decide, although late answers look longer.
    sleeps = [(a + 1, a + gap_ms * MS + 1) for a in answers[:-1]] if traced else []
    late = [answers[0], *(a + 40 * MS * (i % 2) for i, a in enumerate(answers[1:]))] if traced else answers
    late[-1] = answers[-1] + 1
    assert checked_once_per_interval(500_000, late, sleeps).holds is holds

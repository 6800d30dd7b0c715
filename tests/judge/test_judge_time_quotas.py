# SPDX-License-Identifier: GPL-2.0
"""Time quotas judged by what passes tried, where effective sizes are not traced."""

from __future__ import annotations

import pytest

from damon_tests.damon.params import DamosQuota
from damon_tests.damon.trace import AggregatedEvent, BeforeApplyEvent
from damon_tests.judge.schemes import time_quotas
from damon_tests.judge.schemes.quota_passes import Pass
from damon_tests.judge.schemes.time_quotas import Spent, first_throughput, spent_between
from damon_tests.ports import NSEC_PER_MSEC

PAGE, MIB = 4096, 1 << 20
QUOTA = DamosQuota(ms=3)
FIRST = 3 * first_throughput()


def tried(number: int, size: int, memory: int = 64 * MIB) -> Pass:
    """A pass, 50 ms after the one before, that tried ``size`` bytes from the beginning of the memory."""
    now = number * 50 * NSEC_PER_MSEC
    applied = (BeforeApplyEvent(now, 0, 0, 0, 1, 0, size, 0, 0),)
    return Pass(now, now + 1, applied, (), None, (AggregatedEvent(now + 1, 0, 1, 0, memory, 0, 0),))


def holds(*sizes: int) -> list[bool | None]:
    passes = [tried(number, size) for number, size in enumerate(sizes)]
    return [check.holds for check in time_quotas.tries_follow(passes, QUOTA, PAGE, least=2)]


def test_first_pass_assumes_4_mib_a_millisecond() -> None:
    assert holds(FIRST, FIRST) == [True, True]
    assert holds(2 * FIRST, 2 * FIRST) == [False, False]


def test_later_passes_imply_a_time_that_can_have_been_spent() -> None:
    assert holds(FIRST, 6 * MIB) == [True, True]  # 6 ms for the first 12 MiB
    assert holds(FIRST, 60 * PAGE) == [True, False]  # more than 150 ms, of which 50 are over
    # Half a millisecond for 12 MiB cannot follow six for the same.
    assert holds(FIRST, 6 * MIB, 60 * MIB) == [True, False]


def test_pass_that_memory_ends_decides_nothing() -> None:
    whole = tried(0, 64 * MIB)
    assert time_quotas.size_by_tries(whole, PAGE) is None
    checks = time_quotas.tries_follow([whole], QUOTA, PAGE, least=1)
    assert [check.holds for check in checks] == [False, None]  # the first pass is too large by itself
    assert time_quotas.tries_were_measured([whole], QUOTA, PAGE).holds is None


@pytest.mark.parametrize(
    ("low", "high", "charged", "time"),
    [
        (FIRST, FIRST + PAGE - 1, 0, Spent(0, 0)),
        (PAGE, 2 * PAGE - 1, 1 << 40, Spent(0, 1 << 62)),  # a minimum region is tried whatever it takes
        (2 * FIRST, 2 * FIRST + PAGE - 1, 0, None),
    ],
)
def test_bounds_of_a_size_bound_the_time(low: int, high: int, charged: int, time: Spent | None) -> None:
    assert spent_between(low, high, QUOTA, charged, PAGE) == time

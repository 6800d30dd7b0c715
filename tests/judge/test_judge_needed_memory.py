# SPDX-License-Identifier: GPL-2.0
"""The share of tried memory that a program accesses again."""

from __future__ import annotations

import math

import numpy as np

from damon_tests.damon.trace import BeforeApplyEvent
from damon_tests.judge.schemes.needed_memory import needed_again, needed_by_chance
from damon_tests.ports import page_size
from damon_tests.workload.access_truth import AccessTruth

END = 1000


def truth() -> AccessTruth:
    """Pages 0 to 9, all accessed at 0; pages 0 to 3 again at 500."""
    pages = np.concatenate([np.arange(10), np.arange(4)])
    times = np.concatenate([np.zeros(10, np.int64), np.full(4, 500)])
    return AccessTruth(pages, times, times, span_ns=(0, END), gap_ns=10)


def tried(first: int, last: int, time_ns: int = 400) -> BeforeApplyEvent:
    return BeforeApplyEvent(time_ns, 0, 0, 0, 1, first * page_size(), last * page_size(), 0, 5)


def test_share_of_tried_pages() -> None:
    assert needed_again(truth(), [tried(4, 10)], 200).value == 0
    assert needed_again(truth(), [tried(0, 4)], 200).value == 1
    both = needed_again(truth(), [tried(0, 2), tried(2, 10)], 200)
    assert both.samples == (1.0, 0.25)
    assert both.value == 0.4


def test_share_by_chance() -> None:
    assert needed_by_chance(truth(), [tried(4, 10)], 200).value == 0.4


def test_memory_never_accessed_and_times_not_recorded_do_not_count() -> None:
    assert math.isnan(needed_again(truth(), [tried(20, 30), tried(0, 4, END - 100)], 200).value)
    assert math.isnan(needed_by_chance(truth(), [tried(0, 4, END - 100)], 200).value)

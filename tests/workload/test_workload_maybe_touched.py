# SPDX-License-Identifier: GPL-2.0
"""The upper bound of what was touched."""

import numpy as np
import pytest

from damon_tests.ports import page_size
from damon_tests.reference.live.periodic_truth import PeriodicAccess, PeriodicTruth
from damon_tests.workload.maybe_touched import MaybeTouched

MS = 1_000_000
PAGES = np.array([10, 11, 20], np.int64)
MEMORY = ((10 * page_size(), 12 * page_size()),)
TRUTH = PeriodicTruth(
    MEMORY, [PeriodicAccess(10 * page_size(), 11 * page_size(), 100 * MS)]
)  # page 10, at each 100 ms


def test_other_mappings_are_always_touched() -> None:
    truth = MaybeTouched(TRUTH, [(20 * page_size(), 21 * page_size())])
    assert truth.touched(PAGES, 110 * MS, 120 * MS).tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("t0", "t1", "touched"),
    [(95, 105, True), (110, 120, True), (80, 91, True), (80, 90, False), (150, 160, False), (140, 160, True)],
)
def test_a_touch_in_a_stall_may_have_been_at_any_time_of_it(t0: int, t1: int, touched: bool) -> None:
    truth = MaybeTouched(TRUTH, [], [(90 * MS, 130 * MS), (120 * MS, 145 * MS)])
    assert truth.touched(PAGES[:2], t0 * MS, t1 * MS).tolist() == [touched, False]
    each = truth.touched_each(PAGES[:2], np.full(2, t0 * MS), np.full(2, t1 * MS))
    assert each.tolist() == [touched, False]

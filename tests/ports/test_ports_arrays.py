# SPDX-License-Identifier: GPL-2.0
"""distinct() gives what numpy.unique does, for arrays in any number and of any length."""

from __future__ import annotations

import numpy as np
import pytest

from damon_tests.ports.arrays import I64, distinct


def sorted_numbers(rng: np.random.Generator, count: int) -> I64:
    return np.sort(rng.integers(-50, 50, count, dtype=np.int64))


@pytest.mark.parametrize("counts", [(0,), (1,), (0, 0), (5, 0, 7), (100, 100, 3, 9), (1, 1)])
def test_distinct_values_are_those_of_numpy(counts: tuple[int, ...]) -> None:
    rng = np.random.default_rng(7)
    arrays = [sorted_numbers(rng, count) for count in counts]
    expected = np.unique(np.concatenate(arrays))
    values = distinct(*arrays)
    assert values.dtype == np.int64
    assert values.tolist() == expected.tolist()


def test_order_of_what_is_not_ascending_does_not_matter() -> None:
    """A wrong DAMON's regions may have any order."""
    assert distinct(np.array([3, 1, 2, 3]), np.array([2, 0])).tolist() == [0, 1, 2, 3]

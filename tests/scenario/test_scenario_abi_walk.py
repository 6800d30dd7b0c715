# SPDX-License-Identifier: GPL-2.0
"""Differences from the reference fail a known series and are undecided on others; walks shrink."""

import pytest

from damon_tests.scenario.abi_walk import Operation, same_answers, shrink


@pytest.mark.parametrize(
    ("differences", "compared", "holds"),
    [([], True, True), ([], False, True), (["a"], True, False), (["a"], False, None)],
)
def test_difference_fails_only_a_series_that_was_compared_before(differences, compared, holds):
    check = same_answers(differences, "documented", compared=compared)
    assert check.holds is holds
    assert ("no kernel of this series" in check.reason) is not compared


def test_shrink_keeps_the_operations_that_a_difference_needs():
    operations = [Operation(str(number), "1") for number in range(40)]
    needed = {"3", "17", "39"}
    short = shrink(operations, lambda part: needed <= {o.path for o in part}, 200)
    assert {o.path for o in short} == needed

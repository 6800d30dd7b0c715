# SPDX-License-Identifier: GPL-2.0
"""Differences from the reference fail a known series and are undecided on others; walks shrink."""

import random

import pytest

from damon_tests.scenario.abi_walk import (
    BEGINNING,
    NO_ANSWER,
    Answer,
    Operation,
    Walker,
    same_answers,
    shrink,
)


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


class Model:
    """A reference in which ``waits`` never returns, and after which all is busy."""

    def __init__(self):
        self.done, self.waits = [], False

    def do(self, operation):
        self.done.append(operation)
        self.waits = self.waits or operation.value == "waits"
        return Answer(NO_ANSWER if self.waits else "0", operation.value)


def test_command_that_waits_for_ever_is_left_out_of_a_walk(monkeypatch):
    drawn = iter([Operation("a", "1"), Operation("b", "waits"), Operation("c", "2"), Operation("d", "3")])
    monkeypatch.setattr(Walker, "_draw", lambda self, model: next(drawn))
    models = []

    def new_model():
        models.append(Model())
        return models[-1]

    count = len(BEGINNING) + 3
    walk = list(Walker(random.Random(1)).operations(new_model, count))
    operations = [operation for operation, _ in walk]
    assert [o.path for o in operations[len(BEGINNING) :]] == ["a", "c", "d"]
    assert all(answer.error == "0" for _, answer in walk)
    assert len(models) == 2
    assert models[1].done == operations  # the new one did all that the walk has

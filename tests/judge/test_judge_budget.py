# SPDX-License-Identifier: GPL-2.0
"""Budgets: files with a reason, decisions by exact intervals of the median."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from damon_tests.judge.cost.budget import Budget, Pair, load, median_interval, overheads, within_budget
from damon_tests.ports import UsageError

CPU = Budget("cpu", 0.03, "fraction", "a production monitor")


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "budgets.yaml"
    path.write_text("cpu:\n  limit: 0.03\n  unit: fraction\n  reason: a production monitor\n")
    assert load(path) == {"cpu": CPU}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- 1", "expected budgets by name"),
        ("cpu: 3", "needs exactly limit, reason, unit"),
        ("cpu: {limit: 1, unit: s}", "needs exactly"),
        ("cpu: {limit: much, unit: s, reason: x}", "not a number"),
        ("cpu: {limit: 1, unit: s, reason: ' '}", "has no reason"),
        ("cpu: [", "not YAML"),
    ],
)
def test_a_wrong_file_is_told(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "b.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=words) as error:
        load(path)
    assert str(path) in str(error.value)


def test_decisions() -> None:
    assert within_budget(CPU, [0.01 + i / 1e4 for i in range(20)]).holds is True
    assert within_budget(CPU, [0.05 + i / 1e4 for i in range(20)]).holds is False
    assert within_budget(CPU, [0.01, 0.05] * 10).holds is None
    assert within_budget(CPU, [0.01] * 3).holds is None
    assert within_budget(CPU, []).holds is None


def test_median_interval_covers_as_often_as_promised() -> None:
    rng = np.random.default_rng(5)
    missed = 0
    for _ in range(2000):
        low, high = median_interval(rng.exponential(size=15).tolist(), 0.05)
        missed += not low <= np.log(2) <= high
    assert 0 < missed <= 0.05 * 2000
    assert median_interval([3, 1, 2, 5, 4, 9, 8, 7, 6, 10], 0.05) == (2, 9)


def test_overheads() -> None:
    assert overheads([Pair(100, 103), Pair(200, 200)]) == pytest.approx((0.03, 0))

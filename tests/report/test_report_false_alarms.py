# SPDX-License-Identifier: GPL-2.0
"""Measuring false alarms: what is counted, and what is kept."""

import pytest

from damon_tests.ports import UsageError
from damon_tests.report.false_alarms import Tally, measure


def told(verdict: str) -> dict[str, str]:
    return {"id": f"test_{verdict}", "verdict": verdict, "reason": "why"}


def test_skips_are_no_executions() -> None:
    tally = Tally()
    assert not tally.add(1, [told("PASS"), told("SKIP"), told("XFAIL")])
    assert (tally.executions, tally.alarms, tally.errors) == (2, [], [])


@pytest.mark.parametrize("verdict", ["FAIL", "INCONCLUSIVE", "XPASS"])
def test_accusations_are_alarms_and_kept(verdict: str) -> None:
    tally = Tally()
    assert tally.add(7, [told("PASS"), told(verdict)])
    assert tally.alarms == [(7, f"test_{verdict}", "why")]
    assert "1 false alarms" in tally.line()


def test_errors_are_kept_and_no_executions() -> None:
    tally = Tally()
    assert tally.add(7, [told("ERROR")])
    assert tally.executions == 0
    assert "1 errors" in tally.line()


def test_bound_is_that_of_clopper_and_pearson() -> None:
    tally = Tally(executions=5000)
    assert "7.38e-04" in tally.line()  # 1 - 0.025 ** (1 / 5000)


def test_rounds_until_enough(tmp_path) -> None:
    lines: list[str] = []
    path = "suites/ops/test_fvaddr.py::test_no_range_at_all"
    tally = measure("reference", 2, tmp_path, paths=[path], tell=lines.append)
    assert tally.executions >= 2
    assert len({line.split(",")[0] for line in lines}) == len(lines) >= 2  # a seed of its own for each
    assert not list(tmp_path.glob("seed-*"))  # nothing to look at


def test_no_runs_is_a_mistake(tmp_path) -> None:
    with pytest.raises(UsageError):
        measure("reference", 0, tmp_path, paths=[])

# SPDX-License-Identifier: GPL-2.0
"""Measuring false alarms: what is counted, and what is kept."""

import fcntl

import pytest

from damon_tests.commands.false_alarms import ROUNDS_FILE, Limits, Tally, measure, show_false_alarms
from damon_tests.ports import UsageError


def verdict_of_test(verdict: str) -> dict[str, str]:
    return {"id": f"test_{verdict}", "verdict": verdict, "reason": "why"}


def test_skips_are_no_executions() -> None:
    tally = Tally()
    assert not tally.add(1, [verdict_of_test("PASS"), verdict_of_test("SKIP"), verdict_of_test("XFAIL")])
    assert (tally.executions, tally.alarms, tally.errors) == (2, [], [])


@pytest.mark.parametrize("verdict", ["FAIL", "INCONCLUSIVE", "XPASS"])
def test_accusations_are_alarms_and_kept(verdict: str) -> None:
    tally = Tally()
    assert tally.add(7, [verdict_of_test("PASS"), verdict_of_test(verdict)])
    assert tally.alarms == [(7, f"test_{verdict}", "why")]
    assert "1 false alarm," in tally.line()


def test_errors_are_kept_and_no_executions() -> None:
    tally = Tally()
    assert tally.add(7, [verdict_of_test("ERROR")])
    assert tally.executions == 0
    assert "1 error" in tally.line()


def test_bound_is_that_of_clopper_and_pearson() -> None:
    tally = Tally(executions=5000)
    assert "7.38e-04" in tally.line()  # 1 - 0.025 ** (1 / 5000)


PATH = "suites/ops/test_fvaddr.py::test_target_without_ranges_is_not_reported"


def seeds(lines: list[str]) -> set[str]:
    return {line.split(",")[0] for line in lines if line.startswith("seed")}


def test_rounds_until_enough(tmp_path) -> None:
    lines: list[str] = []
    tally = measure("reference", Limits(runs=2), tmp_path, paths=[PATH], say=lines.append)
    assert tally.executions >= 2
    assert len(seeds(lines)) == len(lines) >= 2  # a seed of its own for each
    assert not list(tmp_path.glob("seed-*"))  # nothing to look at


def test_an_interrupted_measurement_goes_on(tmp_path) -> None:
    first: list[str] = []
    later: list[str] = []
    measure("reference", Limits(rounds=1), tmp_path, paths=[PATH], say=first.append)
    tally = measure("reference", Limits(rounds=2), tmp_path, paths=[PATH], say=later.append)
    assert tally.executions == 2
    assert len(seeds(first) | seeds(later)) == 2
    assert len((tmp_path / ROUNDS_FILE).read_text().splitlines()) == 3
    with pytest.raises(UsageError, match="another measurement"):
        measure("reference:7.1", Limits(rounds=3), tmp_path, paths=[PATH])


def test_measurement_ends_at_any_limit() -> None:
    assert not Limits(runs=5, rounds=3, seconds=60).reached(4, 2, 59)
    assert Limits(runs=5).reached(5, 0, 0)
    assert Limits(rounds=3).reached(0, 3, 0)
    assert Limits(seconds=60).reached(0, 0, 60)


@pytest.mark.parametrize("limits", [{"runs": 0}, {"rounds": -1}, {"seconds": 0}])
def test_no_runs_is_a_mistake(limits) -> None:
    with pytest.raises(UsageError):
        Limits(**limits)


def test_a_round_that_was_cut_short_is_made_again(tmp_path) -> None:
    kept = Limits(rounds=1)
    measure("reference", kept, tmp_path, paths=[PATH], say=lambda line: None)
    file = tmp_path / ROUNDS_FILE
    whole = file.read_text()
    file.write_text(whole + whole.splitlines()[1][:30])
    lines: list[str] = []
    tally = measure("reference", kept, tmp_path, paths=[PATH], say=lines.append)
    assert tally.executions == 1
    assert file.read_text() == whole


def test_one_measurement_at_a_time(tmp_path) -> None:
    with (tmp_path / ROUNDS_FILE).open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="is running"):
            measure("reference", Limits(rounds=1), tmp_path, paths=[PATH])


def test_it_ends_where_nothing_can_be_judged(tmp_path, capsys) -> None:
    """Probes came with 7.2: all rounds on 6.12 would skip, for ever."""
    path = "suites/monitoring/test_probes.py"
    assert show_false_alarms("reference:6.12", Limits(runs=5000), tmp_path, [path], 1, "full") == 5
    assert "no test was judged: " in capsys.readouterr().out

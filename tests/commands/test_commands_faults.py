# SPDX-License-Identifier: GPL-2.0
"""The kill matrix: what counts as a kill, and a real one of a test that must notice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from damon_tests.commands import faults
from damon_tests.commands.faults import Kill, select, summary
from damon_tests.ports import HarnessError, UsageError
from damon_tests.reference.faults.catalogue import catalogue

SUITE = """
from damon_tests.damon.params import DamonAttrs, DamonCtx
from damon_tests.scenario.invariants import invariants

def test_ages(experiment, expect):
    expect.add(invariants(experiment("hot_cold", DamonCtx(attrs=DamonAttrs()), seconds=1).observe()))
"""


def test_selection_is_by_name_and_area() -> None:
    known = catalogue()
    assert [f.name for f in select([], [])] == list(known)
    assert {f.area for f in select([], ["ops"])} == {"ops"}
    assert [f.name for f in select(["split_never"], [])] == ["split_never"]


@pytest.mark.parametrize(("names", "areas"), [(["nonsense"], []), ([], ["nonsense"])])
def test_unknown_names_are_a_sentence(names: list[str], areas: list[str]) -> None:
    with pytest.raises(UsageError, match="nonsense"):
        select(names, areas)


def test_summary_counts_only_kills() -> None:
    kills = [
        Kill("a", "core", ("t1", "t2")),
        Kill("b", "core", (), (("t1", "ERROR"),)),
        Kill("c", "ops", ("t1",)),
    ]
    text = "\n".join(summary(kills))
    assert "1 of 2 killed (50%)" in text
    assert "2 of 3 killed (67%)" in text
    assert "survive: b" in text
    assert text.index("t1") < text.index("t2")


def test_real_kill_and_real_survivor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = tmp_path / "test_it.py"
    suite.write_text(SUITE)
    names = ["age_always_reset", "pause_ignored"]
    code = faults.run_kill_matrix(names, [], [str(suite)], output=tmp_path / "out")
    assert code == 1
    out = capsys.readouterr().out
    assert "age_always_reset: killed by" in out
    assert "pause_ignored: SURVIVES" in out
    rows = {row["fault"]: row for row in json.loads((tmp_path / "out" / "kill.json").read_text())["faults"]}
    assert len(rows["age_always_reset"]["killers"]) == 1
    assert rows["pause_ignored"]["killers"] == []


def test_suite_that_fails_anyway_says_nothing(tmp_path: Path) -> None:
    suite = tmp_path / "test_it.py"
    suite.write_text("def test(expect):\n    assert 1 == 2\n")
    with pytest.raises(HarnessError, match="correct reference does not pass"):
        faults.run_kill_matrix(["split_never"], [], [str(suite)], output=tmp_path / "out")


def test_a_faults_run_ends_with_its_first_killer(tmp_path: Path) -> None:
    """Three tests that all notice: only one is asked, the one that noticed before others."""
    function = SUITE.partition("def ")[2]
    suite = tmp_path / "test_it.py"
    suite.write_text(SUITE + "".join(f"\ndef {function.replace('ages', name)}" for name in ("more", "most")))
    names = ["age_always_reset", "age_counted_twice"]
    faults.run_kill_matrix(names, [], [str(suite)], output=tmp_path / "out", first_killer=True)
    rows = json.loads((tmp_path / "out" / "kill.json").read_text())["faults"]
    assert [len(row["killers"]) for row in rows] == [1, 1]
    assert rows[0]["killers"] == rows[1]["killers"]

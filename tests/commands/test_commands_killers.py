# SPDX-License-Identifier: GPL-2.0
"""``damon-tests faults NAME`` names a test that notices the fault, and that record is true to the tree."""

from __future__ import annotations

import json

import pytest

from damon_tests import cli
from damon_tests.commands.killers import described, killers
from damon_tests.commands.suite_outlook import suite_requirements
from damon_tests.judge.features import ROW
from damon_tests.reference.faults.catalogue import catalogue


def test_faults_and_tests_on_record_exist() -> None:
    table = killers()
    tests = {ROW, *(test.id for test in suite_requirements())}
    assert not set(table) - set(catalogue())
    assert not [killer for killer in table.values() if killer.partition("[")[0] not in tests]
    assert len(table) >= 370


def test_named_fault_prints_who_notices_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["faults", "quota_charged_twice"]) == 0
    out = capsys.readouterr().out
    killer = killers()["quota_charged_twice"]
    assert f"noticed   by {killer}\n" in out
    assert f"damon-tests run --fault quota_charged_twice '{killer}'" in out
    assert cli.main(["faults", "quota_charged_twice", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["killer"] == killer


def test_what_every_run_judges_is_shown_by_any_test() -> None:
    lines = list(described(catalogue()["tracepoints_missing"], ROW))
    assert "which every run judges" in lines[2]
    assert lines[3].endswith("damon-tests run --fault tracepoints_missing suites/monitoring/test_tree.py")


def test_fault_without_record_says_how_to_find_out() -> None:
    lines = list(described(catalogue()["quota_charged_twice"], None))
    assert "find out with: damon-tests faults quota_charged_twice --run" in lines[-1]

# SPDX-License-Identifier: GPL-2.0
"""The table of kinds of bugs: each has three faults or more, and a test of its own suites notices each."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from damon_tests.commands.fault_kinds import FaultKind, kinds, show_kinds
from damon_tests.reference.faults.catalogue import catalogue

SUITES = Path(__file__).resolve().parent.parent / "suites"
KINDS = kinds()


@pytest.mark.parametrize("row", KINDS, ids=lambda row: row.kind)
def test_each_kind_has_three_faults_that_its_suites_notice(row: FaultKind) -> None:
    assert len(row.killed_by) >= 3
    assert row.killed_by.keys() <= catalogue().keys()
    for fault, test in row.killed_by.items():
        assert test.removeprefix("suites/").startswith(row.suites), f"{fault}: {test or 'survives'}"
        file, _, function = test.partition("::")
        tree = ast.parse((SUITES.parent / file).read_text(encoding="utf-8"))
        names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert function.partition("[")[0] in names


def test_the_table_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert show_kinds() == 0
    out = capsys.readouterr().out
    assert "SURVIVES" not in out
    assert all(row.kind in out for row in KINDS)
    assert show_kinds(as_json=True) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(KINDS)

# SPDX-License-Identifier: GPL-2.0
"""Every bug of DAMON's past has a test, or says why not; FINDINGS.md says what the tables say."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from damon_tests.commands import findings
from damon_tests.damon import past_bugs
from damon_tests.damon.known_defects import the_table
from damon_tests.damon.past_bugs import PastBug
from damon_tests.ports import UsageError
from damon_tests.reference.faults.catalogue import catalogue
from damon_tests.report import model

ROOT = Path(__file__).resolve().parent.parent
BUGS = past_bugs.load()
IMITATED = [bug for bug in BUGS if bug.fault]


def functions(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_table_has_the_bugs_of_the_specification() -> None:
    specified = past_bugs.specified()
    assert len(specified) >= 49
    assert [bug.number for bug in BUGS] == sorted(specified)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_what_a_bug_names_exists(bug: PastBug) -> None:
    for test in bug.tests:
        file, _, function = test.partition("::")
        assert function in functions(ROOT / "suites" / file)
    assert not bug.fault or bug.fault in catalogue()
    assert not bug.defect or bug.defect in the_table()
    assert bool(bug.untested) == (not bug.tests or not bug.fault), "say why there is no test, or no fault"
    assert bug.tests or not bug.fault


def test_bugs_of_the_past_with_a_known_defect_share_its_test() -> None:
    """The test that the table names is marked with the defect."""
    for bug in BUGS:
        marked = [
            test
            for test in bug.tests
            if f'"{bug.defect}"' in (ROOT / "suites" / test.partition("::")[0]).read_text(encoding="utf-8")
        ]
        assert marked or not bug.defect, bug.name


@pytest.mark.long
@pytest.mark.parametrize("bug", IMITATED, ids=lambda bug: bug.name)
def test_fault_makes_the_test_fail(bug: PastBug, tmp_path: Path) -> None:
    """The reference with the bug fails the bug's tests, one at least; without it they pass."""
    tests = [f"suites/{test}" for test in bug.tests]
    command = [sys.executable, "-m", "damon_tests.cli", "run", "-q", f"--output={tmp_path / 'run'}"]
    done = subprocess.run(
        [*command, f"--fault={bug.fault}", *tests],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    assert model.load(tmp_path / "run")["counts"]["FAIL"] >= 1


def test_findings_are_up_to_date() -> None:
    text = "\n".join(findings.lines(the_table().values(), BUGS)) + "\n"
    written = (ROOT / "FINDINGS.md").read_text(encoding="utf-8")
    assert written == text, "run: damon-tests defects --findings > FINDINGS.md"


def test_findings_of_a_run_name_defects_and_failures(tmp_path: Path) -> None:
    run = {
        "tests": [
            {
                "id": "a",
                "backend": "debian:6.12",
                "verdict": "XFAIL",
                "reason": "known defect reclaim-inert: x = 0",
            },
            {"id": "b", "backend": "debian:6.12", "verdict": "FAIL", "reason": "3 * 2 | 5"},
            {"id": "c", "backend": "debian:6.12", "verdict": "PASS", "reason": ""},
        ],
        "counts": {"PASS": 1, "FAIL": 1, "XFAIL": 1},
        "provenance": {"kernel": {"release": "6.12.117-amd64"}},
    }
    text = "\n".join(findings.lines([], BUGS, [(tmp_path, run)]))
    assert "3 tests on 6.12.117-amd64: PASS 1, FAIL 1, XFAIL 1" in text
    assert "- known defect: reclaim-inert" in text
    assert "- FAIL: `b`: 3 \\* 2 \\| 5" in text


def test_malformed_table_is_refused(tmp_path: Path) -> None:
    for text in ("- {number: 2, name: b}\n- {number: 1, name: a}\n", "- {number: 1}\n", "- [", "- 5\n"):
        (tmp_path / "bugs.yaml").write_text(text)
        with pytest.raises(UsageError):
            past_bugs.load(tmp_path / "bugs.yaml")

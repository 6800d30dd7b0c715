# SPDX-License-Identifier: GPL-2.0
"""A run as KTAP, read back by our own reader."""

from __future__ import annotations

from pathlib import Path

import sample_run

from damon_tests.kernel import ktap as reader
from damon_tests.report import ktap, model

EXPECTED = {
    "PASS": "pass",
    "FAIL": "fail",
    "XFAIL": "xfail",
    "XPASS": "fail",
    "SKIP": "skip",
    "INCONCLUSIVE": "fail",
    "ERROR": "fail",
}


def test_each_verdict_is_one_line(tmp_path: Path) -> None:
    sample_run.write(tmp_path)
    run = model.load(tmp_path)
    log = reader.read(ktap.lines(run))
    assert log.problems == ()
    assert log.noise == ()
    assert [test.name for test in log.tests] == [test["id"] for test in run["tests"]]
    assert [test.outcome for test in log.tests] == [EXPECTED[test["verdict"]] for test in run["tests"]]
    failed = next(test for test in log.tests if test.outcome == "fail")
    assert any(text.startswith("because ") for text in failed.diagnostics)


def test_skips_fail_under_require(tmp_path: Path) -> None:
    sample_run.write(tmp_path)
    run = {**model.load(tmp_path), "require": True}
    assert not [test for test in reader.read(ktap.lines(run)).tests if test.outcome == "skip"]


def test_run_without_tests_is_skipped(tmp_path: Path) -> None:
    run = {"tests": [], "require": False, "provenance": {}, "kernels": []}
    assert list(ktap.lines(run))[1].startswith("1..0 # SKIP")

# SPDX-License-Identifier: GPL-2.0
"""The page's news: what is new against a gate's baseline, and what DAMON cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from damon_tests.judge.verdict import Check, Measurement, Verdict
from damon_tests.report import model
from damon_tests.report.events import RunLog

pytest.importorskip("jinja2")

from damon_tests.report import html

TEST = "suites/overhead/test_budgets.py::test_operation[check]"


def made(directory: Path) -> dict[str, Any]:
    cost = Measurement("instructions per check", 2171, "instructions", (2170.0, 2172.0))
    with RunLog(directory) as log:
        log.run_started({})
        log.test_started(TEST, "debian:7.3", "7.3")
        check = Check("budget", cost, "<= 2,300", "measured on 7.3, and 6 % more", True)
        log.check(TEST, check)
        log.test_finished(
            TEST,
            "debian:7.3",
            "7.3",
            Verdict.PASS,
            "",
            1.0,
        )
        log.run_finished()
    return model.load(directory)


def test_costs_of_passing_tests_are_a_table(tmp_path: Path) -> None:
    page = html.page(made(tmp_path), tmp_path)
    table = page.partition('id="costs"')[2].partition("</table>")[0]
    assert all(words in table for words in ("instructions per check", "2,171 instructions", "&lt;= 2,300"))
    assert 'id="new"' not in page


def test_what_is_new_against_the_baseline_is_on_the_page(tmp_path: Path) -> None:
    run = made(tmp_path)
    change = {
        "test": "suites/a.py::t",
        "backend": "debian:7.3",
        "before": "PASS",
        "after": "FAIL",
        "reason": "too <hot>",
    }
    (tmp_path / html.GATE_JSON).write_text(json.dumps({"changes": [change]}))
    page = html.page(run, tmp_path)
    table = page.partition('id="new"')[2].partition("</table>")[0]
    assert all(words in table for words in ("PASS", "FAIL", "suites/a.py::t", "too &lt;hot&gt;"))
    (tmp_path / html.GATE_JSON).write_text("damaged")
    assert 'id="new"' not in html.page(run, tmp_path)


@pytest.mark.slow
def test_page_of_many_tests_stays_small(tmp_path: Path) -> None:
    """2,000 tests in 4 MiB, which is 10,000 in 20 MiB."""
    run = made(tmp_path)
    (test,) = run["tests"]
    run["tests"] = [{**test, "id": f"suites/overhead/test_budgets.py::test_{i}"} for i in range(2000)]
    run["counts"]["PASS"] = 2000
    assert len(html.page(run, tmp_path).encode()) < 4 << 20

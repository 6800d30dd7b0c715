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
@pytest.mark.slow
def test_page_of_many_tests_stays_small(tmp_path: Path) -> None:
    """10,000 tests as a run on a kernel has them, 200 of them failed with pictures: below 20 MB."""
    run = made(tmp_path)
    (passed,) = run["tests"]
    (tmp_path / "heatmap.png").write_bytes(b"\x89PNG" + bytes(100_000))
    (tmp_path / "recording.npz").touch()
    files = [_file("picture", "heatmap.png"), _file("recording", "recording.npz")]
    run["tests"] = [
        {
            **passed,
            "id": f"suites/monitoring/test_nr_regions.py::test_number_of_regions_stays_within_limits[{i}]",
            "checks": passed["checks"] * 20,
            "artifacts": files,
            "verdict": "PASS" if i % 50 else "FAIL",
        }
        for i in range(10_000)
    ]
    page = html.page(run, tmp_path)
    assert len(page.encode()) < 20_000_000
    assert page.count('<details class="test"') == 10_000
    assert 30 < page.count('src="data:image/png') < 200
    assert "pictures and logs are files beside this page" in page
    assert page.count("heatmap.png</code></a>") == 200  # links remain
    assert 'id="costs"' in page


def test_last_picture_of_each_failure_comes_before_earlier_ones(tmp_path: Path) -> None:
    """When there is not room for all, no failure is without a picture because another has five."""
    run = made(tmp_path)
    (test,) = run["tests"]
    files = []
    for number in range(1, 6):
        (tmp_path / f"{number}.png").write_bytes(b"\x89PNG" + bytes(3 << 20))
        files.append(_file("picture", f"{number}.png"))
    run["tests"] = [
        {**test, "id": name, "verdict": "FAIL", "artifacts": files} for name in ("a.py::t", "b.py::t")
    ]
    page = html.page(run, tmp_path)
    assert page.count("5.png</figcaption>") == 2
    assert page.count('src="data:image/png') == 4  # of 4 MiB each, as text


def _file(kind: str, path: str) -> dict[str, str]:
    return {"kind": kind, "title": "", "path": path}

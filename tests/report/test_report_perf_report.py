# SPDX-License-Identifier: GPL-2.0
"""Reports of damon-tests/perf: read, summed up beside our figures, and refused with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from damon_tests.ports import UsageError
from damon_tests.report import perf_report

REPORT = """\
runtime                 orig     rec      (overhead) prcl     (overhead)
parsec3/blackscholes    100.000  101.000  [1.00]     110.000  [10.00]
splash2x/fft            50.000   51.000   [2.00]     -100.000 [0.00]
silo/ycsb-a             10.000   10.300   [3.00]     10.100   [1.00]
total                   160.000  162.300  [1.44]     20.100   [-87.44]
average                 53.333   54.100   [1.44]     6.700    [-87.44]

rss.avg                 orig     rec      (overhead) prcl     (overhead)
parsec3/blackscholes    1000.000 1000.000 [0.00]     250.000  [-75.00]
silo/ycsb-a             0.000    0.000    [0.00]     10.000   [0.00]
""".replace("[", "(").replace("]", ")")
"""Overheads are in parentheses, which in this tree would cite the specification."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "report.txt"
    file.write_text(REPORT)
    return file


def test_changes_are_those_of_each_workload(path: Path) -> None:
    report = perf_report.read(path)
    assert report.configurations == ("orig", "rec", "prcl")
    assert report.changes("runtime", "rec") == pytest.approx([0.01, 0.02, 0.03])


def test_failed_runs_and_totals_are_left_out(path: Path) -> None:
    assert perf_report.read(path).changes("runtime", "prcl") == pytest.approx([0.10, 0.01])


def test_workloads_without_a_value_before_have_no_change(path: Path) -> None:
    assert perf_report.read(path).changes("rss.avg", "prcl") == [-0.75]


def test_table_has_the_medians(path: Path) -> None:
    lines = perf_report.table(perf_report.read(path)).splitlines()
    assert lines[0].startswith("| published, to orig | runtime | rss.avg |")
    assert lines[2] == "| rec | +2.00% (3) | +0.00% (1) | – | – | – |"
    assert lines[3] == "| prcl | +5.50% (2) | -75.00% (1) | – | – | – |"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ":1: not a report"),
        ("some text\nof anything\n", ":1: not a report"),
        (REPORT.replace("101.000", "fast"), ":2: .* no number"),
        (REPORT.replace(" -100.000 ", " "), ":3: 2 values instead of 3"),
        (
            REPORT.replace("1000.000", ""),
            ":9: 1 values instead of 3",
        ),
    ],
)
def test_other_files_are_refused_with_their_line(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "report.txt"
    file.write_text(text)
    with pytest.raises(UsageError, match=rf"report\.txt{words}"):
        perf_report.read(file)

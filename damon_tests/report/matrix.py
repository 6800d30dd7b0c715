# SPDX-License-Identifier: GPL-2.0
"""A run as a table: what DAMON has to do, by area, against each DAMON that was tested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from damon_tests.report.wording import VERDICTS

OUTSIDE = "other tests"
"""The area of tests that are not of the suites."""


@dataclass(frozen=True)
class Cell:
    """The tests of one capability on one DAMON: how many have each verdict, and how long they took."""

    counts: Mapping[str, int]
    seconds: float

    @property
    def verdict(self) -> str:
        """The worst verdict of its tests."""
        return next(v for v in VERDICTS if self.counts.get(v))

    @property
    def total(self) -> int:
        return sum(self.counts.values())


@dataclass(frozen=True)
class Row:
    """``file``: the tests' file; ``cells``: by the DAMON's name, none for one that was not tested."""

    area: str
    capability: str
    file: str
    cells: Mapping[str, Cell]


@dataclass(frozen=True)
class Matrix:
    backends: Sequence[str]
    rows: Sequence[Row]


def area(test_id: str) -> str:
    """Return the suite that a test is of: "monitoring" of suites/monitoring/test_ageing.py::test_x."""
    parts = _file(test_id).parts
    return parts[1] if len(parts) > 2 and parts[0] == "suites" else OUTSIDE


def capability(test_id: str) -> str:
    """Return what a test's file is about: "ageing" of suites/monitoring/test_ageing.py::test_x."""
    return _file(test_id).stem.removeprefix("test_").replace("_", " ")


def matrix(run: Mapping[str, Any]) -> Matrix:
    """Count a run's tests by capability and DAMON; rows are in the order of area and name."""
    tests: dict[tuple[str, str, str], dict[str, list[Mapping[str, Any]]]] = {}
    for test in run["tests"]:
        file = str(_file(test["id"]))
        row = tests.setdefault((area(file), capability(file), file), {})
        row.setdefault(test["backend"], []).append(test)
    backends = sorted({test["backend"] for test in run["tests"]})
    rows = [
        Row(name, what, file, {backend: _cell(members) for backend, members in cells.items()})
        for (name, what, file), cells in sorted(
            tests.items(), key=lambda item: (item[0][0] == OUTSIDE, item[0])
        )
    ]
    return Matrix(backends, rows)


def _cell(tests: Sequence[Mapping[str, Any]]) -> Cell:
    verdicts = [test["verdict"] for test in tests]
    counts = {v: verdicts.count(v) for v in VERDICTS if v in verdicts}
    return Cell(counts, sum(test["duration_s"] for test in tests))


def _file(test_id: str) -> PurePosixPath:
    return PurePosixPath(test_id.partition("::")[0])

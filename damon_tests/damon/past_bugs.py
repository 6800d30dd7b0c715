# SPDX-License-Identifier: GPL-2.0
"""The table of DAMON's bugs of the past (``suites/regressions/bugs.yaml``): which test reproduces each.

What each of them does is in the specification's section 8.3, under the same number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import yaml

from damon_tests import bundle
from damon_tests.ports import UsageError

FILE = "regressions/bugs.yaml"
_SPECIFICATION = "specification/08-versions.md"


@dataclass(frozen=True)
class PastBug:
    """A row of the table.

    ``tests``: ids below ``suites/``. ``fault``: of the reference, with which they fail; ``defect``: key of
    the known defect, where kernels under test have the bug; both may be empty. ``untested``: why no test,
    or no fault, shows it.
    """

    number: int
    name: str
    tests: tuple[str, ...] = ()
    fault: str = ""
    defect: str = ""
    untested: str = ""


def load(path: Path | None = None) -> tuple[PastBug, ...]:
    """Return the rows of the table, by number. Raises UsageError for a malformed one."""
    path = path or bundle.suites_dir() / FILE
    try:
        rows = yaml.safe_load(path.read_text(encoding="utf-8"))
        bugs = tuple(PastBug(**{**row, "tests": tuple(row.get("tests", ()))}) for row in rows)
    except (OSError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: cannot be read ({error})") from None
    numbers = [bug.number for bug in bugs]
    if numbers != sorted(set(numbers)):
        raise UsageError(f"{path}: numbers are not ascending")
    return bugs


def specified() -> dict[int, tuple[str, str]]:
    """Return {number: (what goes wrong, where it is fixed)} of the specification's section 8.3."""
    text = resources.files("damon_tests.reference").joinpath(_SPECIFICATION).read_text(encoding="utf-8")
    section = text.partition("\n## 8.3 ")[2].partition("\n## 8.4 ")[0]
    rows = re.findall(r"^\| (\d+) \| (.*?) \| (.*?) \|", section, re.MULTILINE)
    return {int(number): (what, fixed.replace("**", "")) for number, what, fixed in rows}

# SPDX-License-Identifier: GPL-2.0
"""The table of known, still open defects of DAMON (``suites/known_defects.yaml``): which kernels have each
defect, and how it makes tests fail.

A defect *predicts* which checks fail and how far, what the kernel complains about, the error with which DAMON
refuses a valid request, or which command hangs. ``judge.conclude`` turns only a predicted failure into XFAIL;
any other failure is a FAIL. ``known_defects.schema.json`` beside this module defines the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from damon_tests import bundle
from damon_tests.damon.features import LEVELS
from damon_tests.ports import UsageError
from damon_tests.ports.numbers import number
from damon_tests.ports.word import word_bits

FILE = "known_defects.yaml"


@dataclass(frozen=True)
class Releases:
    """The stable releases of a series that have a defect: from ``since`` on (empty: from the first release),
    and before ``fixed`` (empty: up to the last)."""

    series: str
    since: str = ""
    fixed: str = ""

    def has(self, release: str) -> bool:
        """Return whether this release of the series ("6.12.117+deb13-cloud-amd64"; empty: any) has it."""
        number = numbers(release)
        if number[:2] != numbers(self.series):
            # Stable series get fixes from mainline, which is what is newer than the last known series.
            in_mainline = bool(self.fixed) and number[:2] > numbers(LEVELS[-1])
            return not self.since and not in_mainline
        return number >= numbers(self.since) and (not self.fixed or number < numbers(self.fixed))

    def __str__(self) -> str:
        since, fixed = (
            (f" since {self.since}" if self.since else ""),
            (f" until {self.fixed}" if self.fixed else ""),
        )
        return f"{self.series}{since}{fixed}"


@dataclass(frozen=True)
class Predicted:
    """A failure that a defect predicts: one of ``check``, ``complaint``, ``refusal`` and ``hang`` is set.

    Attributes:
        check: name of the measurement of the checks that fail; "*" stands for any text.
        at_least, at_most: bounds of the measured value, for ``check``.
        detail: regular expression that must match the check's whole detail, for ``check``.
        complaint: regular expression for the title of the kernel's complaint.
        refusal: errno with which DAMON refuses a valid request ("EBUSY").
        file: end of the path of the file that refuses, for ``refusal``; empty: any.
        hang: regular expression for the message about the command that never ends.
        tests: names of the only test functions that fail so; empty: every marked test.
    """

    check: str = ""
    at_least: float = float("-inf")
    at_most: float = float("inf")
    detail: str = ""
    complaint: str = ""
    refusal: str = ""
    file: str = ""
    hang: str = ""
    tests: tuple[str, ...] = ()

    def allows_check(self, name: str, value: float, detail: str) -> bool:
        """Return whether this predicts a failed check of this name, value and detail."""
        named = bool(self.check) and fnmatchcase(name, self.check)
        return (
            named
            and self.at_least <= value <= self.at_most
            and bool(re.fullmatch(self.detail or ".*", detail))
        )

    def allows_complaint(self, title: str) -> bool:
        return bool(self.complaint) and re.search(self.complaint, title) is not None

    def allows_refusal(self, errno_name: str, path: str) -> bool:
        return bool(self.refusal) and self.refusal == errno_name and path.endswith(self.file)

    def allows_hang(self, text: str) -> bool:
        return bool(self.hang) and re.search(self.hang, text) is not None

    def concerns(self, test: str) -> bool:
        """Return whether the test function of this name fails so; with an empty name, whether any does."""
        return not self.tests or not test or test in self.tests

    def __str__(self) -> str:
        if self.check:
            return f"the check {self.check!r} fails{self._values()}"
        if self.complaint:
            return f"the kernel complains: {self.complaint}"
        return (
            f"{self.file or 'a request'} is refused: {self.refusal}"
            if self.refusal
            else f"hangs: {self.hang}"
        )

    def _values(self) -> str:
        """Return ", measuring 3" or ", measuring at least 3 and at most 5"; "" if any value is predicted."""
        if self.at_least == self.at_most:
            return f", measuring {number(self.at_least)}"
        low = f"at least {number(self.at_least)}" if self.at_least > float("-inf") else ""
        high = f"at most {number(self.at_most)}" if self.at_most < float("inf") else ""
        both = " and ".join(filter(None, (low, high)))
        return f", measuring {both}" if both else ""


@dataclass(frozen=True)
class KnownDefect:
    """An entry of the table.

    ``does``: what DAMON does wrong. ``evidence``: where that is shown. ``upstream``: the commit that fixes or
    introduces it, empty when unknown. ``kernels_only``: the reference, which models what a series intends,
    does not have it. ``word_bits``: only kernels with such an ``unsigned long`` have it; None: all.
    """

    key: str
    title: str
    does: str
    releases: tuple[Releases, ...]
    evidence: str
    kernels_only: bool
    predicts: tuple[Predicted, ...]
    upstream: str = ""
    word_bits: int | None = None

    def applies(self, level: str, release: str) -> bool:
        """Return whether the machine under test has it, with a kernel of this level and release."""
        return self.word_bits in (None, word_bits()) and self.is_in(level, release)

    def is_in(self, level: str, release: str) -> bool:
        """Return whether a kernel of this level and release (``uname -r``, empty without kernel) has it, on
        some machine."""
        return any(r.series == level and r.has(release) for r in self.releases)

    def kernels(self) -> list[str]:
        """Return the releases that have it, in words; the last one names the machines."""
        releases = [str(release) for release in self.releases]
        if self.word_bits:
            releases[-1] += f" (all on {self.word_bits}-bit machines only)"
        return releases

    def predictions(self, test: str = "") -> tuple[Predicted, ...]:
        """Return the failures that the defect predicts for the test function of this name."""
        return tuple(p for p in self.predicts if p.concerns(test))

    def __str__(self) -> str:
        return f"{self.key} ({self.title})"


Table = Mapping[str, KnownDefect]


def table_for(test_file: Path) -> Table:
    """Return the defects that tests of a file may name: those of the nearest ``known_defects.yaml`` above it,
    else those of this project's suites.

    Raises UsageError for a malformed table.
    """
    above = (directory / FILE for directory in test_file.absolute().parents)
    return load(next((path for path in above if path.is_file()), bundle.suites_dir() / FILE))


def the_table() -> Table:
    """Return the defects of this project's suites."""
    return load(bundle.suites_dir() / FILE)


@cache
def load(path: Path) -> Table:
    """Read a table. Raises UsageError "file:line: what is wrong" if it is malformed."""
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, yaml.SafeLoader)
        rows = yaml.safe_load(text) or []
    except (OSError, UnicodeError) as error:
        raise UsageError(f"{path}: cannot be read ({error})") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UsageError(f"{path}:{line}: {error.problem}") from None
    # Each process of a run imports this module, few come here: jsonschema takes a while to import.
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    wrong = best_match(Draft202012Validator(schema()).iter_errors(rows))
    if wrong is not None:
        where = list(wrong.absolute_path)
        named = ".".join(str(part) for part in where) or "the file"
        raise UsageError(f"{path}:{_line(node, where)}: {named}: {wrong.message[:300]}")
    _check_patterns(path, node, rows)
    table: dict[str, KnownDefect] = {}
    for index, row in enumerate(rows):
        if row["key"] in table:
            raise UsageError(
                f"{path}:{_line(node, [index])}: the key {row['key']!r} is there twice; keep one"
            )
        table[row["key"]] = _defect(row)
    return table


def schema() -> dict[str, Any]:
    """Return the JSON schema of the file."""
    text = resources.files(__package__).joinpath("known_defects.schema.json").read_text(encoding="utf-8")
    result: dict[str, Any] = json.loads(text)
    return result


def _check_patterns(path: Path, node: yaml.Node | None, rows: Sequence[Any]) -> None:
    """Raise UsageError for a malformed regular expression."""
    for index, row in enumerate(rows):
        for position, predicted in enumerate(row["predicts"]):
            for name in ("complaint", "detail", "hang"):
                try:
                    re.compile(predicted.get(name, ""))
                except re.error as error:
                    line = _line(node, [index, "predicts", position, name])
                    raise UsageError(f"{path}:{line}: {name} is no regular expression: {error}") from None


def _defect(row: Mapping[str, Any]) -> KnownDefect:
    plain = {name: row[name] for name in ("key", "title", "does", "evidence", "kernels_only")}
    return KnownDefect(
        **plain,
        releases=tuple(Releases(**r) for r in row["releases"]),
        predicts=tuple(Predicted(**{**p, "tests": tuple(p.get("tests", ()))}) for p in row["predicts"]),
        upstream=row.get("upstream", ""),
        word_bits=row.get("word_bits"),
    )


def _line(node: yaml.Node | None, where: Iterable[int | str]) -> int:
    """Return the line of the value at a path of keys and positions, or of the nearest value around it."""
    for part in where:
        below: yaml.Node | None = None
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            below = node.value[part]
        elif isinstance(node, yaml.MappingNode):
            below = next((value for key, value in node.value if key.value == part), None)
        if below is None:
            break
        node = below
    return node.start_mark.line + 1 if node is not None else 1


def numbers(release: str) -> tuple[int, ...]:
    """Return (6, 12, 117) for "6.12.117+deb13-cloud-amd64"; empty if it does not begin with a number."""
    match = re.match(r"\d+(\.\d+)*", release)
    return tuple(int(number) for number in match[0].split(".")) if match else ()

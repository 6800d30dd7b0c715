# SPDX-License-Identifier: GPL-2.0
"""Read KTAP: what the kernel's own tests (KUnit, kselftest) print.

The format is Documentation/dev-tools/ktap.rst of the kernel, with TAP 13 and 14 as kselftest and old KUnit
print them. A log may have kernel messages in between, timestamps, tests nested by indentation (KUnit)
or behind ``#`` (kselftest), and it may end anywhere. Only a reported pass counts as a pass: a test that the
plan promises and that never reports is ``missing``, a group with a failed subtest fails whatever its own line
says, and a group whose subtests were all skipped is skipped.

Lines have optional parts at both ends, which a regular expression states more clearly than ``parse``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

Outcome = Literal["pass", "fail", "skip", "xfail", "timeout", "missing"]

_PREFIX = re.compile(r"^(?:<\d+>)?(?:\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ?)?")
_VERSION = re.compile(r"^K?TAP version \d+\s*$")
_PLAN = re.compile(r"^1\.\.(?P<count>\d+)(?:\s*# SKIP\s*(?P<skip>.*))?\s*$", re.IGNORECASE)
_RESULT = re.compile(
    r"^(?P<word>ok|not ok) (?P<number>\d+)(?: -)?(?P<name>(?: (?!# ).*?)?)"
    r"(?:\s*# (?P<directive>SKIP|TODO|XFAIL|TIMEOUT|ERROR|FAIL|PASS)\b:?\s*(?P<reason>.*)"
    r"| # (?P<comment>.*))?$",
    re.IGNORECASE,
)
_SUBTEST = re.compile(r"^# Subtest: (?P<name>.*)$")
_BAIL_OUT = re.compile(r"^Bail out!\s*(?P<reason>.*)$", re.IGNORECASE)

_OUTCOMES: dict[str, Outcome] = {"skip": "skip", "todo": "xfail", "xfail": "xfail", "timeout": "timeout"}


@dataclass(frozen=True)
class KtapTest:
    """A test, or a group with ``subtests``.

    ``reason``: of a skip or a failure. ``diagnostics``: its lines behind ``#``.
    """

    name: str
    outcome: Outcome
    reason: str = ""
    diagnostics: tuple[str, ...] = ()
    subtests: tuple[KtapTest, ...] = ()

    def leaves(self, prefix: str = "") -> Iterator[tuple[str, KtapTest]]:
        """Yield every test without subtests, named by its path ("damon.damos_test_commit"); and a group as
        well if it went wrong by itself."""
        path = f"{prefix}.{self.name}" if prefix else self.name
        if not self.subtests or self.reason:
            yield path, self
        for test in self.subtests:
            yield from test.leaves(path)


@dataclass(frozen=True)
class KtapLog:
    """A parsed log. ``problems``: where the log contradicts itself or ends early, a sentence each.

    ``noise``: lines that are not KTAP.
    """

    tests: tuple[KtapTest, ...]
    problems: tuple[str, ...] = ()
    noise: tuple[str, ...] = ()

    def leaves(self) -> list[tuple[str, KtapTest]]:
        """Return every test without subtests with its path, in order."""
        return [leaf for test in self.tests for leaf in test.leaves()]


@dataclass
class _Level:
    """Tests of the same indentation, while their lines are read."""

    indent: int
    name: str = ""
    planned: int | None = None
    plan_skip: str | None = None
    tests: list[KtapTest] = field(default_factory=list)
    diagnostics: list[str] = field(default_factory=list)


def read(lines: Iterable[str]) -> KtapLog:
    """Read a log. Never raises: errors in the log are listed in ``problems``."""
    reader = _Reader()
    for line in lines:
        reader.take(line.rstrip("\r\n"))
    return reader.end()


class _Reader:
    def __init__(self) -> None:
        self._levels: list[_Level] = []
        self._hashed = False  # kselftest's runner puts "# " before what its tests print
        self._problems: list[str] = []
        self._noise: list[str] = []
        self._bailed_out = False

    def take(self, line: str) -> None:
        text = _PREFIX.sub("", line, count=1)
        body = text.lstrip(" ")
        indent = len(text) - len(body)
        inner = body.removeprefix("# ").lstrip(" ") if body.startswith("# ") else ""
        if inner and (
            _VERSION.match(inner) or (self._hashed and (_PLAN.match(inner) or _RESULT.match(inner)))
        ):
            self._hashed = True
            indent, body = indent + 2 + len(body.removeprefix("# ")) - len(inner), inner
        if not self._take(body, indent):
            self._noise.append(line)

    def _take(self, body: str, indent: int) -> bool:
        """Parse a line; return whether it is KTAP."""
        if _VERSION.match(body):
            self._open(indent)
        elif plan := _PLAN.match(body):
            level = self._level(indent)
            level.planned, level.plan_skip = int(plan["count"]), plan["skip"]
        elif result := _RESULT.match(body):
            self._result(result, indent)
        elif subtest := _SUBTEST.match(body):
            self._level(indent).name = subtest["name"].strip()
        elif bail_out := _BAIL_OUT.match(body):
            self._bailed_out = True
            self._problems.append(f"the tests gave up: {bail_out['reason'] or 'no reason given'}")
        elif body.startswith("#") and self._levels:
            self._levels[-1].diagnostics.append(body.lstrip("# "))
        else:
            return False
        return True

    def _open(self, indent: int) -> None:
        """Handle a version line: tests begin at this indentation."""
        if any(level.indent == indent for level in self._levels) and indent:
            self._close_above(indent - 1)
        self._level(indent)

    def _level(self, indent: int) -> _Level:
        """Return the level of an indentation; make it if needed."""
        for level in self._levels:
            if level.indent == indent:
                return level
        level = _Level(indent)
        self._levels.append(level)
        self._levels.sort(key=lambda other: other.indent)
        return level

    def _close_above(self, indent: int) -> None:
        """Add the groups deeper than ``indent`` whose own result is missing."""
        for level in self._pop_above(indent):
            group = _group(level.name or "unnamed group", "missing", "its result is missing", level)
            self._level_below(level.indent).tests.append(group)
            self._problems.append(f"{group.name}: the log ends inside this group")

    def _pop_above(self, indent: int) -> list[_Level]:
        """Remove the levels deeper than ``indent`` from the stack; return them, deepest first."""
        deeper = [level for level in reversed(self._levels) if level.indent > indent]
        self._levels = [level for level in self._levels if level.indent <= indent]
        for level in deeper:
            self._check_plan(level)
        return deeper

    def _level_below(self, indent: int) -> _Level:
        below = [level for level in self._levels if level.indent < indent]
        return below[-1] if below else self._level(0)

    def _result(self, result: re.Match[str], indent: int) -> None:
        deeper = self._pop_above(indent)
        # Levels in between never reported; everything deeper belongs to this result.
        inner = _Level(indent + 1)
        for level in reversed(deeper):
            inner.tests += level.tests
            inner.diagnostics += level.diagnostics
            inner.plan_skip = inner.plan_skip or level.plan_skip
        level = self._level(indent)
        number, name = int(result["number"]), result["name"].strip()
        if number != len(level.tests) + 1:
            self._problems.append(
                f"{name or number}: number {number}, but {len(level.tests) + 1} was expected"
            )
        diagnostics, level.diagnostics = level.diagnostics, []
        outcome, reason = _outcome(result)
        test = _group(name or f"test {number}", outcome, reason, inner)
        level.tests.append(_with(test, tuple(diagnostics)))

    def _check_plan(self, level: _Level) -> None:
        """Add planned tests that never reported as missing."""
        if level.planned is None:
            return
        left = level.planned - len(level.tests)
        where = level.name or "the log"
        if left:
            self._problems.append(f"{where}: {level.planned} tests planned, {len(level.tests)} reported")
        level.tests += [
            KtapTest(f"test {len(level.tests) + 1 + i}", "missing", "planned, but it never reported")
            for i in range(max(0, left))
        ]

    def end(self) -> KtapLog:
        self._close_above(min((level.indent for level in self._levels), default=0))
        tests: list[KtapTest] = []
        for level in self._levels:
            self._check_plan(level)
            if level.planned is None and level.tests:
                self._problems.append("the log has no plan: tests that never reported cannot be noticed")
            tests += level.tests
        if not tests:
            self._problems.append("the log has no test")
        return KtapLog(tuple(tests), tuple(dict.fromkeys(self._problems)), tuple(self._noise))


def _outcome(result: re.Match[str]) -> tuple[Outcome, str]:
    directive = (result["directive"] or "").lower()
    reason = (result["reason"] or result["comment"] or "").strip()
    if directive in _OUTCOMES:
        return _OUTCOMES[directive], reason
    if directive in ("fail", "error"):
        return "fail", reason
    return ("pass" if result["word"].lower() == "ok" else "fail"), reason


def _group(name: str, outcome: Outcome, reason: str, level: _Level) -> KtapTest:
    """Return the group's result, corrected by the results of its subtests."""
    subtests = tuple(level.tests)
    bad = [test.name for test in subtests if test.outcome in ("fail", "timeout", "missing")]
    if outcome == "pass" and bad:
        outcome, reason = "fail", f"reported ok, although {', '.join(bad)} did not pass"
    elif outcome == "pass" and subtests and all(test.outcome == "skip" for test in subtests):
        outcome, reason = "skip", "all of its subtests were skipped"
    elif outcome == "pass" and level.plan_skip is not None:
        outcome, reason = "skip", level.plan_skip
    return KtapTest(name, outcome, reason, tuple(level.diagnostics), subtests)


def _with(test: KtapTest, diagnostics: tuple[str, ...]) -> KtapTest:
    return KtapTest(test.name, test.outcome, test.reason, diagnostics + test.diagnostics, test.subtests)

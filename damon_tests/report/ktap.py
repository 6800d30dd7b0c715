# SPDX-License-Identifier: GPL-2.0
"""A run as KTAP 1, for kselftest and whatever reads the kernel's test results; or as TAP 14.

One line a test. All that stops a gate is ``not ok``: FAIL, XPASS, INCONCLUSIVE, ERROR, SKIP under --require.
XFAIL is ``ok … # XFAIL``, SKIP is ``ok … # SKIP`` (Documentation/dev-tools/ktap.rst of the kernel).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from damon_tests.ports import output_file
from damon_tests.report import wording

_KTAP = "KTAP version 1"
_STOPS = ("FAIL", "XPASS", "INCONCLUSIVE", "ERROR")


def save(run: Mapping[str, Any], path: Path) -> None:
    """Write ``path``. Raises OSError, UsageError."""
    output_file.write_text(path, "\n".join(lines(run)) + "\n")


def save_tap(run: Mapping[str, Any], path: Path) -> None:
    """Write ``path`` as TAP 14. Raises OSError, UsageError."""
    output_file.write_text(path, "\n".join(tap_lines(run)) + "\n")


def tap_lines(run: Mapping[str, Any]) -> Iterator[str]:
    """Yield the same lines as TAP 14, which calls an expected failure ``not ok ... # TODO``."""
    for line in lines(run):
        name, mark, reason = line.partition(" # XFAIL ")
        if line == _KTAP:
            yield "TAP version 14"
        elif mark and name.startswith("ok "):
            yield f"not {name} # TODO {reason}"
        else:
            yield line


def lines(run: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a run (``run.json``): version, plan, and each test's evidence and result."""
    tests = run["tests"]
    yield _KTAP
    yield f"1..{len(tests)}" + ("" if tests else " # SKIP no test ran")
    yield f"# damon-tests {_plain(wording.subject(run))}"
    for number, test in enumerate(tests, 1):
        stops = test["verdict"] in _STOPS or (test["verdict"] == "SKIP" and run["require"])
        if stops:
            yield from (f"# {_plain(text)}" for text in _evidence(test))
        yield f"{'not ok' if stops else 'ok'} {number} {_name(test['id'])}{_directive(test, stops=stops)}"


def _evidence(test: Mapping[str, Any]) -> Iterator[str]:
    yield f"{test['verdict']}: {test['reason']}"
    for check in wording.checks(test):
        if check["holds"] is False:
            m = check["measurement"]
            yield f"{m['name']} = {wording.quantity(m['value'], m['unit'])}, expected {check['limit']}"
            yield f"because {wording.because(check)}"


def _directive(test: Mapping[str, Any], *, stops: bool) -> str:
    verdict = test["verdict"]
    if stops:
        # No directive: SKIP and XFAIL would turn "not ok" into a pass.
        return "" if verdict == "FAIL" else f" # verdict {verdict}"
    if verdict in ("SKIP", "XFAIL"):
        return f" # {verdict} {_plain(test['reason'])}"
    return ""


def _name(test_id: str) -> str:
    """A test's name without a character that begins a directive."""
    return _plain(test_id).replace("#", "_")


def _plain(text: str) -> str:
    return " ".join(str(text).split())

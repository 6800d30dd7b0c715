# SPDX-License-Identifier: GPL-2.0
"""``damon-tests defects --findings [RUN…]``: what the suites found in which kernels, as Markdown.

``FINDINGS.md`` is its output without runs. With directories of runs it also says what each of them shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from damon_tests.commands.gate import KernelRun, known_defects
from damon_tests.damon import past_bugs
from damon_tests.damon.features import LEVELS
from damon_tests.damon.known_defects import KnownDefect, the_table
from damon_tests.damon.past_bugs import PastBug
from damon_tests.report import model

_HEAD = """\
# Findings

Written by `damon-tests defects --findings`; do not edit. What the suites found in released kernels, and how
the bugs of DAMON's past are tested. `damon-tests defects --kernel K` lists what one kernel has; tests that
show it end there with XFAIL.
"""


def print_findings(runs: Sequence[Path]) -> int:
    """Print the findings; 0. Raises UsageError for a directory without a run."""
    loaded = [(directory, model.load(directory)) for directory in runs]
    print("\n".join(lines(the_table().values(), past_bugs.load(), loaded)))
    return 0


def lines(
    defects: Sequence[KnownDefect] | Any,
    bugs: Sequence[PastBug],
    runs: Sequence[tuple[Path, Mapping[str, Any]]] = (),
) -> Iterator[str]:
    """Yield the lines of the document."""
    table = list(defects)
    yield from _HEAD.splitlines()
    yield from _matrix(table)
    for defect in table:
        yield from _defect(defect, bugs)
    yield from _past(bugs)
    for directory, run in runs:
        yield from _run(directory, run)


def _matrix(defects: Sequence[KnownDefect]) -> Iterator[str]:
    yield ""
    yield f"## Defects of released kernels: {len(defects)}"
    yield ""
    yield "● has it · ◐ stable releases of the series differ · empty: has it not"
    yield ""
    yield f"| defect | {' | '.join(LEVELS)} |"
    yield "|---|" + "---|" * len(LEVELS)
    for defect in defects:
        yield f"| [{defect.title}](#{defect.key}) | {' | '.join(_mark(defect, level) for level in LEVELS)} |"


def _mark(defect: KnownDefect, level: str) -> str:
    releases = [r for r in defect.releases if r.series == level]
    if not releases:
        return " "
    return "◐" if any(r.since or r.fixed for r in releases) else "●"


def _defect(defect: KnownDefect, bugs: Sequence[PastBug]) -> Iterator[str]:
    number = next((f" (§8.3, {bug.number})" for bug in bugs if bug.defect == defect.key), "")
    yield ""
    yield f"### {defect.key}"
    yield ""
    yield f"{defect.title}{number}. {defect.does}"
    yield ""
    yield f"- kernels: {', '.join(defect.kernels())}"
    yield f"- evidence: {defect.evidence}"
    if defect.upstream:
        yield f"- upstream: {defect.upstream}"
    for predicted in defect.predicts:
        yield f"- shown by: {_plain(str(predicted))}"


def _past(bugs: Sequence[PastBug]) -> Iterator[str]:
    specified = past_bugs.specified()
    shown = sum(bool(bug.tests) for bug in bugs)
    yield ""
    yield f"## Bugs of the past: {shown} of {len(bugs)} have a test"
    yield ""
    yield "Numbers are those of the specification's section 8.3. A fault makes the reference imitate the bug."
    yield ""
    yield "| | bug | fixed in | tests | fault |"
    yield "|---|---|---|---|---|"
    for bug in bugs:
        what, fixed = specified[bug.number]
        tests = "<br>".join(f"`{_function(test)}`" for test in bug.tests)
        fault = f"`{bug.fault}`" if bug.fault else f"none: {bug.untested}"
        yield f"| {bug.number} | {what} | {fixed} | {tests} | {fault} |"


def _run(directory: Path, run: Mapping[str, Any]) -> Iterator[str]:
    """Yield what one run shows: known defects, and failures that no known defect explains."""
    kernels = sorted({test["backend"] for test in run["tests"]})
    yield ""
    yield f"## Run of {', '.join(kernels)}"
    yield ""
    counts = ", ".join(f"{verdict} {count}" for verdict, count in run["counts"].items() if count)
    release = run["provenance"].get("kernel", {}).get("release", "")
    yield f"{len(run['tests'])} tests{f' on {release}' if release else ''}: {counts}"
    yield ""
    shown = known_defects([KernelRun(", ".join(kernels), directory, 0, run, directory, 0.0)])
    for key in shown:
        yield f"- known defect: {key}"
    for test in run["tests"]:
        if test["verdict"] in ("FAIL", "XPASS"):
            yield f"- {test['verdict']}: `{test['id']}`: {_plain(test['reason'])}"


def _function(test: str) -> str:
    return test.partition("::")[2]


def _plain(text: str) -> str:
    """Return text without characters that Markdown would take for its own."""
    return " ".join(text.split()).replace("*", "\\*").replace("|", "\\|").replace("<", "&lt;")

# SPDX-License-Identifier: GPL-2.0
"""Which suites would run on this machine, which would skip, and why; without running anything.

What tests need is read from their source (markers of the plugin). How many cases a test has, only pytest
knows: ``with_cases`` has it collect them.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from damon_tests import bundle
from damon_tests.damon.capability import Capabilities, probe
from damon_tests.damon.client import DamonClient
from damon_tests.damon.features import ALIASES, FEATURES
from damon_tests.experiment.machine_survey import Survey
from damon_tests.ports import UsageError
from damon_tests.reference.sysfs.system import ReferenceSystem

_COLLECTION_S = 120


@dataclass(frozen=True)
class TestNeeds:
    """One test function: its id (parameters not expanded), its ``needs`` markers' features, and whether
    it belongs to the full profile only. ``cases``: how many tests its parameters make of it."""

    __test__ = False  # pytest: this is no test class

    id: str
    needs: tuple[str, ...]
    full: bool = False
    cases: int = 1

    @property
    def suite(self) -> str:
        """The directory it is in, such as ``suites/monitoring``."""
        return self.id.split("::", 1)[0].rpartition("/")[0]


@dataclass(frozen=True)
class SuiteOutlook:
    """``skips``: reason to how many of the suite's tests it keeps from running.

    ``unsure``: how many depend on what can only be found out by staging or booting."""

    suite: str
    tests: int
    skipped: int
    skips: tuple[tuple[str, int], ...]
    unsure: int = 0

    @property
    def would(self) -> str:
        """ "run", "skip", or "run in part"."""
        if self.skipped == 0:
            return "run"
        return "skip" if self.skipped == self.tests else "run in part"


@dataclass(frozen=True)
class Outlook:
    """What ``--kernel KERNEL`` would do here. ``blocked``: why nothing at all would run, else empty;
    ``remedy``: what to do about it."""

    kernel: str
    suites: tuple[SuiteOutlook, ...]
    blocked: str = ""
    remedy: str = ""


# --- what tests need -------------------------------------------------------------------------


def suite_requirements(directory: Path | None = None) -> tuple[TestNeeds, ...]:
    """The tests below ``directory`` (the suites, if not given) with what they declare to need.

    Raises UsageError for a file that is no Python.
    """
    directory = directory or bundle.suites_dir()
    tests: list[TestNeeds] = []
    for path in sorted(directory.rglob("test_*.py")):
        name = f"{directory.name}/{path.relative_to(directory).as_posix()}"
        tests += _of_file(path, name)
    return tuple(tests)


def _of_file(path: Path, name: str) -> list[TestNeeds]:
    try:
        module = ast.parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise UsageError(f"{name} line {error.lineno}: {error.msg}") from None
    return _tests_in(module.body, name, [mark for node in module.body for mark in _module_marks(node)])


def _tests_in(body: Sequence[ast.stmt], name: str, common: Sequence[ast.expr]) -> list[TestNeeds]:
    tests = []
    for node in body:
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            tests += _tests_in(node.body, f"{name}::{node.name}", [*common, *node.decorator_list])
        if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test"):
            continue
        marks = [*common, *node.decorator_list]
        needs = [value for mark in marks for value in _arguments(mark, "needs")]
        full = any("full" in _arguments(mark, "profile") for mark in marks)
        tests.append(TestNeeds(f"{name}::{node.name}", tuple(dict.fromkeys(needs)), full))
    return tests


def _module_marks(node: ast.stmt) -> Sequence[ast.expr]:
    """What ``pytestmark = ...`` holds."""
    if not isinstance(node, ast.Assign) or not any(
        isinstance(target, ast.Name) and target.id == "pytestmark" for target in node.targets
    ):
        return ()
    return node.value.elts if isinstance(node.value, (ast.List, ast.Tuple)) else (node.value,)


def _arguments(mark: ast.expr, name: str) -> list[str]:
    """The literal arguments of ``pytest.mark.NAME(...)``; empty if it is another mark."""
    if not (isinstance(mark, ast.Call) and isinstance(mark.func, ast.Attribute) and mark.func.attr == name):
        return []
    return [a.value for a in mark.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]


def with_cases(tests: Sequence[TestNeeds], directory: Path | None = None) -> tuple[TestNeeds, ...]:
    """Return the tests with the number of cases that pytest collects of each, as ``damon-tests run`` counts.

    Tests keep one case where pytest cannot collect them.
    """
    directory = directory or bundle.suites_dir()
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "damon_tests.plugin"]
    command += ["-p", "no:cacheprovider", f"--rootdir={directory.parent}", str(directory)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_COLLECTION_S)
    except (OSError, subprocess.TimeoutExpired):
        return tuple(tests)
    counts = Counter(line.partition("[")[0] for line in done.stdout.splitlines() if "::" in line)
    return tuple(replace(test, cases=counts.get(test.id, 1)) for test in tests)


# --- what would become of them ---------------------------------------------------------------


def forecast(survey: Survey, tests: Sequence[TestNeeds] | None = None) -> tuple[Outlook, ...]:
    """The outlook of the reference, of a guest, and of this machine's own kernel."""
    tests = suite_requirements() if tests is None else tests
    made = ReferenceSystem()
    reference = probe(DamonClient(made.tree, made.clock), made.events)
    return (
        Outlook("reference", _suites(tests, reference)),
        Outlook("debian:newest", _suites(tests, None), _guest_blocked(survey), _GUEST_REMEDY),
        Outlook("host", _suites(tests, survey.capabilities), _host_blocked(survey), _HOST_REMEDY),
    )


_GUEST_REMEDY = "see above, at virtual machines and tools"
_HOST_REMEDY = "test in a VM: --kernel debian:newest"


def _guest_blocked(survey: Survey) -> str:
    wants = ("QEMU", "package mirror")
    lacking = [name for name in wants if not survey.ok("virtual machines", name)]
    if not survey.ok("tools", "C programs"):
        lacking.append("the C programs")
    return f"missing: {', '.join(lacking)}" if lacking else ""


def _host_blocked(survey: Survey) -> str:
    if survey.usage.nr_kdamonds is None:
        return "this kernel shows no DAMON sysfs tree"
    if survey.usage.nr_kdamonds or survey.usage.users:
        return f"DAMON is in use by {survey.usage} (nr_kdamonds {survey.usage.nr_kdamonds})"
    return "" if survey.ok("privileges", "root") else "not root"


def _suites(tests: Iterable[TestNeeds], capabilities: Capabilities | None) -> tuple[SuiteOutlook, ...]:
    """``capabilities`` None: nothing is known before the kernel runs."""
    by_suite: dict[str, list[TestNeeds]] = {}
    for test in tests:
        by_suite.setdefault(test.suite, []).append(test)
    return tuple(_suite(name, members, capabilities) for name, members in sorted(by_suite.items()))


def _suite(name: str, tests: Sequence[TestNeeds], capabilities: Capabilities | None) -> SuiteOutlook:
    reasons: Counter[str] = Counter()
    skipped = unsure = 0
    for test in tests:
        absent, unknown = _lacking(test, capabilities)
        reasons.update(dict.fromkeys(absent, test.cases))
        skipped += test.cases if absent else 0
        unsure += test.cases if unknown and not absent else 0
    return SuiteOutlook(
        name, sum(test.cases for test in tests), skipped, tuple(reasons.most_common()), unsure
    )


def _lacking(test: TestNeeds, capabilities: Capabilities | None) -> tuple[list[str], list[str]]:
    """What is known to be absent (in words), and what is not known."""
    absent: list[str] = []
    unknown: list[str] = []
    for need in test.needs:
        name = ALIASES.get(need, need)
        if name not in FEATURES:
            absent.append(f"{need}: no such feature (misspelt)")
        elif capabilities is None or capabilities.present[name] is None:
            unknown.append(name)
        elif not capabilities.has(name):
            absent += capabilities.missing(name)
    return absent, unknown

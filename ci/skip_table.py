#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Print which tests each kernel series skips, and why: ci/skip_table.py [--profile quick] [SERIES…].

No test runs: what tests need is compared with the features of the reference at each level, which are those
of a kernel of that series that is configured with all of DAMON. Tests that skip themselves while they run
are listed at the end.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pytest

from damon_tests.damon.capability import Capabilities, probe
from damon_tests.damon.client import DamonClient
from damon_tests.damon.features import FEATURES, LEVELS
from damon_tests.damon.known_defects import KnownDefect
from damon_tests.experiment.requirements import Requirements
from damon_tests.pytest_items import (
    SPOILED_BY,
    is_damon_test,
    is_of_full_profile,
    marked_defects,
    requirements,
)
from damon_tests.reference.sysfs.system import ReferenceSystem

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class SuiteTest:
    """A test of the suites, parameters expanded."""

    id: str
    needs: Requirements
    full: bool
    spoiled_by: tuple[KnownDefect, ...] = ()


class _Collector:
    def __init__(self) -> None:
        self.tests: list[SuiteTest] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.tests = [
            SuiteTest(
                item.nodeid,
                requirements(item),
                is_of_full_profile(item),
                tuple(marked_defects(item, SPOILED_BY)),
            )
            for item in session.items
            if is_damon_test(item)
        ]


def suite_tests() -> list[SuiteTest]:
    """Collect the tests of the suites, and print nothing."""
    collector = _Collector()
    options = ["--collect-only", "-qqq", "-p", "no:cacheprovider", f"--rootdir={ROOT}"]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = pytest.main([*options, str(ROOT / "suites")], plugins=[collector])
    if code != pytest.ExitCode.OK:
        sys.exit(f"{said.getvalue()}the suites could not be collected: pytest ends with {code}")
    return collector.tests


def capabilities_of(level: str) -> Capabilities:
    """Return the features of a series that is configured with all of DAMON."""
    system = ReferenceSystem(level=level)
    return probe(DamonClient(system.tree, system.clock), system.events)


def missing_of(test: SuiteTest, capabilities: Capabilities, level: str) -> tuple[str, ...]:
    """Return the features that a test needs and that are missing; else the defects that leave nothing of it.

    Of a series, those of its newest release.
    """
    missing = tuple(name for name in test.needs.names() if not capabilities.has(name))
    newest = f"{level}.999"
    return missing or tuple(f"known defect {d}" for d in test.spoiled_by if d.applies(level, newest))


def skip_themselves() -> list[str]:
    """Return "file::test: text" of the tests that call pytest.skip."""
    tests = []
    for path in sorted((ROOT / "suites").rglob("test_*.py")):
        for test in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(test, ast.FunctionDef) and test.name.startswith("test_"):
                calls = [n for n in ast.walk(test) if isinstance(n, ast.Call)]
                skips = [c for c in calls if ast.unparse(c.func) == "pytest.skip"]
                tests += [f"{path.relative_to(ROOT)}::{test.name}: {ast.unparse(c.args[0])}" for c in skips]
    return tests


def print_table(level: str, tests: list[SuiteTest]) -> None:
    """Print the skipped tests of a series by what they miss, most tests first."""
    capabilities = capabilities_of(level)
    by_missing: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for test in tests:
        missing = missing_of(test, capabilities, level)
        if missing:
            by_missing[missing].append(test.id.rpartition("/")[2])
    skipped = sum(map(len, by_missing.values()))
    print(f"{level}: {skipped} of {len(tests)} tests are skipped")
    for missing, ids in sorted(by_missing.items(), key=lambda pair: (-len(pair[1]), pair[0])):
        since = [f"{name} ({FEATURES[name].since})" if name in FEATURES else name for name in missing]
        names = ", ".join(since)

        print(f"  {len(ids):3d}  needs {names}")
        for function in dict.fromkeys(i.partition("[")[0] for i in ids):
            print(f"         {function}")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--profile", choices=("quick", "full"), default="full")
    parser.add_argument("series", nargs="*", metavar="SERIES", help=f"default: {' '.join(LEVELS)}")
    arguments = parser.parse_args()
    unknown = [series for series in arguments.series if series not in LEVELS]
    if unknown:
        parser.error(f"unknown series {', '.join(unknown)}; there are {', '.join(LEVELS)}")
    tests = [t for t in suite_tests() if arguments.profile == "full" or not t.full]
    for level in arguments.series or LEVELS:
        print_table(level, tests)
    print("Tests that skip themselves while they run:")
    print("\n".join(f"  {line}" for line in skip_themselves()))


if __name__ == "__main__":
    main()

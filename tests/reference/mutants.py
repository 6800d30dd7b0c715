# SPDX-License-Identifier: GPL-2.0
"""Find which small changes of the reference no test and no suite notices: ``mutants.py RESULTS [--count N]``

A mutant is the reference with one operator, comparison or constant of one function changed. It is drawn from
all such places of ``damon_tests/reference/{core,machine,rules,sysfs}``, each equally likely, by a hash of its
file, function and change: the draw stays the same while other functions change. For each mutant
those tests run that call the changed function, the quickest first, until one fails: of ``tests/reference``,
then of ``suites`` on the reference. RESULTS, a JSON file, keeps what is known: an ended run goes on there.

``equivalent_mutants.txt`` names those that change nothing anybody can see; the other survivors are printed.
``--parts tests`` judges by one part only, and ``--unnoticed`` only mutants that no part has noticed so far:
suites take most of the time, and need not run to say which mutants survive. ``--table FILE`` writes which
test noticed which mutant, as ``judged_mutants.txt`` has it.

The fault catalogue holds wrong behaviour that somebody thought of; mutants are those that nobody thought of.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import contextlib
import functools
import gc
import importlib
import json
import os
import pkgutil
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest
from mutant_places import ROOT, WINGS, Mutant, draw, mutate

# Loaded before forking: what every run needs.
from damon_tests.experiment import reference_backend  # noqa: F401

TOP = ROOT.parent.parent
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.txt")
PARTS = {"tests": TOP / "tests" / "reference", "suites": TOP / "suites"}
# Tests that start servers or other programs do not run in a forked copy.
LEFT_OUT = ("serve", "fuse", "mutants", "specification", "ptrace_call", "live", "drgn_dump")
TIMEOUT_S = 300
"""Processor time, s. A mutant may loop for ever; then it is noticed."""
WALL_S = 3600
"""A mutant may wait for ever; then it is noticed, too."""
BUDGET_S = {"tests": 60.0, "suites": 90.0}
"""The tests that run against one mutant take no longer than this without it."""


# --- putting a mutant in place -----------------------------------------------------------------------------


def code_objects(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from code_objects(constant)


def install(tree: ast.Module, path: Path) -> None:
    """Give every loaded function of a module the code of ``tree``, and forget what functions had cached."""
    changed = compile(ast.fix_missing_locations(tree), str(path), "exec")
    by_name = {(code.co_qualname, code.co_firstlineno): code for code in code_objects(changed)}
    for thing in gc.get_objects():
        if isinstance(thing, FunctionType) and thing.__code__.co_filename == str(path):
            code = by_name.get((thing.__code__.co_qualname, thing.__code__.co_firstlineno))
            if code is not None:
                thing.__code__ = code
        elif isinstance(thing, functools._lru_cache_wrapper):
            thing.cache_clear()


# --- which test calls which function -----------------------------------------------------------------------


class Reporting(ast.NodeTransformer):
    """Let each function and method of a module add its name to ``builtins.CALLED`` when it is called."""

    def __init__(self, file: str) -> None:
        self.file, self.inside = file, list[str]()

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self.inside.append(node.name)
        for child in node.body:
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                self.visit(child)
        self.inside.pop()
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        name = ".".join([*self.inside, node.name])
        report = ast.parse(f"CALLED.add({f'{self.file}:{name}'!r})").body
        for inner in ast.walk(report[0]):
            if hasattr(inner, "lineno"):
                inner.lineno = inner.end_lineno = node.body[0].lineno
        node.body[:0] = report
        return node


class Calls:
    """A pytest plugin that notes which functions of the reference each test calls, and how long it takes."""

    def __init__(self) -> None:
        self.called: set[str] = set()
        self.by_test: dict[str, tuple[float, list[str]]] = {}
        builtins.CALLED = self.called  # type: ignore[attr-defined]
        for path in sorted(path for wing in WINGS for path in (ROOT / wing).glob("*.py")):
            tree = ast.parse(path.read_text())
            install(Reporting(str(path.relative_to(ROOT))).visit(tree), path)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.called.clear()
        started = time.monotonic()
        try:
            return (yield)
        finally:
            self.by_test[item.nodeid] = (time.monotonic() - started, sorted(self.called))


def options(part: str, results: Path) -> list[str]:
    """Return pytest's options for a part: quiet, no xdist, and suites write no run directory of their own."""
    common = ["-q", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist", f"--rootdir={TOP}"]
    return [*common, *([f"--output={results}"] if part == "suites" else [])]


def part_tests(part: str) -> list[str]:
    if part == "suites":
        return [str(PARTS[part])]
    files = sorted(PARTS[part].glob("test_*.py"))
    return [str(f) for f in files if not any(name in f.stem for name in LEFT_OUT)]


def in_child(do: Callable[[Path], Any], timeout_s: int) -> Any:
    """Run ``do`` in a forked process without output; return what it returned, or how the process ended."""
    with tempfile.TemporaryDirectory() as directory:
        answer = Path(directory) / "answer.json"
        pid = os.fork()
        if pid == 0:
            os.setsid()
            signal.alarm(WALL_S)
            resource.setrlimit(resource.RLIMIT_CPU, (timeout_s, timeout_s))
            null = os.open(os.devnull, os.O_RDWR)
            log = os.open(os.environ.get("MUTANTS_LOG", os.devnull), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            for fd, to in ((null, 0), (log, 1), (log, 2)):
                os.dup2(fd, to)
            try:
                answer.write_text(json.dumps(do(Path(directory))))
            finally:
                os._exit(0)
        _, status = os.waitpid(pid, 0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        return json.loads(answer.read_text()) if answer.exists() else f"(ended with status {status})"


def map_calls(part: str) -> dict[str, tuple[float, list[str]]]:
    """Run a part once; return for each test its time, s, and the functions of the reference that it calls."""

    def do(directory: Path) -> dict[str, tuple[float, list[str]]]:
        calls = Calls()
        pytest.main([*options(part, directory / "run"), *part_tests(part)], [calls])
        return calls.by_test

    survivors: dict[str, tuple[float, list[str]]] = in_child(do, 3600)
    if not isinstance(survivors, dict):
        raise SystemExit(f"the tests of {part} did not run: {survivors}")
    return survivors


# --- running -----------------------------------------------------------------------------------------------


class FirstFailure:
    """A pytest plugin that notes which test failed first."""

    def __init__(self) -> None:
        self.test = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.test:
            self.test = report.nodeid


def chosen(calls: dict[str, tuple[float, list[str]]], mutant: Mutant, budget_s: float) -> list[str]:
    """Return the tests that call the mutant's function, the quickest first, as many as the budget allows."""
    name = f"{mutant.file}:{mutant.function}"
    callers = sorted((seconds, test) for test, (seconds, names) in calls.items() if name in names)
    tests, sum_s = [], 0.0
    for seconds, test in callers:
        sum_s += seconds
        if tests and sum_s > budget_s:
            break
        tests.append(test)
    return tests


def killer(part: str, mutant: Mutant, tests: list[str]) -> str:
    """Return the first of the tests that fails with the mutant; empty when all pass."""

    def do(directory: Path) -> str:
        path = ROOT / mutant.file
        install(mutate(path.read_text(), mutant.index), path)
        noted = FirstFailure()
        code = pytest.main(["-x", *options(part, directory / "run"), *(str(TOP / t) for t in tests)], [noted])
        return noted.test or ("" if code == 0 else f"(pytest ended with {code})")

    return str(in_child(do, TIMEOUT_S)) if tests else ""


def judge(
    mutant: Mutant, parts: Sequence[str], calls: dict[str, dict[str, tuple[float, list[str]]]]
) -> dict[str, Any]:
    """Return what noticed the mutant in each of the parts, and how many tests were tried."""
    row: dict[str, Any] = {"key": mutant.key, **asdict(mutant)}
    for part in parts:
        tests = chosen(calls[part], mutant, BUDGET_S[part])
        row[part] = {"tried": len(tests), "killer": killer(part, mutant, tests)}
    return row


def noticed(row: dict[str, Any]) -> bool:
    """Return whether a part has noticed the mutant of this row."""
    return any(part in row and row[part]["killer"] for part in PARTS)


def load_everything() -> None:
    for module in pkgutil.walk_packages([str(ROOT)], "damon_tests.reference."):
        if module.name.split(".")[2] in WINGS:
            importlib.import_module(module.name)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path, metavar="RESULTS", help="JSON file of results, made if missing")
    parser.add_argument("--count", type=int, default=300, metavar="N", help="mutants in all (default: 300)")
    parser.add_argument("--skip", type=int, default=0, metavar="N", help="leave out the first N of them")
    parser.add_argument("--seed", type=int, default=1, help="which mutants are drawn (default: 1)")
    parser.add_argument("--table", type=Path, metavar="FILE", help="write all that RESULTS has as a table")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="judge by these only")
    parser.add_argument("--unnoticed", action="store_true", help="judge only what no part has noticed so far")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no mutant after this time")
    args = parser.parse_args()
    began = time.monotonic()
    os.chdir(TOP)
    load_everything()
    kept = json.loads(args.results.read_text()) if args.results.exists() else {"calls": {}, "rows": []}
    for part in args.parts:
        if part not in kept["calls"]:
            kept["calls"][part] = map_calls(part)
            args.results.write_text(json.dumps(kept))
    rows = {row["key"]: row for row in kept["rows"]}
    for mutant in draw(args.seed, args.count)[args.skip :]:
        row = rows.get(mutant.key, {})
        parts = [part for part in args.parts if part not in row]
        if not parts or (args.unnoticed and noticed(row)):
            continue
        if time.monotonic() - began > args.seconds:
            break
        rows[mutant.key] = row = row | judge(mutant, parts, kept["calls"])
        kept["rows"] = list(rows.values())
        args.results.write_text(json.dumps(kept))
        verdicts = "  ".join(f"{part}: {row[part]['killer'] or 'SURVIVES'}" for part in parts)
        print(
            f"[{len(rows)}/{args.count}] {mutant.file}:{mutant.line} {mutant.change}  {verdicts}", flush=True
        )
    print_table(kept["rows"])
    if args.table:
        args.table.write_text(TABLE_HEAD + "".join(table_lines(kept["rows"])), encoding="utf-8")
    return 0


def equivalent() -> dict[str, str]:
    """Return the mutants that change nothing anybody can see, by key, with the reason."""
    lines = EQUIVALENT.read_text(encoding="utf-8").splitlines()
    return {line.partition("\t")[0]: line.partition("\t")[2] for line in lines if line and line[0] != "#"}


TABLE_HEAD = """\
# SPDX-License-Identifier: GPL-2.0
#
# Made by mutants.py --table: mutants of the reference that were judged, and the first test of tests/reference
# and of the suites that noticed each; "-": none did; "?": not tried. equivalent_mutants.txt says why some
# cannot be noticed.
"""


def table_lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a line for each mutant: its key, and what noticed it in each part, with tabs in between."""
    for row in sorted(rows, key=lambda row: str(row["key"])):
        cells = [
            str(row[part]["killer"]).removeprefix(f"{part}/") or "-" if part in row else "?" for part in PARTS
        ]
        yield "\t".join([str(row["key"]), *cells]) + "\n"


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print how many mutants each part noticed, and each that none did, with the reason if it is known."""
    for part in PARTS:
        judged = [row for row in rows if part in row]
        print(f"{part}: {sum(bool(row[part]['killer']) for row in judged)} of {len(judged)} mutants noticed")
    reasons = equivalent()
    for row in rows:
        if not noticed(row):
            place = f"{row['file']}:{row['line']} {row['function']}, {row['change']}"
            untried = "".join(f", {part} not tried" for part in PARTS if part not in row)
            print(f"noticed by none: {place}{untried}: {reasons.get(row['key'], 'LACKS A TEST')}")


if __name__ == "__main__":
    sys.exit(main())

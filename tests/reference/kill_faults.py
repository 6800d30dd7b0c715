# SPDX-License-Identifier: GPL-2.0
"""Find which of the reference's own tests notice which fault: ``kill_faults.py [--jobs N] [--keep]
[--page SIZE] [--sample N] [FAULT...]``

Runs the tests once without a fault, which must pass, then once for each fault until the first failure, each
time in a process of its own that is forked when everything is loaded. Ends with 1 when a fault survives.
With other pages than 4 KiB, some tests expect numbers of 4 KiB pages and fail without a fault; faults
that only they are known to notice are printed and left out.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

# Loaded before forking: what every run needs, but for what reads the fault's name (reference_support).
from damon_tests.experiment import reference_backend  # noqa: F401
from damon_tests.ports.paging import PAGE_SIZES
from damon_tests.reference.faults.catalogue import catalogue

HERE = Path(__file__).parent
KEPT = HERE / "kills.txt"
TIMEOUT_S = 1200
SEED = 16
# The quickest first, and those that notice most.
ORDER = (
    "vectors",
    "regions",
    "past_bugs",
    "action_effects",
    "scheme_passes",
    "damon_stat",
    "tree",
    "damos",
    "actions",
    "kdamond",
    "commit",
    "memory",
    "mlock",
    "filters",
    "recorded_answers",
    "abi",
    "module_requests",
    "modules",
    "batch",
)
# Faults of these areas are noticed by these first.
FIRST = {
    "filters": ("filters",),
    "schemes": ("past_bugs", "action_effects", "actions", "scheme_passes", "damos"),
    "stats": ("scheme_passes",),
    "modules": ("module_requests", "damon_stat", "modules"),
    "tree": ("tree", "abi"),
}


def known_killers() -> dict[str, str]:
    """Return by fault the test that noticed it in the kept matrix; it is tried first, which saves time."""
    lines = KEPT.read_text().splitlines() if KEPT.exists() else []
    return {words[1]: words[2] for line in lines if "::" in line and (words := line.split())}


class Failures:
    """A pytest plugin that notes which tests failed, as file::test."""

    def __init__(self) -> None:
        self.tests: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.tests.append(Path(report.nodeid.partition("[")[0]).name)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.tests.append(f"{Path(report.nodeid).name}::(collection)")


@dataclass
class Machine:
    """The machine of the reference: its page size by name."""

    page: str = "4K"

    def options(self) -> list[str]:
        return ["-q", "--no-header", "-p", "no:cacheprovider", "--kernel", f"reference,page={self.page}"]


MACHINE = Machine()


def killer(name: str, known: str) -> str:
    """Return the first test that fails with this fault; empty when all pass."""
    os.environ["DAMON_TESTS_FAULT"] = name
    area = catalogue()[name].area if name else ""
    order = sorted(ORDER, key=lambda part: part not in FIRST.get(area, ()))
    everything = [str(HERE / f"test_reference_{part}.py") for part in order]
    for tests in [[str(HERE / known)], everything] if known else [everything]:
        noted = Failures()
        code = pytest.main(["-x", *MACHINE.options(), *tests], [noted])
        if noted.tests:
            return noted.tests[0]
    return "" if code == 0 else f"(pytest ended with {code})"


def fitting(names: list[str]) -> list[str]:
    """Return the faults whose known killers pass without a fault on a machine with other pages than 4 KiB.

    Print the others, for the suites: ``damon-tests run --kernel reference,page=SIZE --fault NAME``.
    """
    known = known_killers()
    with tempfile.TemporaryDirectory() as directory:
        failed = Path(directory) / "failed"
        if not (pid := os.fork()):
            noted = Failures()
            pytest.main([*MACHINE.options(), *{str(HERE / known[n]) for n in names if n in known}], [noted])
            failed.write_text("\n".join(noted.tests))
            os._exit(0)
        os.waitpid(pid, 0)
        unfit = set(failed.read_text().split("\n"))
    left = [name for name in names if known.get(name, "") in unfit]
    print(f"{len(left)} faults are known to tests that expect 4 KiB pages:", *left, sep="\n  ", flush=True)
    return [name for name in names if name not in left]


def fork(name: str, known: str, result: Path) -> int:
    """Start a process that writes the killer to ``result``; return its pid."""
    pid = os.fork()
    if pid:
        return pid
    signal.alarm(TIMEOUT_S)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    result.write_text(killer(name, known))
    os._exit(0)


def killers(names: list[str], jobs: int) -> Iterator[tuple[str, str]]:
    """Yield (fault, test) as they are found."""
    known, waiting, running = known_killers(), list(names), {}
    with tempfile.TemporaryDirectory() as directory:
        while waiting or running:
            while waiting and len(running) < jobs:
                name = waiting.pop(0)
                result = Path(directory) / f"{name}.txt"
                running[fork(name, known.get(name, ""), result)] = name, result
            pid, status = os.wait()
            name, result = running.pop(pid)
            yield name, result.read_text() if status == 0 else f"(the run ended with status {status})"


def run(names: list[str], jobs: int) -> Iterator[tuple[str, str]]:
    """Yield (fault, killer) as they are found, the killer empty for a survivor. Raises SystemExit when
    tests fail without a fault."""
    for _, failed in [] if MACHINE.page != "4K" else killers([""], 1):
        if failed:
            raise SystemExit(f"without a fault {failed} fails, so faults cannot be judged")
    yield from killers(names, jobs)


def row(name: str, killed_by: str) -> str:
    return f"{catalogue()[name].area:14} {name:32} {killed_by or 'SURVIVES'}"


def table(killers: dict[str, str]) -> str:
    """The kept table: every fault of the catalogue, in its order."""
    heading = "# Made by kill_faults.py --keep: which test notices which fault."
    return "\n".join([heading, *(row(name, killers.get(name, "")) for name in catalogue())]) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="faults at a time")
    parser.add_argument(
        "--keep",
        action="store_true",
        help=f"write the table to {KEPT.name}; faults not run stay as they were",
    )
    parser.add_argument("faults", nargs="*", metavar="FAULT", help="default: all")
    parser.add_argument("--page", choices=PAGE_SIZES, default="4K", help="page size of the reference")
    parser.add_argument("--sample", type=int, metavar="N", help="N faults, drawn by a fixed seed")
    args = parser.parse_args()
    if args.page != "4K":
        if args.keep:
            parser.error("--keep: the table is of a reference with pages of 4 KiB")
        MACHINE.page = args.page
    if args.sample:
        args.faults = sorted(random.Random(SEED).sample(list(catalogue()), args.sample))
    if args.page != "4K":
        args.faults = fitting(args.faults or list(catalogue()))
    names, started = args.faults or list(catalogue()), time.monotonic()
    killers: dict[str, str] = {}
    for name, test in run(names, args.jobs):
        killers[name] = test
        print(f"[{len(killers)}/{len(names)}] {row(name, test)}", flush=True)
        if args.keep:
            KEPT.write_text(table({**known_killers(), **killers}))
    survivors = [name for name in names if not killers[name]]
    killed, seconds = len(names) - len(survivors), time.monotonic() - started
    print(f"{killed} of {len(names)} faults are killed, in {seconds:.0f} s")
    if survivors:
        print(f"SURVIVE: {', '.join(survivors)}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())

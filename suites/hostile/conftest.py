# SPDX-License-Identifier: GPL-2.0
"""A DAMON under test beside a clean reference of its level, each with a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import pytest

from damon_tests.damon.client import DamonClient
from damon_tests.patterns import load
from damon_tests.ports import DamonTestsError
from damon_tests.pytest_run import RUN, TEST, test_id
from damon_tests.reference.sysfs.system import ReferenceSystem
from damon_tests.report import artifacts
from damon_tests.scenario.abi_walk import COMPARED_ON, Side, same_answers
from damon_tests.workload.layout import plan_layout, process_vmas
from damon_tests.workload.pattern_truth import PatternTruth

PATTERN = "idle"


def _places(pid: int, start: int, end: int) -> dict[str, int]:
    return {"pid": pid, "start": start, "middle": (start + end) // 2, "end": end}


@pytest.fixture
def tested(subject) -> Iterator[Side]:
    """Yield the DAMON under test with a process that idles; its tree is empty before and after."""
    target = subject.start_target(load.load(PATTERN), 1)
    side = Side(DamonClient(subject.tree, subject.clock), _places(target.pid, *target.layout["data"]))
    try:
        yield side
    finally:
        with suppress(DamonTestsError):  # a kernel that hangs is thrown away
            side.reset()
        target.stop()


@pytest.fixture
def model(subject) -> Callable[[], Side]:
    """Return a function that makes clean references of the level under test."""

    def make() -> Side:
        pattern = load.load(PATTERN)
        system = ReferenceSystem(level=subject.level)
        layout = plan_layout(pattern)
        truth = PatternTruth(pattern, layout, 1, go_ns=system.clock.now_ns())
        pid = system.add_process(process_vmas(pattern, layout), truth)
        return Side(DamonClient(system.tree, system.clock), _places(pid, *layout["data"]))

    return make


@pytest.fixture
def expect_same_answers(backend, expect) -> Callable[..., None]:
    """``expect_same_answers(differences, because, of=0)``: expect no difference from the reference.

    ``of``: how many operations were done, for the report.
    """
    compared = backend.simulated or backend.level in COMPARED_ON

    def check(differences: Sequence[str], because: str, of: int = 0) -> None:
        expect.add(same_answers(differences, because, compared=compared, of=of))

    return check


@pytest.fixture
def keep_script(request) -> Callable[[str], None]:
    """``keep_script(text)``: keep a shell script with the results of the test's last attempt."""

    def keep(text: str) -> None:
        log, name = request.config.stash[RUN].log, test_id(request.node)
        observations = request.node.stash[TEST].observations
        attempt = observations[-1].attempt if observations else 1
        path = artifacts.attempt_directory(log.directory, name, attempt) / "reproducer.sh"
        path.write_text(text, encoding="utf-8")
        log.artifact(name, path.relative_to(log.directory), "reproducer", attempt=attempt)

    return keep

# SPDX-License-Identifier: GPL-2.0
"""pytest hooks: options, fixtures, and a verdict instead of an outcome.

Loaded by the project's own configuration and by ``damon-tests run`` (``-p damon_tests.plugin``),
never forced on other projects. A test that asks for the ``expect`` fixture is a DAMON test:
its checks make its verdict (``judge.conclude``); every other test is left alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from damon_tests.damon.params import DamonCtx
from damon_tests.experiment.artifacts import Artifacts
from damon_tests.experiment.backend import Backend
from damon_tests.experiment.experiment import Cover, Experiment
from damon_tests.experiment.observation import Observation
from damon_tests.experiment.requirements import Requirements, evaluate
from damon_tests.experiment.select import open_backend
from damon_tests.experiment.trial import Trial
from damon_tests.judge.collect import Expect
from damon_tests.judge.conclude import Conclusion, KnownDefect, conclude
from damon_tests.judge.verdict import Verdict
from damon_tests.patterns import load
from damon_tests.patterns.spec import Pattern
from damon_tests.ports import NSEC_PER_SEC, DamonTestsError, NotSupported
from damon_tests.report import run_files
from damon_tests.report.model import RunLog

MARKERS = (
    "needs(*features, **machine): what DAMON and the machine must have; a missing one is a SKIP that names all",
    "profile(name): 'full' leaves the test out of --profile quick",
    "known_defect(name, evidence, levels): an open defect of DAMON that this test is expected to find",
)


@dataclass
class DamonRun:
    """Everything that one pytest process keeps while it runs DAMON tests."""

    config: pytest.Config
    output: Path
    stack: ExitStack = field(default_factory=ExitStack)
    log: RunLog | None = None
    _backend: Backend | None = None

    @property
    def backend(self) -> Backend:
        """Opened at the first test that needs it; what cannot be opened ends the run with a sentence."""
        if self._backend is None:
            option = self.config.option
            try:
                self._backend = self.stack.enter_context(
                    open_backend(option.kernel, self.output, option.level)
                )
            except DamonTestsError as error:
                code = 6 if isinstance(error, NotSupported) else error.exit_code
                pytest.exit(f"--kernel {option.kernel}: {error}", returncode=code)
        return self._backend


@dataclass
class DamonTest:
    """What one DAMON test leaves behind until its verdict is written."""

    expect: Expect
    observations: list[Observation] = field(default_factory=list)
    conclusion: Conclusion | None = None
    began: float = field(default_factory=time.monotonic)


RUN = pytest.StashKey[DamonRun]()
TEST = pytest.StashKey[DamonTest]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("damon", "DAMON tests")
    group.addoption(
        "--kernel",
        default="reference",
        metavar="K",
        help="reference[:LEVEL] (default), debian:SERIES|stable|newest, a kernel image's path, or host",
    )
    group.addoption("--level", metavar="L", help="judge as this kernel series (default: found out)")
    group.addoption("--profile", choices=("quick", "full"), default="full")
    group.addoption("--output", metavar="DIR", help="where results go (default: a new directory)")
    group.addoption("--seed", type=int, default=1, metavar="N", help="seed of the run")
    group.addoption("--require", action="store_true", help="a test that cannot run fails")


def pytest_configure(config: pytest.Config) -> None:
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    # Workers receive the options as the controller leaves them here: one directory for all.
    if config.option.output is None:
        config.option.output = str(run_files.new_directory())
    config.stash[RUN] = DamonRun(config, Path(config.option.output).absolute())


def pytest_unconfigure(config: pytest.Config) -> None:
    run = config.stash.get(RUN, None)
    if run is not None:
        run.stack.close()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.option.profile != "quick":
        return
    full = [i for i in items if any(m.args == ("full",) for m in i.iter_markers("profile"))]
    if full:
        config.hook.pytest_deselected(items=full)
        items[:] = [i for i in items if i not in full]


def _is_damon_test(item: pytest.Item) -> bool:
    return "expect" in getattr(item, "fixturenames", ())


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Backend:
    """The DAMON under test."""
    return request.config.stash[RUN].backend


@pytest.fixture
def expect(request: pytest.FixtureRequest) -> Expect:
    """Collects this test's checks; they make its verdict."""
    return request.node.stash[TEST].expect


class ExperimentFixture:
    """``experiment(pattern, ctx, seconds=...)``: a Trial on the DAMON under test."""

    def __init__(self, item: pytest.Item, run: DamonRun) -> None:
        self._item = item
        self._run = run

    def __call__(
        self, pattern: str | Pattern, ctx: DamonCtx | None = None, *, seconds: float, cover: Cover = "process"
    ) -> Trial:
        chosen = load.load(pattern) if isinstance(pattern, str) else pattern
        experiment = Experiment(chosen, ctx or DamonCtx(), int(seconds * NSEC_PER_SEC), cover)
        return Trial(
            experiment,
            self._run.backend,
            test_id=self._item.nodeid,
            run_seed=self._run.config.option.seed,
            on_attempt=self._keep,
        )

    def _keep(self, observation: Observation) -> None:
        self._item.stash[TEST].observations.append(observation)
        run_files.keep_attempt(self._run.log, self._run.output, self._item.nodeid, observation)


@pytest.fixture
def experiment(request: pytest.FixtureRequest) -> ExperimentFixture:
    """States what to do; ``.observe()`` does it."""
    return ExperimentFixture(request.node, request.config.stash[RUN])

# SPDX-License-Identifier: GPL-2.0
"""What ``damon-tests bisect`` does with one commit: build its kernel and run tests on it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from damon_tests.commands.bench import take
from damon_tests.commands.bisect import Trial
from damon_tests.commands.gate import run_suites
from damon_tests.commands.kunit import run_kunit
from damon_tests.judge.cost.samples import CostSamples
from damon_tests.kernel.build.make import BuildFailed, BuildRequest, build
from damon_tests.ports import DamonTestsError, HarnessError, UsageError
from damon_tests.ports.numbers import number
from damon_tests.report import bench_record, model

Say = Callable[[str], None]

KUNIT = "kunit/"
_INTERRUPTED = 2
_FAILING = ("FAIL", "XPASS")


@dataclass(frozen=True)
class CommitTester:
    """Builds and tests the tree at a path; results go to directories of their own below ``output``.

    ``areas``: suites from which ``failing`` takes what to search for. ``options``: further ones of ``run``.
    """

    request: BuildRequest
    output: Path
    areas: Sequence[str] = ()
    options: Sequence[str] = ()
    say: Say = print

    def attempt(self, path: Path, tests: Sequence[str], seed: int) -> Trial:
        """Return whether the tests pass. Raises HarnessError when the user interrupted the run."""
        try:
            image = build(replace(self.request, tree=path), self.say).image
        except BuildFailed as error:
            return Trial("skip", str(error))
        kunit = [test for test in tests if test.startswith(KUNIT)]
        suites = [test for test in tests if not test.startswith(KUNIT)]
        trials = [self._kunit(image, kunit)] if kunit else []
        trials += [self._suites(image, suites, seed)] if suites else []
        return worst(trials)

    def failing(self, path: Path, seed: int) -> Sequence[str]:
        """Return the ids of the suites' tests that fail, and of KUnit's. Raises BuildFailed."""
        image = build(replace(self.request, tree=path), self.say).image
        failed: list[str] = []
        directory = _new_directory(self.output)
        try:
            run_kunit(str(image), directory, self.say)
            failed += failed_tests(model.load(directory))
        except DamonTestsError as error:
            self.say(f"no KUnit results: {error}")
        run = self._run(image, self.areas, seed)
        if run is None:
            raise HarnessError(f"the suites on {image} left no results")
        return [*failed, *failed_tests(run)]

    def _suites(self, image: Path, tests: Sequence[str], seed: int) -> Trial:
        run = self._run(image, tests, seed)
        if run is None:
            return Trial("skip", "the run left no results")
        if model.exit_code(run) == _INTERRUPTED:
            raise HarnessError("interrupted; the same command goes on with this bisection")
        return trial_of(run)

    def _kunit(self, image: Path, tests: Sequence[str]) -> Trial:
        directory = _new_directory(self.output)
        try:
            run_kunit(str(image), directory, self.say)
        except UsageError:
            raise
        except DamonTestsError as error:
            return Trial("skip", str(error))
        run = model.load(directory)
        return trial_of({**run, "tests": [test for test in run["tests"] if test["id"] in tests]})

    def _run(self, image: Path, tests: Sequence[str], seed: int) -> Mapping[str, Any] | None:
        directory = _new_directory(self.output)
        options = [*self.options, f"--seed={seed}"]
        return run_suites(str(image), directory / "run", tests, options, directory / "run.log").run


@dataclass(frozen=True)
class Metric:
    """A benchmark's metric that must not be above ``limit``."""

    benchmark: str
    name: str
    limit: float

    def __str__(self) -> str:
        return f"{self.name} of {self.benchmark} above {number(self.limit)}"


@dataclass(frozen=True)
class MetricTester:
    """Builds the tree at a path and takes one benchmark of it: bad if its median is above the limit."""

    request: BuildRequest
    output: Path
    metric: Metric
    say: Say = print

    def attempt(self, path: Path, tests: Sequence[str], seed: int) -> Trial:
        """Return whether the metric is within its limit; ``tests`` only names it."""
        try:
            image = build(replace(self.request, tree=path), self.say).image
        except BuildFailed as error:
            return Trial("skip", str(error))
        directory = _new_directory(self.output)
        try:
            take(str(image), [self.metric.benchmark], directory, seed)
        except UsageError:
            raise
        except DamonTestsError as error:
            return Trial("skip", str(error))
        record = bench_record.load(directory)
        if self.metric.benchmark in record.skipped:
            return Trial("skip", record.skipped[self.metric.benchmark])
        return trial_of_metric(self.metric, record.metrics)

    def failing(self, path: Path, seed: int) -> Sequence[str]:
        """Return the metric's name: there is nothing to choose."""
        return [str(self.metric)]


def _new_directory(output: Path) -> Path:
    """Make a directory for the results of one run."""
    runs = output / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="", dir=runs))


def trial_of_metric(metric: Metric, metrics: Mapping[str, CostSamples]) -> Trial:
    """Return bad for a median above the limit. Raises UsageError for a metric that was not measured."""
    samples = metrics.get(metric.name)
    if samples is None or not samples.values:
        known = ", ".join(metrics) or "none"
        raise UsageError(f"the benchmark {metric.benchmark} has no metric {metric.name!r}; it has {known}")
    text = f"{metric.name} is {number(samples.median)} {samples.unit}, the limit is {number(metric.limit)}"
    return Trial("bad" if samples.median > metric.limit else "good", text)


def failed_tests(run: Mapping[str, Any]) -> list[str]:
    """Return the ids of the tests of a run that fail."""
    return [test["id"] for test in run["tests"] if test["verdict"] in _FAILING]


def trial_of(run: Mapping[str, Any]) -> Trial:
    """Return bad for a failure, good if all passed; skip where no test could say either."""
    tests = run["tests"]
    for test in tests:
        if test["verdict"] in _FAILING:
            return Trial("bad", f"{test['id']}: {test['reason']}")
    undecided = [test for test in tests if test["verdict"] not in ("PASS", "XFAIL")]
    if undecided:
        return Trial("skip", f"{undecided[0]['verdict']} {undecided[0]['id']}: {undecided[0]['reason']}")
    return Trial("good", f"{len(tests)} tests pass") if tests else Trial("skip", "no test ran")


def worst(trials: Sequence[Trial]) -> Trial:
    """Return the trial that decides: a failure, else one that could not say, else a pass."""
    for state in ("bad", "skip"):
        for trial in trials:
            if trial.state == state:
                return trial
    return trials[0]

# SPDX-License-Identifier: GPL-2.0
"""What one pytest process keeps while it runs DAMON tests: options, results, the DAMON under test."""

from __future__ import annotations

import os
import platform
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

import damon_tests
from damon_tests import bundle
from damon_tests.commands.run_reporter import NAME as REPORTER
from damon_tests.damon.capability import Capabilities
from damon_tests.damon.expected_features import compare, series_of
from damon_tests.damon.features import FEATURES
from damon_tests.experiment.backend import Backend
from damon_tests.experiment.lease import to_stderr
from damon_tests.experiment.observation import Observation
from damon_tests.experiment.open_backend import open_backend
from damon_tests.judge import features
from damon_tests.judge.conclude import Conclusion, conclude
from damon_tests.judge.expect import Expect
from damon_tests.judge.monitoring.invariants import never_aggregated, recorded
from damon_tests.judge.verdict import Check, Measurement
from damon_tests.kernel.splat import parse_splats
from damon_tests.ports import DamonTestsError, MachineLost, NotSupported, stopwatch
from damon_tests.ports.narration import narrated
from damon_tests.pytest_options import kernel_request, options_of_rerun
from damon_tests.report import artifacts
from damon_tests.report.events import MAIN, RunLog
from damon_tests.scenario.visibility import visibility

COMMAND = "damon_command"
"""The key under which a worker gets the command line that began the run."""

_OF_WORKERS = "import sys;exec(eval(sys.stdin.readline()))"  # execnet's command line
_WORKERS_END_S = 5

_FEATURES_JUDGED = ".features"


class Interruptions:
    """A plugin that notes whether a run was interrupted.

    DamonRun itself is no plugin: pytest before 8.4 reads every property of one, which would open the kernel.
    """

    def __init__(self, run: DamonRun) -> None:
        self._run = run

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """pytest's. A run that stops early by itself (``-x``) ends so too, but by a kind of its own."""
        kind = excinfo.type
        end_workers(self._run.config)
        self._run.interrupted = kind is KeyboardInterrupt or not issubclass(kind, KeyboardInterrupt)


def end_workers(config: pytest.Config) -> None:
    """Send xdist's workers SIGTERM, if there are any, so that they end their tests and guests now.

    xdist would wait 10 s for them to finish their tests, and kill them then.
    """
    distributed: Any = config.pluginmanager.getplugin("dsession")
    if distributed is None or not hasattr(distributed, "nodemanager"):
        return
    distributed.nodemanager.EXIT_TIMEOUT = _WORKERS_END_S
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if _OF_WORKERS in child.cmdline():
                child.terminate()


class DamonRun:
    """What one pytest process keeps while it runs DAMON tests."""

    def __init__(self, config: pytest.Config, began: float | None = None) -> None:
        """``began``: when the run did, seconds since the epoch (default: the reporter's, else now)."""
        self.config = config
        reporter = config.pluginmanager.getplugin(REPORTER)
        self.began: float = began or getattr(reporter, "began", None) or time.time()
        self.output = Path(config.option.output).absolute()
        self.stack = ExitStack()
        self._log: RunLog | None = None
        self._backend: Backend | None = None
        self._unavailable: DamonTestsError | None = None
        self._visibility: Check | None = None
        self.interrupted = False
        self.lost = ""
        """Why results could not be written; empty if they could."""

    @property
    def log(self) -> RunLog:
        """The run's events; the directory is made when the first DAMON test begins."""
        if self._log is None:
            worker = getattr(self.config, "workerinput", {}).get("workerid", MAIN)
            self._log = self.stack.enter_context(RunLog(self.output, worker))
            require = self.config.option.require
            self._log.run_started(self._provenance(), require=require, began=self.began)
            self._log.timing("start and collect tests", max(0.0, time.time() - self.began))
        return self._log

    @property
    def backend(self) -> Backend:
        """Opened by the first test that needs it.

        Raises NotSupported when there is no such DAMON to be had here (each test is skipped with the reason),
        another DamonTestsError when opening it went wrong; asked again it says the same again.
        """
        if self._unavailable is not None:
            raise self._unavailable
        if self._backend is None:
            self.notify_slow_opening()
            began = time.monotonic()
            try:
                with narrated(self.notify):
                    self._backend = self._open_backend()
            except DamonTestsError as error:
                self._unavailable = error
                if isinstance(error, MachineLost):
                    artifacts.keep_console(self.log, error.log)
                raise
            finally:
                self.log.timing("open kernel", time.monotonic() - began)
            self.log.run_started({"kernel": dict(self._backend.provenance())})
            self._judge_features(self._backend)
        return self._backend

    def _judge_features(self, backend: Backend) -> None:
        """Log a verdict of its own if DAMON lacks what its series has: once a run, whatever tests run."""
        forced = self.config.option.level is not None
        release = "" if forced else str(backend.provenance().get("release", ""))
        series = series_of(backend.level, release)
        report = compare(backend.capabilities(), series, backend.kernel_config())
        self.log.run_started({"features": asdict(report)})
        if not report.missing:
            return
        try:
            os.close(os.open(self.output / _FEATURES_JUDGED, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except OSError:
            return  # another worker did
        check = features.all_there(report)
        conclusion = conclude([check])
        self.log.test_started(features.ROW, *self.identity())
        self.log.check(features.ROW, check)
        self.log.test_finished(features.ROW, *self.identity(), conclusion.verdict, conclusion.reason, 0.0)

    def _open_backend(self) -> Backend:
        """Open the DAMON that --kernel names, and find out what it can do (a kernel boots here)."""
        opened = open_backend(kernel_request(self.config.option), self.output, self.notify)
        backend = self.stack.enter_context(opened)
        require_damon(backend.capabilities())
        return backend

    def identity(self) -> tuple[str, str]:
        """(backend, level) for the log; the word given to --kernel and no level when it could not be opened.

        Opens nothing: a kernel that did not boot is not booted again to be named.
        """
        if self._backend is None:
            return self.config.option.kernel, ""
        return self._backend.name, self._backend.level

    def notify_slow_opening(self) -> None:
        """Say that a kernel boots, which takes long enough to be wondered about."""
        request = kernel_request(self.config.option)
        if not request.is_reference and not request.is_host and not hasattr(self.config, "workerinput"):
            self.notify(f"booting {request.kernel} (downloaded first if it is not in the cache)")

    def notify(self, text: str) -> None:
        """Print a line now: what a test prints is captured by pytest and kept back if it passes."""
        reporter = self.config.pluginmanager.getplugin(REPORTER)
        if reporter is not None:
            reporter.notify(text)
            return
        capture = self.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled() if capture else nullcontext():
            to_stderr(text)

    @property
    def visibility(self) -> Check | None:
        """Whether this machine shows accesses, measured once; None where it does by construction."""
        if self._visibility is None and not self.backend.shows_all_accesses:
            self._visibility = visibility(self.backend, self.config.option.seed)
        return self._visibility

    def _provenance(self) -> dict[str, object]:
        option = self.config.option
        return {
            "damon_tests": damon_tests.__version__,
            "commit": bundle.commit(),
            "command": getattr(self.config, "workerinput", {}).get(COMMAND, shlex.join(sys.argv)),
            "seed": option.seed,
            "profile": option.profile,
            "kernel_option": option.kernel,
            "options": options_of_rerun(option),
            "root": str(self.config.rootpath),
            "machine": {
                "release": platform.release(),
                "architecture": platform.machine(),
                "python": platform.python_version(),
            },
        }


def test_id(item: pytest.Item) -> str:
    """Return how a test is named in results: as pytest does or, outside of its root, by the file's path.

    pytest would leave out the name of a file outside of its root.
    """
    if item.path.is_relative_to(item.config.rootpath):
        return item.nodeid
    return f"{item.path}::{item.nodeid.partition('::')[2]}"


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP, which CI's cancel and a closed terminal send, end a run as Ctrl-C does.

    Results are written and guests ended; another such signal meanwhile changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGHUP)

    def interrupt(number: int, frame: object) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt(signal.Signals(number).name)

    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if handler == signal.SIG_DFL:
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def require_damon(capabilities: Capabilities) -> None:
    """Raise NotSupported if the kernel runs, and has nothing of DAMON's sysfs interface."""
    interface = [f.name for f in FEATURES.values() if f.by in ("file", "word", "ops")]
    if all(capabilities.present[name] is False for name in interface):
        raise NotSupported(
            "this kernel has no DAMON: there is no /sys/kernel/mm/damon",
            remedy="build it with CONFIG_DAMON, _SYSFS, _VADDR and _PADDR",
        )


@dataclass
class DamonTest:
    """What one DAMON test leaves behind until its verdict is written."""

    expect: Expect
    began: float = field(default_factory=time.monotonic)
    observations: list[Observation] = field(default_factory=list)
    splats: list[str] = field(default_factory=list)
    conclusion: Conclusion | None = None

    def say_what_never_aggregated(self, error: BaseException | None) -> None:
        """Add the check that fails, where the test could not decide, or broke, as DAMON never aggregated."""
        broken = error is not None and not isinstance(error, DamonTestsError)
        if broken or (error is None and any(c.holds is None for c in self.expect.checks)):
            shown = {c.measurement.name for c in self.expect.checks if c.holds is False}
            checks = [recorded(o.recording) for o in self.observations if never_aggregated(o.recording)]
            self.expect.add(c for c in checks[:1] if c.measurement.name not in shown)


def repeat_after_lost_guest(
    item: pytest.Function, test: DamonTest, lost: BaseException
) -> BaseException | None:
    """Run a test's function once more if its guest was lost; return what that raised, None if nothing.

    An emulator that ends by itself says nothing about DAMON. A kernel that crashed is not tried again, nor a
    test that has shown a violation or a complaint already, nor one that holds on to its guest (``subject``).
    The lost guest is kept as a measurement of the test.
    """
    crashed = isinstance(lost, MachineLost) and parse_splats(lost.log)
    shown = test.splats or any(check.holds is False for check in test.expect.checks)
    if not isinstance(lost, MachineLost) or crashed or shown or "subject" in item.funcargs:
        return lost
    run = item.config.stash[RUN]
    run.log.measurement(test_id(item), Measurement("guests lost", 1, "count"))
    test.expect.checks.clear()
    test.observations.clear()
    arguments = {name: item.funcargs[name] for name in item._fixtureinfo.argnames}
    try:
        item.obj(**arguments)
    except (Exception, pytest.skip.Exception) as raised:
        return raised
    return None


def idle_of_workers_s(last_of: Mapping[str, float]) -> float:
    """Return how long the workers of pytest-xdist had nothing to do while others ran the last tests.

    ``last_of``: when each process wrote its last event.
    """
    ends = [last for worker, last in last_of.items() if worker != MAIN]
    return sum(max(ends) - end for end in ends)


def outside_of_tests_s(run: Mapping[str, Any], now: float, processes: int) -> float:
    """Return the seconds of the run that no timing names: between tests, and ending processes.

    ``run``: of run.json; ``now``: seconds since the epoch.
    """
    wall_s = now - (run["started"] or now)
    return float(max(0.0, wall_s * processes - sum(run["timings"].values())))


def where_time_went(test: DamonTest, duration_s: float) -> dict[str, float]:
    """Return the seconds of a test by what they were spent on, attempts excepted: those have their own."""
    attempts = sum(sum(observation.seconds.values()) for observation in test.observations)
    spent = stopwatch.take()
    rest = duration_s - attempts - sum(spent.values())
    return {**spent, "judge in tests": max(0.0, rest)}


RUN = pytest.StashKey[DamonRun]()
TEST = pytest.StashKey[DamonTest]()

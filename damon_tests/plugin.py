# SPDX-License-Identifier: GPL-2.0
"""pytest hooks: options, fixtures, and a verdict instead of an outcome.

Loaded by the project's own configuration and by ``damon-tests run`` (``-p damon_tests.plugin``),
never forced on other projects. A test that asks for the ``expect`` fixture is a DAMON test:
its checks make its verdict (``judge.conclude``). Every other test is left alone.
"""

from __future__ import annotations

import platform
import shlex
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import damon_tests
from damon_tests.experiment.backend import Backend, Subject
from damon_tests.experiment.experiment import derive_seed
from damon_tests.experiment.fixtures import ExperimentFixture, LiveFixture
from damon_tests.experiment.lease import to_stderr
from damon_tests.experiment.observation import Observation
from damon_tests.experiment.requirements import Needs, Requirements, combine, evaluate, given, not_supported
from damon_tests.experiment.select import check_workers, most_workers, open_backend
from damon_tests.experiment.trial import OnAttempt
from damon_tests.judge.collect import Expect
from damon_tests.judge.conclude import Conclusion, KnownDefect, conclude
from damon_tests.judge.verdict import Check, Measurement, Verdict
from damon_tests.judge.visibility import visibility
from damon_tests.kernel.topology import Topology
from damon_tests.ports import DamonTestsError, NotSupported
from damon_tests.report import artifacts, model, show
from damon_tests.report.events import RunLog

MARKERS = (
    "needs(*features, **machine): what DAMON must have (names of damon.features) and the machine"
    " (fields of experiment.requirements.Needs); all that is missing is named",
    "accuracy: judged only where this machine shows accesses to DAMON (checked once)",
    "profile(name): 'full' leaves the test out of --profile quick",
    "known_defect(name, evidence, levels, kernels_only=False): an open defect that the test shows",
)
VERDICT = "damon_verdict"
OUTPUT = "damon_output"


class DamonRun:
    """What one pytest process keeps while it runs DAMON tests."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.output = Path(config.option.output).absolute()
        self.stack = ExitStack()
        self._log: RunLog | None = None
        self._backend: Backend | None = None
        self._unavailable: NotSupported | None = None
        self._visibility: Check | None = None

    @property
    def log(self) -> RunLog:
        """The run's events; the directory is made when the first DAMON test begins."""
        if self._log is None:
            worker = getattr(self.config, "workerinput", {}).get("workerid", "main")
            self._log = self.stack.enter_context(RunLog(self.output, worker))
            self._log.run_started(self._provenance(), require=self.config.option.require)
        return self._log

    @property
    def backend(self) -> Backend:
        """Opened by the first test that needs it.

        Raises NotSupported when there is no such DAMON to be had here (each test is skipped with the reason);
        a word that is malformed, or a harness that breaks, ends the run with a sentence.
        """
        if self._unavailable is not None:
            raise self._unavailable
        if self._backend is None:
            option = self.config.option
            began = time.monotonic()
            try:
                opened = open_backend(
                    option.kernel,
                    self.output,
                    option.level,
                    option.fault,
                    option.stop_modules,
                    self._tell,
                    option.keep_guest,
                    option.guest_clock,
                )
                self._backend = self.stack.enter_context(opened)
                self._backend.capabilities()
            except NotSupported as missing:
                self._unavailable = missing
                raise
            except DamonTestsError as error:
                pytest.exit(f"--kernel {option.kernel}: {error}", returncode=error.exit_code)
            self.log.timing("open kernel", time.monotonic() - began)
            self.log.run_started({"kernel": dict(self._backend.provenance())})
        return self._backend

    def identity(self) -> tuple[str, str]:
        """(backend, level) for the log, also when it could not be opened."""
        if self._backend is None:
            return self.config.option.kernel, ""
        return self._backend.name, self._backend.level

    def _tell(self, text: str) -> None:
        """Now and always: pytest would keep from the user what they have to wait for."""
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
            "command": shlex.join(sys.argv),
            "seed": option.seed,
            "profile": option.profile,
            "kernel_option": option.kernel,
            "machine": {
                "release": platform.release(),
                "architecture": platform.machine(),
                "python": platform.python_version(),
            },
        }


@dataclass
class DamonTest:
    """What one DAMON test leaves behind until its verdict is written."""

    expect: Expect
    began: float = field(default_factory=time.monotonic)
    observations: list[Observation] = field(default_factory=list)
    conclusion: Conclusion | None = None


RUN = pytest.StashKey[DamonRun]()
TEST = pytest.StashKey[DamonTest]()


# --- options and collection ------------------------------------------------------------------


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
    group.addoption("--seed", type=int, default=1, metavar="N", help="seed of the run (default: 1)")
    group.addoption("--fault", metavar="NAME", help="make the reference wrong on purpose: who notices?")
    group.addoption("--stop-modules", action="store_true", help="of --kernel host, and restore them")
    group.addoption("--keep-guest", action="store_true", help="one guest for all tests")
    group.addoption("--guest-clock", choices=("instructions", "host"), help="what time emulated guests see")
    group.addoption("--require", action="store_true", help="a test that cannot run fails")
    group.addoption("--first", metavar="FILE", help="test ids, one a line: these run first, in this order")
    group.addoption("--until-fail", action="store_true", help="end with the first verdict FAIL")


def pytest_configure(config: pytest.Config) -> None:
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    workers = getattr(config.option, "numprocesses", None)
    try:
        check_workers(
            config.option.kernel, workers if isinstance(workers, int) else 0, config.option.guest_clock
        )
    except DamonTestsError as error:
        raise pytest.UsageError(str(error)) from None
    # All of xdist's workers write to the controller's directory.
    config.option.output = getattr(config, "workerinput", {}).get(OUTPUT, config.option.output)
    if config.option.output is None:
        config.option.output = str(artifacts.new_directory())
    config.stash[RUN] = DamonRun(config)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """xdist's: what ``-n auto`` means."""
    return most_workers(config.option.kernel, config.option.guest_clock)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """xdist's: what a worker cannot know from the command line."""
    node.workerinput[OUTPUT] = str(node.config.stash[RUN].output)


def pytest_unconfigure(config: pytest.Config) -> None:
    if RUN in config.stash:
        config.stash[RUN].stack.close()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.option.profile == "quick":
        full = [i for i in items if any(m.args == ("full",) for m in i.iter_markers("profile"))]
        if full:
            config.hook.pytest_deselected(items=full)
            items[:] = [i for i in items if i not in full]
    if config.option.first:
        first = Path(config.option.first).read_text(encoding="utf-8").splitlines()
        order = {test: number for number, test in enumerate(first)}
        items.sort(key=lambda item: order.get(item.nodeid, len(order)))


def _is_damon_test(item: pytest.Item) -> bool:
    return "expect" in getattr(item, "fixturenames", ())


def _requirements(item: pytest.Item) -> Requirements:
    """All ``needs`` markers of a test, its class and its module together."""
    markers = [Requirements(m.args, needs=Needs(**m.kwargs)) for m in item.iter_markers("needs")]
    return combine(*markers)


# --- fixtures --------------------------------------------------------------------------------


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Backend:
    """The DAMON under test."""
    return request.config.stash[RUN].backend


@pytest.fixture
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """A pristine DAMON of the backend, without a target: for tests of its interface."""
    run = request.config.stash[RUN]
    seed = derive_seed(run.config.option.seed, request.node.nodeid, 1, "subject")
    made = run.backend.subject(seed, _machine_needed(request))
    yield made
    made.close()


@pytest.fixture
def expect(request: pytest.FixtureRequest) -> Expect:
    """Collects this test's checks; they make its verdict."""
    test: DamonTest = request.node.stash[TEST]
    return test.expect


def _attempts(request: pytest.FixtureRequest) -> tuple[Callable[[], Backend], str, int, OnAttempt]:
    """What fixtures that make attempts need: the DAMON, the test's id, the run's seed, and whom to tell."""
    run, item = request.config.stash[RUN], request.node

    def keep(seen: Observation) -> None:
        item.stash[TEST].observations.append(seen)
        artifacts.keep_attempt(run.log, item.nodeid, seen)

    return lambda: run.backend, item.nodeid, run.config.option.seed, keep


def _machine_needed(request: pytest.FixtureRequest) -> Topology:
    return _requirements(request.node).needs.topology()


@pytest.fixture
def experiment(request: pytest.FixtureRequest) -> ExperimentFixture:
    """States what to do; ``.observe()`` does it."""
    return ExperimentFixture(*_attempts(request), needed=_machine_needed(request))


@pytest.fixture
def live(request: pytest.FixtureRequest) -> LiveFixture:
    """Targets and DAMON that the test body changes while they run."""
    return LiveFixture(*_attempts(request), needed=_machine_needed(request))


# --- one test --------------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if not _is_damon_test(item):
        return
    run = item.config.stash[RUN]
    test = DamonTest(Expect(lambda check: run.log.check(item.nodeid, check)))
    item.stash[TEST] = test
    missing: NotSupported | None = None
    try:
        backend = run.backend
        lacking = evaluate(_requirements(item), backend.capabilities(), backend.machine_has())
        missing = not_supported(lacking) if lacking else None
    except NotSupported as error:
        missing = error
    run.log.test_started(item.nodeid, *run.identity())
    if missing is not None:
        test.conclusion = conclude((), missing)
        _raise_outcome(test.conclusion, require=item.config.option.require)
    for what in given(_requirements(item).needs):
        run.log.measurement(item.nodeid, Measurement(f"machine: {what}", 1, "count"))


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    if not _is_damon_test(pyfuncitem):
        return (yield)
    run, test = pyfuncitem.config.stash[RUN], pyfuncitem.stash[TEST]
    error: BaseException | None = None
    try:
        if any(pyfuncitem.iter_markers("accuracy")) and (shown := run.visibility) is not None:
            test.expect.add(shown)
        yield
    except (Exception, pytest.skip.Exception) as raised:
        error = NotSupported(str(raised)) if isinstance(raised, pytest.skip.Exception) else raised
    splats = [s for seen in test.observations for s in seen.splats]
    defects = [KnownDefect(**m.kwargs) for m in pyfuncitem.iter_markers("known_defect")]
    if run.backend.name.startswith("reference"):
        defects = [d for d in defects if not d.kernels_only]
    test.conclusion = conclude(test.expect.checks, error, splats, defects, run.backend.level)
    artifacts.keep_evidence(run.log, pyfuncitem.nodeid, test.conclusion.verdict, test.observations, error)
    if (
        test.conclusion.verdict is Verdict.ERROR
        and error is not None
        and not isinstance(error, DamonTestsError)
    ):
        raise error  # a defect of the harness: its traceback is what helps
    _raise_outcome(test.conclusion, require=pyfuncitem.config.option.require)
    return True


def _raise_outcome(conclusion: Conclusion, *, require: bool) -> None:
    """pytest's outcome for a verdict; its text is the verdict's reason."""
    verdict, reason = conclusion.verdict, conclusion.reason
    if verdict is Verdict.PASS:
        return
    if verdict is Verdict.SKIP and not require:
        pytest.skip(reason)
    if verdict is Verdict.XFAIL:
        pytest.xfail(reason)
    pytest.fail(f"{verdict}: {reason}", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if not _is_damon_test(item) or TEST not in item.stash:
        return report
    test, run = item.stash[TEST], item.config.stash[RUN]
    shown = test.conclusion is not None and test.conclusion.verdict is Verdict.FAIL
    if report.failed and not shown and (test.conclusion is None or report.when == "teardown"):
        # A fixture, ours or the test's, broke: nothing is said about DAMON. A violation stays shown.
        error = call.excinfo.value if call.excinfo is not None else None
        test.conclusion = Conclusion(Verdict.ERROR, f"{report.when}: {error}")
    if test.conclusion is not None:
        report.user_properties.append((VERDICT, str(test.conclusion.verdict)))
    if report.when == "teardown":
        _finish(run, item.nodeid, test)
        failed = test.conclusion is not None and test.conclusion.verdict is Verdict.FAIL
        if failed and item.config.option.until_fail:
            item.session.shouldstop = "--until-fail"
    return report


def _finish(run: DamonRun, test_id: str, test: DamonTest) -> None:
    conclusion = test.conclusion or Conclusion(Verdict.ERROR, "interrupted")
    duration_s = time.monotonic() - test.began
    run.log.test_finished(test_id, *run.identity(), conclusion.verdict, conclusion.reason, duration_s)


# --- the run ---------------------------------------------------------------------------------

_WORDS = {
    Verdict.PASS: ("passed", ".", "PASS"),
    Verdict.FAIL: ("failed", "F", "FAIL"),
    Verdict.XFAIL: ("xfailed", "x", "XFAIL"),
    Verdict.XPASS: ("failed", "X", "XPASS"),
    Verdict.SKIP: ("skipped", "s", "SKIP"),
    Verdict.INCONCLUSIVE: ("failed", "I", "INCONCLUSIVE"),
    Verdict.ERROR: ("error", "E", "ERROR"),
}


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    verdict = dict(getattr(report, "user_properties", ())).get(VERDICT)
    if verdict is None or not (report.when == "call" or (report.when == "setup" and not report.passed)):
        return None
    category, letter, word = _WORDS[Verdict(str(verdict))]
    if report.skipped and category == "failed":
        return None
    return category, letter, word


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Derive the run's files from its events, and make the exit code that of the verdicts."""
    config = session.config
    run = config.stash[RUN]
    if hasattr(config, "workerinput") or not (run.output / "events.jsonl").exists():
        return
    with RunLog(run.output) as log:
        log.run_finished(interrupted=exitstatus == pytest.ExitCode.INTERRUPTED)
    finished = model.save(run.output)
    show.write_files(run.output, finished)
    ours = model.exit_code(finished)
    # Interrupted, internal and usage errors keep pytest's code; other tests of the session may have failed.
    if exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED):
        others_failed = exitstatus == pytest.ExitCode.TESTS_FAILED and ours in (0, 5)
        session.exitstatus = 1 if others_failed else ours


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    run = config.stash[RUN]
    if (run.output / model.RUN_JSON).exists():
        terminalreporter.write_line("")
        for line in show.lines(run.output, color=terminalreporter.hasmarkup):
            terminalreporter.write_line(line)

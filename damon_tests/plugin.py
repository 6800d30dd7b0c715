# SPDX-License-Identifier: GPL-2.0
"""pytest hooks: options, fixtures, and a verdict instead of an outcome.

Loaded by the project's own configuration and by ``damon-tests run`` (``-p damon_tests.plugin``),
never forced on other projects. A test that asks for the ``expect`` fixture is a DAMON test:
its checks make its verdict (``judge.conclude``). Every other test is left alone.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from _pytest.outcomes import OutcomeException

from damon_tests import pytest_options, pytest_results
from damon_tests.experiment.attempt import OnAttempt
from damon_tests.experiment.backend import Backend, Subject
from damon_tests.experiment.experiment import derive_seed
from damon_tests.experiment.observation import Observation
from damon_tests.experiment.requirements import evaluate, given, not_supported
from damon_tests.judge.conclude import Conclusion, conclude
from damon_tests.judge.expect import Expect
from damon_tests.judge.verdict import Measurement, Verdict
from damon_tests.ports import DamonTestsError, HarnessError, NotSupported, stopwatch
from damon_tests.ports.stopwatch import timed
from damon_tests.pytest_items import (
    SPOILED_BY,
    at_its_line,
    deselect,
    is_damon_test,
    is_of_full_profile,
    machine_needed,
    marked_defects,
    requirements,
)
from damon_tests.pytest_results import TRACEBACK, VERDICT
from damon_tests.pytest_run import (
    COMMAND,
    RUN,
    TEST,
    DamonRun,
    DamonTest,
    Interruptions,
    interrupted_by_signals,
    repeat_after_lost_guest,
    test_id,
    where_time_went,
)
from damon_tests.pytest_skips import held_to_list
from damon_tests.report import artifacts
from damon_tests.scenario.drawing import Draws
from damon_tests.scenario.fixtures import ExperimentFixture, LiveFixture
from damon_tests.scenario.module_fixture import ModuleFixture

MARKERS = (
    "needs(*features, **machine): what DAMON must have (names of damon.features) and the machine"
    " (fields of experiment.requirements.Needs); all that is missing is named",
    "accuracy: judged only where this machine shows accesses to DAMON (checked once)",
    "profile(name): 'full' leaves the test out of --profile quick",
    "known_defect(key): an open defect of some kernels that the test shows; known_defects.yaml above the"
    " test, else that of the suites, says which kernels have it and what fails there",
    "spoiled_by(key): an open defect of some kernels that leaves nothing to judge; the test is skipped there,"
    " and another one, known_defect(key), shows the defect",
)
BEGAN = "damon_began"
# pytest prints the name of the exception's class before the message.
_Refused = type("damon-tests", (pytest.exit.Exception,), {})


# --- options and collection ------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    pytest_options.add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    pytest_options.choose_seed(config.option, os.environ)
    try:
        claim = pytest_options.claim_output(config)
        pytest_options.check(config.option)
    except DamonTestsError as error:
        raise _Refused(str(error), returncode=error.exit_code) from None
    run = DamonRun(config, getattr(config, "workerinput", {}).get(BEGAN))
    config.stash[RUN] = run
    config.pluginmanager.register(Interruptions(run))
    if claim is not None:
        run.stack.callback(claim.release)
    run.stack.enter_context(interrupted_by_signals())


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """xdist's: what ``-n auto`` means."""
    return pytest_options.kernel_request(config.option).most_workers()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """xdist's: what a worker cannot know from the command line."""
    run = node.config.stash[RUN]
    node.workerinput[pytest_options.OUTPUT] = str(run.output)
    node.workerinput[BEGAN] = run.began
    node.workerinput[COMMAND] = shlex.join(sys.argv)


def pytest_unconfigure(config: pytest.Config) -> None:
    if RUN in config.stash:
        config.stash[RUN].stack.close()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        marked_defects(item)
        marked_defects(item, SPOILED_BY)
    if config.option.profile == "quick":
        deselect(config, items, {i.nodeid for i in items if is_of_full_profile(i)})
    deselect(config, items, pytest_options.outside_shard(config.option, [i.nodeid for i in items]))
    if config.option.first:
        first = Path(config.option.first).read_text(encoding="utf-8").splitlines()
        order = {test: number for number, test in enumerate(first)}
        items.sort(key=lambda item: order.get(item.nodeid, len(order)))


# --- fixtures --------------------------------------------------------------------------------


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Backend:
    """The DAMON under test."""
    return request.config.stash[RUN].backend


@pytest.fixture
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    """A pristine DAMON of the backend, without a target: for tests of its interface."""
    run = request.config.stash[RUN]
    seed = derive_seed(run.config.option.seed, test_id(request.node), 1, "subject")
    made = run.backend.subject(seed, machine_needed(request.node))
    yield made
    made.close()


@pytest.fixture
def expect(request: pytest.FixtureRequest) -> Expect:
    """Collects this test's checks; they make its verdict."""
    test: DamonTest = request.node.stash[TEST]
    return test.expect


def _attempts(request: pytest.FixtureRequest) -> tuple[Callable[[], Backend], str, int, OnAttempt]:
    """Return what fixtures that make attempts need: the DAMON, the test's id, the run's seed, and what keeps
    each attempt."""
    run, item = request.config.stash[RUN], request.node

    def keep(observation: Observation) -> None:
        item.stash[TEST].observations.append(observation)
        with timed("write results"):
            artifacts.keep_attempt(run.log, test_id(item), observation)

    return lambda: run.backend, test_id(item), run.config.option.seed, keep


@pytest.fixture
def draws(request: pytest.FixtureRequest) -> Draws:
    """Return seeded generators for drawn cases: ``for rng in draws(20)``; more of them with ``--budget``."""
    seed, budget_s = request.config.option.seed, request.config.option.budget
    drawing = sum("draws" in getattr(item, "fixturenames", ()) for item in request.session.items)
    shrinks = not request.config.option.fault
    return Draws(seed, test_id(request.node), budget_s / max(1, drawing), shrinks)


@pytest.fixture
def experiment(request: pytest.FixtureRequest) -> ExperimentFixture:
    """States what to do; ``.observe()`` does it."""
    return ExperimentFixture(
        *_attempts(request),
        needed=machine_needed(request.node),
        decided=lambda: _has_failed(request.node),
    )


def _has_failed(item: pytest.Item) -> bool:
    """Return whether an exact check failed. A known defect's test is judged whole: the defect may be all."""
    checks = item.stash[TEST].expect.checks
    return not marked_defects(item) and any(c.holds is False and c.kind == "invariant" for c in checks)


@pytest.fixture
def live(request: pytest.FixtureRequest) -> LiveFixture:
    """Targets and DAMON that the test body changes while they run."""
    test: DamonTest = request.node.stash[TEST]
    return LiveFixture(
        *_attempts(request), needed=machine_needed(request.node), complained=test.splats.extend
    )


@pytest.fixture
def module(request: pytest.FixtureRequest) -> ModuleFixture:
    """Targets, and a built-in module of DAMON that the test body enables and changes."""
    test: DamonTest = request.node.stash[TEST]
    return ModuleFixture(
        *_attempts(request), needed=machine_needed(request.node), complained=test.splats.extend
    )


# --- one test --------------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if not is_damon_test(item):
        return
    run = item.config.stash[RUN]
    test = DamonTest(Expect(lambda check: run.log.check(test_id(item), check)))
    item.stash[TEST] = test
    missing: NotSupported | None = None
    try:
        backend = run.backend
        lacking = evaluate(requirements(item), backend.capabilities(), backend.machine_has())
        missing = not_supported(lacking) if lacking else spoiled(run, item)
    except NotSupported as error:
        missing = error
    except DamonTestsError as error:
        # Every other test says the same, at once: the kernel is opened only once.
        test.conclusion = Conclusion(Verdict.ERROR, f"--kernel {item.config.option.kernel}: {error}")
    stopwatch.take()
    test.began = time.monotonic()  # opening the kernel is no time of this test
    run.log.test_started(test_id(item), *run.identity())
    if test.conclusion is not None:
        _raise_outcome(test.conclusion, require=False)
    if missing is not None:
        test.conclusion = held_to_list(item, conclude((), missing), missing)
        _raise_outcome(test.conclusion, require=item.config.option.require)
    for what in given(requirements(item).needs):
        run.log.measurement(test_id(item), Measurement(f"machine: {what}", 1, "count"))


def spoiled(run: DamonRun, item: pytest.Item) -> NotSupported | None:
    """Return the skip of a test to which a known defect of the kernel leaves nothing; None without one."""
    release = str(run.backend.provenance().get("release", ""))
    defects = [d for d in marked_defects(item, SPOILED_BY) if d.applies(run.backend.level, release)]
    if run.backend.simulated:
        defects = [d for d in defects if not d.kernels_only]
    if not defects:
        return None
    remedy = "use a release without it; the test that is marked with it shows the defect"
    return NotSupported(*(f"known defect {defect}" for defect in defects), remedy=remedy)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    if not is_damon_test(pyfuncitem):
        return (yield)
    run, test = pyfuncitem.config.stash[RUN], pyfuncitem.stash[TEST]
    error: BaseException | None = None
    try:
        if any(pyfuncitem.iter_markers("accuracy")) and (shown := run.visibility) is not None:
            test.expect.add(shown)
        yield
    except (Exception, pytest.skip.Exception) as raised:
        error = _why_not(run, repeat_after_lost_guest(pyfuncitem, test, raised))
        if error is not None:
            error = at_its_line(error, pyfuncitem)
    test.say_what_never_aggregated(error)
    splats = _complaints(pyfuncitem, test)
    defects = marked_defects(pyfuncitem)
    if run.backend.simulated:
        defects = [d for d in defects if not d.kernels_only]
    release = str(run.backend.provenance().get("release", ""))
    test.conclusion = conclude(
        test.expect.checks, error, splats, defects, run.backend.level, release, pyfuncitem.originalname
    )
    test.conclusion = held_to_list(pyfuncitem, test.conclusion, error)
    try:
        artifacts.keep_evidence(
            run.log,
            test_id(pyfuncitem),
            test.conclusion.verdict,
            test.expect.checks,
            test.observations,
            error,
        )
    except HarnessError as lost:
        pyfuncitem.session.shouldfail = str(lost)
    if (
        test.conclusion.verdict is Verdict.ERROR
        and error is not None
        and not isinstance(error, DamonTestsError)
    ):
        raise error  # a defect of the harness: its traceback is what helps
    _raise_outcome(test.conclusion, require=pyfuncitem.config.option.require)
    return True


def _why_not(run: DamonRun, error: BaseException | None) -> BaseException | None:
    """Return why a test ended, as ``conclude`` takes it: a skip is NotSupported, but the refusal itself if
    DAMON refuses what it had when it was probed."""
    if isinstance(error, pytest.skip.Exception):
        error = NotSupported(str(error))  # nothing but its words says why
    if isinstance(error, NotSupported):
        return run.backend.capabilities().refuted_by(error) or error
    return error


def _complaints(item: pytest.Function, test: DamonTest) -> list[str]:
    """What the kernel complained about during a test, whichever way the test came to its DAMON."""
    titles = [*(s for observation in test.observations for s in observation.splats), *test.splats]
    subject: Any = item.funcargs.get("subject")
    if subject is not None:
        with suppress(DamonTestsError):  # a machine that is lost was reported already
            titles += subject.splats()
    return titles


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
    if not is_damon_test(item) or TEST not in item.stash:
        return report
    test, run = item.stash[TEST], item.config.stash[RUN]
    error = call.excinfo.value if call.excinfo is not None else None
    shown = test.conclusion is not None and test.conclusion.verdict is Verdict.FAIL
    if test.conclusion is None and isinstance(error, NotSupported | pytest.skip.Exception):
        test.conclusion = _skipped_by_fixture(item, report, error)
    elif report.failed and not shown and (test.conclusion is None or report.when == "teardown"):
        # A fixture, ours or the test's, broke: nothing is said about DAMON. A violation stays shown.
        test.conclusion = Conclusion(Verdict.ERROR, f"{report.when}: {error}")
    if test.conclusion is not None:
        report.user_properties.append((VERDICT, str(test.conclusion.verdict)))
    if error is not None and not isinstance(error, DamonTestsError | OutcomeException):
        report.user_properties.append((TRACEBACK, "True"))
    if report.when == "teardown":
        _finish(run, test_id(item), test)
        failed = test.conclusion is not None and test.conclusion.verdict is Verdict.FAIL
        if failed and item.config.option.until_fail:
            item.session.shouldfail = "--until-fail"
        if run.log.lost:
            item.session.shouldfail = run.log.lost
    return report


def _skipped_by_fixture(item: pytest.Item, report: pytest.TestReport, error: BaseException) -> Conclusion:
    """Return the conclusion of a test whose fixture skipped it, and make the report one of that verdict."""
    reason = _why_not(item.config.stash[RUN], error)
    conclusion = held_to_list(item, conclude((), reason), reason)
    if conclusion.verdict is Verdict.SKIP and not item.config.option.require:
        report.outcome = "skipped"
        report.longrepr = (str(item.path), (item.location[1] or 0) + 1, f"Skipped: {conclusion.reason}")
    else:
        report.outcome, report.longrepr = "failed", str(conclusion)
    return conclusion


def _finish(run: DamonRun, name: str, test: DamonTest) -> None:
    conclusion = test.conclusion or Conclusion(Verdict.ERROR, "interrupted")
    duration_s = time.monotonic() - test.began
    for what, seconds in where_time_went(test, duration_s).items():
        run.log.timing(what, seconds)
    run.log.test_finished(name, *run.identity(), conclusion.verdict, conclusion.reason, duration_s)


# --- the run ---------------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    return pytest_results.status(report)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    pytest_results.finish_session(session, exitstatus)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> Generator[None, None, None]:
    with pytest_results.summary(terminalreporter, config):
        yield

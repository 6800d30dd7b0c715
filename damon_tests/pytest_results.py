# SPDX-License-Identifier: GPL-2.0
"""Verdicts in pytest's terms: words and letters, the exit code, and the summary at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from damon_tests.commands import report
from damon_tests.commands.run_reporter import NAME as REPORTER
from damon_tests.judge.verdict import Verdict
from damon_tests.ports import HarnessError
from damon_tests.pytest_run import RUN, idle_of_workers_s, outside_of_tests_s
from damon_tests.pytest_skips import never_made
from damon_tests.report import ktap, model
from damon_tests.report.events import EVENTS, RunLog

VERDICT = "damon_verdict"
TRACEBACK = "damon_traceback"

_WORDS = {
    Verdict.PASS: ("passed", ".", "PASS"),
    Verdict.FAIL: ("failed", "F", "FAIL"),
    Verdict.XFAIL: ("xfailed", "x", "XFAIL"),
    Verdict.XPASS: ("failed", "X", "XPASS"),
    Verdict.SKIP: ("skipped", "s", "SKIP"),
    Verdict.INCONCLUSIVE: ("failed", "I", "INCONCLUSIVE"),
    Verdict.ERROR: ("error", "E", "ERROR"),
}


def status(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Return the category, letter and word of a report, as pytest_report_teststatus does."""
    verdict = dict(getattr(report, "user_properties", ())).get(VERDICT)
    if verdict is None or not (report.when == "call" or (report.when == "setup" and not report.passed)):
        return None
    category, letter, word = _WORDS[Verdict(str(verdict))]
    if report.skipped and category == "failed":
        return None
    if report.failed and category == "skipped":
        return "failed", "S", word  # --require; pytest folds reports of skips, and these are none
    return category, letter, word


_TO_BE_JUDGED = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)


def finish_session(session: pytest.Session, exitstatus: int) -> None:
    """Derive the run's files from its events, and make the exit code that of the verdicts."""
    config = session.config
    run = config.stash[RUN]
    if hasattr(config, "workerinput") or not (run.output / EVENTS).exists():
        return
    with RunLog(run.output) as log:
        processes = getattr(config.option, "numprocesses", None) or 1
        now = time.time()
        if idle_s := idle_of_workers_s(model.read_events(run.output).last_of):
            log.timing("wait for the last tests", idle_s)
        so_far = model.derive(run.output)
        log.timing("outside of tests", outside_of_tests_s(so_far, now, processes))
        log.run_finished(interrupted=run.interrupted)
    try:
        finished = model.save(run.output)
        report.write_files(run.output, finished)
        if config.option.ktap is not None:
            ktap.save(finished, Path(config.option.ktap))
    except OSError as error:
        run.lost = f"{run.output} cannot be written ({error.strerror})"
    run.lost = log.lost or run.lost
    ours = HarnessError.exit_code if run.lost else model.exit_code(model.load(run.output))
    # Internal and usage errors keep pytest's code, and so does Ctrl-C; a run that stops early (-x) is judged.
    stopped_early = exitstatus == pytest.ExitCode.INTERRUPTED and not run.interrupted
    if stopped_early or exitstatus in _TO_BE_JUDGED:
        # Other tests of the session may have failed, or made it stop.
        others_failed = stopped_early or exitstatus == pytest.ExitCode.TESTS_FAILED
        session.exitstatus = 1 if others_failed and ours in (0, 5) else ours


@contextmanager
def summary(terminalreporter: Any, config: pytest.Config) -> Iterator[None]:
    """Print our summary after pytest's own, which leaves out what it says, tracebacks excepted."""
    of_all = terminalreporter.stats
    terminalreporter.stats = {
        category: [r for r in reports if not _is_said_by_us(r)] for category, reports in of_all.items()
    }
    try:
        yield
    finally:
        terminalreporter.stats = of_all
    run, reporter = config.stash[RUN], config.pluginmanager.getplugin(REPORTER)
    if reporter is not None:
        reporter.summarize()
    elif (run.output / EVENTS).exists():
        terminalreporter.write_line("")
        verbose = config.get_verbosity() > 0
        for line in report.lines(run.output, color=terminalreporter.hasmarkup, verbose=verbose):
            terminalreporter.write_line(line)
    if config.option.require:
        terminalreporter.write_line("Skips fail this run: --require")
    if config.option.allow_skips is not None and (run.output / EVENTS).exists():
        unused = never_made(config, model.load(run.output))
        if unused:
            names = ", ".join(map(repr, unused[:3])) + (f" and {len(unused) - 3} more" if unused[3:] else "")
            terminalreporter.write_line(f"{config.option.allow_skips}: no test needed the skip {names}")
    if run.lost:
        terminalreporter.write_line(f"Results are missing: {run.lost}", red=True)


def _is_said_by_us(report: Any) -> bool:
    """Return whether a report of pytest's is of a DAMON test, whose verdict our summary has."""
    properties = dict(getattr(report, "user_properties", ()))
    return VERDICT in properties and TRACEBACK not in properties

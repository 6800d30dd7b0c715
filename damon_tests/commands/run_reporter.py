# SPDX-License-Identifier: GPL-2.0
"""What ``damon-tests run`` prints instead of pytest: where results go, progress, and a short summary.

It is a plugin of the process that controls the run; pytest-xdist's workers have none.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import pytest
from rich.console import Console

from damon_tests.commands.report import print_summary
from damon_tests.report import output
from damon_tests.report.events import EVENTS
from damon_tests.report.progress import Progress

NAME = "damon-run-reporter"

_WIDTH = 100  # of lines in a file or a CI's log


@contextlib.contextmanager
def terminal_of_run() -> Iterator[Console]:
    """The terminal, or whatever standard output is, also while pytest captures what tests print."""
    try:
        # A descriptor of our own: pytest puts other files in place of the usual one meanwhile.
        fd = os.dup(sys.stdout.fileno())
    except (OSError, ValueError):  # a stand-in without a descriptor
        yield _console(sys.stdout)
        return
    with output.surviving_stdout():
        out = output.surviving(fd, sys.stdout)
        try:
            yield _console(out)
        finally:
            out.flush()
            os.close(fd)


def _console(out: TextIO) -> Console:
    colored = output.colored(out)
    return Console(
        file=out,
        force_terminal=out.isatty(),
        color_system="standard" if colored else None,
        no_color=not colored,
        width=None if out.isatty() else _WIDTH,
        highlight=False,
        markup=False,
    )


def _silence_xdist(config: pytest.Config) -> None:
    """Leave out xdist's lines about its workers ("bringing up nodes..."): ours say what runs."""
    distributed: Any = config.pluginmanager.getplugin("dsession")
    if distributed is not None:
        distributed.terminal = None
        config.pluginmanager.unregister(name="terminaldistreporter")


class RunReporter:
    """Progress and summary of one run. ``began``: when it did, seconds since the epoch, if known."""

    def __init__(self, console: Console, verbosity: int, began: float | None = None) -> None:
        self.__name__ = NAME  # by which the plugin finds it
        self.began = began
        self._console = console
        self._verbosity = verbosity
        self._progress: Progress | None = None
        self._directory = Path()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Say which DAMON is tested and where results go, and follow the run."""
        _silence_xdist(session.config)
        option = session.config.option
        self._directory = Path(option.output).absolute()
        shown = output.from_here(self._directory)
        if self._verbosity >= 0:
            self._console.print(f"damon-tests run  {option.kernel}  results in {shown}", soft_wrap=True)
        self._progress = Progress(self._directory, self._console, verbosity=self._verbosity)
        self._progress.start()

    def notify(self, text: str) -> None:
        """Print what has to be waited for, now."""
        if self._progress is not None:
            self._progress.notify(text)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._expect(sum("expect" in getattr(item, "fixturenames", ()) for item in session.items))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: Sequence[str]) -> None:
        self._expect(len(ids))

    def _expect(self, total: int) -> None:
        if self._progress is not None and total:
            self._progress.expect(total)

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(self) -> Generator[None, Any, Any]:
        """No letter for each test: the lines of progress say more."""
        status = yield
        return (status[0], "", status[2]) if status else status

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        if self._progress is not None:
            self._progress.stop()

    def summarize(self) -> None:
        """Print the summary; failures were printed when they happened."""
        if not (self._directory / EVENTS).exists():
            self._console.print("No test of DAMON began: there are no results.")
        else:
            print_summary(self._directory, self._console, verbose=self._verbosity > 0)

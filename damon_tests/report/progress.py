# SPDX-License-Identifier: GPL-2.0
"""What a run shows while it lasts, read from its events: the test that runs, verdicts so far, time left.

In a terminal a few lines at the bottom are kept up to date; elsewhere (a CI's log) a line is printed every
30 s. Tests that did not hold are printed when they end, with what was measured and expected.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from damon_tests.report import output, terminal, wording
from damon_tests.report.events import EVENTS
from damon_tests.report.model import RunState

PLAIN_EVERY_S = 30.0

_POLL_S = 0.25
_MOST_SHOWN = 4  # tests that run beside each other
_FEWEST_DONE = 3  # before the rest is estimated
_MOST_BLOCKS = 20  # failures printed as they happen; more of them say no more


class Progress:
    """Follows the events of the run in ``directory`` in a thread of its own, from ``start`` to ``stop``."""

    def __init__(self, directory: Path, console: Console, *, verbosity: int = 0) -> None:
        """``verbosity``: above 0 each test has a line when it ends, below 0 nothing is printed at all."""
        self._console = console
        self._directory = directory
        self._verbosity = verbosity
        self._events = directory / EVENTS
        self._offset = 0
        self._state = RunState()
        self._shown = 0
        self._blocks = 0
        self._total: int | None = None
        self._note = ""
        self._began = time.time()
        self._printed = time.monotonic()
        self._live: Live | None = None
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._follow, daemon=True, name="progress")

    def start(self) -> None:
        if self._console.is_terminal and self._verbosity >= 0:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        self._thread.start()

    def stop(self) -> None:
        """Print what is still to be printed; the lines that were kept up to date disappear."""
        if self._done.is_set():
            return
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()
        self._update()
        if self._live is not None:
            self._live.stop()

    def expect(self, total: int) -> None:
        """Say how many DAMON tests there will be."""
        self._total = total

    def notify(self, text: str) -> None:
        """Print a line about what has to be waited for, and show it until a test ends."""
        self._note = text
        with self._lock:
            self._console.print(Text(f"damon-tests: {text}"), soft_wrap=True)

    def _follow(self) -> None:
        while not self._done.wait(_POLL_S):
            self._update()

    def _update(self) -> None:
        with self._lock:
            self._read()
            for test in self._state.finished_tests[self._shown :]:
                self._note = ""
                self._print_ended(test)
            self._shown = len(self._state.finished_tests)
            if self._live is not None:
                self._live.update(self._status(), refresh=True)
            elif self._verbosity >= 0 and time.monotonic() - self._printed >= PLAIN_EVERY_S:
                self._print_line()

    def _read(self) -> None:
        try:
            with self._events.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError:  # no test has begun
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        self._state.take_lines(whole)

    def _print_ended(self, test: dict[str, Any]) -> None:
        if self._verbosity < 0:
            return
        if test["verdict"] in terminal.DETAILED:
            self._blocks += 1
            if self._blocks <= _MOST_BLOCKS:
                run = {"provenance": self._state.provenance}
                block = terminal.failure(test, run, output.from_here(self._directory))
                self._console.print(Text("\n").join(block), soft_wrap=True)
        elif self._verbosity > 0:
            took = wording.seconds(test["duration_s"])
            line = Text(test["verdict"], style=terminal.STYLES[test["verdict"]])
            self._console.print(line.append(f"  {test['id']}  {took}", style="default"), soft_wrap=True)

    # --- where it stands ---------------------------------------------------------------------

    def summary(self, now: float) -> str:
        """Return a line with how many tests are done, their verdicts, and how long the rest may take."""
        done = len(self._state.finished_tests)
        of = f" of {self._total}" if self._total is not None else ""
        verdicts = Counter(test["verdict"] for test in self._state.finished_tests)
        parts = [f"{done}{of} tests"]
        parts += [f"{v} {verdicts[v]}" for v in wording.VERDICTS if verdicts[v]]
        parts.append(f"{wording.seconds(round(now - self._began))} so far")
        if self._total and _FEWEST_DONE <= done < self._total:
            left = (now - (self._state.started or self._began)) / done * (self._total - done)
            parts.append(f"about {wording.seconds(round(left))} left")
        return " · ".join(parts)

    def running(self, now: float) -> Iterator[str]:
        """Yield the tests that run, each with how long it has."""
        for test in list(self._state.open.values())[:_MOST_SHOWN]:
            yield f"{test['id']}  {wording.seconds(round(max(0.0, now - test['started'])))}"

    def _status(self) -> Text:
        now = time.time()
        lines = [self.summary(now), *self.running(now)]
        lines += [self._note] if self._note and not self._state.open else []
        width = self._console.width - 1
        return Text("\n".join(line[:width] for line in lines), style="dim", no_wrap=True)

    def _print_line(self) -> None:
        self._printed = time.monotonic()
        now = time.time()
        running = next(self.running(now), self._note)
        line = f"{self.summary(now)} · now {running}" if running else self.summary(now)
        self._console.print(Text(line), soft_wrap=True)

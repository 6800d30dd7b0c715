# SPDX-License-Identifier: GPL-2.0
"""How runs end, also when their body raises: DAMON is stopped, the observation is made, then kept.

``live`` and ``scenario.module_run`` share it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from damon_tests.experiment.attempt import OnAttempt, Seconds
from damon_tests.experiment.observation import Observation
from damon_tests.ports import DamonTestsError, MachineLost

_NOTHING_TO_READ = (MachineLost, KeyboardInterrupt, SystemExit, GeneratorExit)
"""What ends a run at once: the machine is gone, or the user interrupts."""


class Observable(Protocol):
    """A run of DAMON. ``observe`` makes its ``observation`` once its targets have stopped."""

    observation: Observation | None

    def observe(self) -> None: ...


class Stop(Protocol):
    """Stops DAMON; ``ask``: reads first what needs commands of DAMON."""

    def __call__(self, *, ask: bool) -> None: ...


@contextmanager
def kept(keep: OnAttempt | None) -> Iterator[list[Observable]]:
    """Give the observations of the runs in the yielded list to ``keep`` when everything has ended."""
    runs: list[Observable] = []
    try:
        yield runs
    finally:
        for run in runs:
            if keep is not None and run.observation is not None:
                keep(run.observation)


@contextmanager
def observed(runs: Sequence[Observable]) -> Iterator[None]:
    """Make the observations of ``runs`` on leaving, also when the body raised on a machine that is left."""
    try:
        yield
    except _NOTHING_TO_READ:
        raise
    except BaseException as error:
        with _noted(error):
            for run in runs:
                run.observe()
        raise
    for run in runs:
        run.observe()


@contextmanager
def stopped(stop: Stop, seconds: Seconds) -> Iterator[None]:
    """Stop a run on leaving. DAMON is asked for nothing if a failure of DAMON or of the harness ended it."""
    try:
        yield
    except _NOTHING_TO_READ:
        raise
    except BaseException as error:
        with seconds("stop DAMON"), _noted(error):
            stop(ask=not isinstance(error, DamonTestsError))
        raise
    with seconds("stop DAMON"):
        stop(ask=True)


@contextmanager
def _noted(error: BaseException) -> Iterator[None]:
    """Add a failure of the body as a note to ``error``, which it must not hide."""
    try:
        yield
    except (DamonTestsError, OSError) as failure:
        error.add_note(f"and ending the run failed: {failure}")

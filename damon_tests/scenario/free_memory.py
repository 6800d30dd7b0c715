# SPDX-License-Identifier: GPL-2.0
"""Move a machine's free memory in steps, with processes that hold memory: for tests of watermarks."""

from __future__ import annotations

from collections.abc import Callable

from damon_tests.damon.params import DamosWatermarks
from damon_tests.experiment.backend import Subject
from damon_tests.patterns.spec import Pattern, PatternRegion, Phase
from damon_tests.ports import NSEC_PER_SEC
from damon_tests.workload.target import RunningTarget

_PAUSE_S = 0.05
_MOST_READINGS = 20


def held(size_mib: int) -> Pattern:
    """Return a pattern that populates ``size_mib`` MiB and then touches nothing.

    In huge pages, if the system gives them unasked: a kernel with PREEMPT_RT has none.
    """
    region = PatternRegion("data", size_mib << 20, hugepage=None)
    return Pattern(
        "held", "memory that is held", (region,), (Phase("idle", 3600 * NSEC_PER_SEC, ()),), repeat=True
    )


class FreeMemory:
    """Free memory of a machine, in steps of ``hog_mib`` MiB.

    ``first``: free memory before the first step, in 1/1000 of the total; ``step``: one step in the same unit.
    ``let_pass(seconds)`` lets the machine's time pass.
    """

    def __init__(self, subject: Subject, let_pass: Callable[[float], None], hog_mib: int = 64) -> None:
        self._subject = subject
        self._let_pass = let_pass
        self._hog_mib = hog_mib
        self._hogs: list[RunningTarget] = []
        self.first = self._at_rest()
        self.step = (hog_mib << 20) * 1000 // subject.memory_info().total

    def now(self) -> int:
        """Return free memory now, in 1/1000 of the total."""
        return self._subject.memory_info().free_permil

    def _at_rest(self) -> int:
        """Return free memory once it is stable: the kernel returns freed pages in batches."""
        readings = [self.now()]
        while len(readings) < _MOST_READINGS and (len(readings) < 3 or len(set(readings[-3:])) > 1):
            self._let_pass(_PAUSE_S)
            readings.append(self.now())
        return readings[-1]

    def _await_return(self, steps: int) -> None:
        """Wait, a limited time, until free memory is back at ``steps``, then until it is stable."""
        for _ in range(_MOST_READINGS):
            if self.now() >= self.at(steps) - self.step // 4:
                break
            self._let_pass(_PAUSE_S)
        self._at_rest()

    def at(self, steps: float) -> int:
        """Return free memory, in 1/1000 of the total, with ``steps`` steps held."""
        return self.first - int(steps * self.step)

    def take(self, steps: int) -> None:
        """Hold ``steps`` steps in all. Returns once the kernel has freed what was given back."""
        returned = len(self._hogs) > steps
        while len(self._hogs) > steps:
            self._hogs.pop().stop()
        if returned:
            self._await_return(steps)
        while len(self._hogs) < steps:
            self._hogs.append(self._subject.start_target(held(self._hog_mib), len(self._hogs)))

    def marks(self, high: float, mid: float, low: float, interval_us: int) -> DamosWatermarks:
        """Return watermarks at these numbers of held steps, checked every ``interval_us``."""
        return DamosWatermarks("free_mem_rate", interval_us, *(max(self.at(s), 0) for s in (high, mid, low)))

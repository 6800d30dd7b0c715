# SPDX-License-Identifier: GPL-2.0
"""Free memory of a machine, moved in steps by processes that take and return it: for watermarks."""

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
    """Return the memory that is populated and then left alone."""
    region = PatternRegion("data", size_mib << 20, hugepage=True)
    return Pattern(
        "held", "memory that is held", (region,), (Phase("idle", 3600 * NSEC_PER_SEC, ()),), repeat=True
    )


class FreeMemory:
    """Free memory, moved in steps of ``hog_mib``; ``first``: what it was at first, in 1/1000 of the total.

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
        """Return free memory in 1/1000 of the total."""
        return self._subject.memory_info().free_permil

    def _at_rest(self) -> int:
        """Return free memory when it moves no more: what was freed just before comes back in batches."""
        readings = [self.now()]
        while len(readings) < _MOST_READINGS and (len(readings) < 3 or len(set(readings[-3:])) > 1):
            self._let_pass(_PAUSE_S)
            readings.append(self.now())
        return readings[-1]

    def _await_return(self, steps: int) -> None:
        """Wait until about as much is free as before, for some time at most, and then until it moves no
        more."""
        for _ in range(_MOST_READINGS):
            if self.now() >= self.at(steps) - self.step // 4:
                break
            self._let_pass(_PAUSE_S)
        self._at_rest()

    def at(self, steps: float) -> int:
        """Return free memory when so many steps are held."""
        return self.first - int(steps * self.step)

    def take(self, steps: int) -> None:
        """Hold that many steps in all. Returns when what was given back has arrived."""
        returned = len(self._hogs) > steps
        while len(self._hogs) > steps:
            self._hogs.pop().stop()
        if returned:
            self._await_return(steps)
        while len(self._hogs) < steps:
            self._hogs.append(self._subject.start_target(held(self._hog_mib), len(self._hogs)))

    def marks(self, high: float, mid: float, low: float, interval_us: int) -> DamosWatermarks:
        """Return the watermarks at these steps."""
        return DamosWatermarks("free_mem_rate", interval_us, *(max(self.at(s), 0) for s in (high, mid, low)))

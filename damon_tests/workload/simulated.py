# SPDX-License-Identifier: GPL-2.0
"""A target without a process: a pattern's closed form under a clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from damon_tests.patterns.spec import Pattern
from damon_tests.ports import Clock, HarnessError, NotSupported
from damon_tests.workload.layout import plan_layout, process_vmas
from damon_tests.workload.target import PhaseTime
from damon_tests.workload.truth import FOREVER_NS, PatternTruth

PhysicalRanges = Callable[[int, int], Sequence[tuple[int, int]]]


class SimulatedTarget:
    """``RunningTarget`` for the reference. Runs exactly by plan, in the clock's time.

    ``layout`` None: as the engine would choose it. ``physical_ranges(start, end)`` tells where the
    simulated machine keeps these bytes of the process (for paddr). ``alive`` is False after ``stop``:
    then there is no address space any more, and ``vmas()`` is empty.
    """

    def __init__(
        self,
        pattern: Pattern,
        seed: int,
        pid: int,
        layout: Mapping[str, tuple[int, int]] | None,
        clock: Clock,
        *,
        physical_ranges: PhysicalRanges | None = None,
    ) -> None:
        self.pid = pid
        self.pattern = pattern
        self.seed = seed
        self.layout: Mapping[str, tuple[int, int]] = plan_layout(pattern) if layout is None else dict(layout)
        self.alive = True
        self._clock = clock
        self._physical_ranges = physical_ranges
        self._truth = PatternTruth(pattern, self.layout, seed, go_ns=None)

    def go(self) -> None:
        """Start the first phase now. Raises HarnessError the second time, and after ``stop``."""
        if not self.alive or self._started:
            raise HarnessError(f"pattern {self.pattern.name}: go was called twice, or after stop")
        self._truth.begin(self._clock.now_ns())

    @property
    def _started(self) -> bool:
        return self._truth.span_ns()[0] != FOREVER_NS

    def _until_ns(self) -> int:
        return min(self._clock.now_ns(), self._truth.span_ns()[1])

    def phases(self) -> Sequence[PhaseTime]:
        if not self._started:
            return ()
        go, end = self._truth.span_ns()[0], self._until_ns()
        times: list[PhaseTime] = []
        for number in range(self._last_number(end) + 1):
            phase = self.pattern.phases[number % len(self.pattern.phases)]
            start = go + self.pattern.phase_start_ns(number)
            stop: int | None = start + phase.duration_ns
            if start + phase.duration_ns > end:
                stop = None if self.alive else end
            times.append(PhaseTime(phase.name, start, stop))
        return tuple(times)

    def _last_number(self, time_ns: int) -> int:
        number = self._truth.number_at(time_ns)
        return number if self.pattern.repeat else min(number, len(self.pattern.phases) - 1)

    def accesses(self) -> Mapping[tuple[int, str], int]:
        counts = {(i, a.region): 0 for i, phase in enumerate(self.pattern.phases) for a in phase.accesses}
        if not self._started:
            return counts
        go, end = self._truth.span_ns()[0], self._until_ns()
        for number in range(self._last_number(end) + 1):
            index = number % len(self.pattern.phases)
            for term, access in enumerate(self.pattern.phases[index].accesses):
                passes = self._truth.passes(number, term, go, end)
                counts[index, access.region] += passes * access.touches_per_pass
        return counts

    def truth(self) -> PatternTruth:
        """One object for the target's whole life: before ``go`` it says that nothing is touched."""
        return self._truth

    def disturbances(self, slack_ns: int) -> Sequence[tuple[int, int]]:
        """None: it runs by plan."""
        return ()

    def vmas(self) -> Sequence[tuple[int, int]]:
        """All mappings as bytes [start, end), ascending; empty once the target is gone."""
        return process_vmas(self.pattern, self.layout) if self.alive else ()

    def physical(self) -> Mapping[str, Sequence[tuple[int, int]]]:
        if self._physical_ranges is None:
            raise NotSupported("this simulated target has no physical memory")
        return {name: self._physical_ranges(start, end) for name, (start, end) in self.layout.items()}

    def stop(self) -> None:
        """End the process; may be called at any time, twice."""
        if not self.alive:
            return
        self.alive = False
        if self._started:
            self._truth.end(self._clock.now_ns())

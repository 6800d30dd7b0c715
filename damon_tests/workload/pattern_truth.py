# SPDX-License-Identifier: GPL-2.0
"""The truth in closed form: the touches of a pattern that runs exactly by plan."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np

from damon_tests.patterns.spec import CHOICE_TERM, Pattern, Phase
from damon_tests.ports import NotSupported
from damon_tests.ports.arrays import I64
from damon_tests.workload.pass_times import GridTrack, LogTrack, Track, no_passes
from damon_tests.workload.pass_truth import PassTruth, Run
from damon_tests.workload.random_order import draw_passes

__all__ = ["FOREVER_NS", "PatternTruth", "draw_passes"]

FOREVER_NS = (1 << 62) - 1
"""The end of an open span: far in the future, but the sum of two such times still fits 64 bits."""

_MAX_RUNS = 64
_MAX_TURNS = 1 << 24


class PatternTruth(PassTruth):
    """``damon_tests.ports.Truth`` of a pattern that starts at ``go_ns`` and stops at ``stopped_ns``.

    ``layout`` gives each region's bytes [start, end) by name. ``go_ns`` None: not started, no page is
    touched; ``begin`` and ``end`` set the times later, so that the object lasts as long as its target.
    """

    def __init__(
        self,
        pattern: Pattern,
        layout: Mapping[str, tuple[int, int]],
        seed: int,
        go_ns: int | None,
        stopped_ns: int | None = None,
        process: int | None = 0,
    ) -> None:
        super().__init__(pattern, layout, seed, process)
        self._go = FOREVER_NS if go_ns is None else go_ns
        self._stopped = FOREVER_NS if stopped_ns is None else stopped_ns
        self._offsets = [0, *accumulate(phase.duration_ns for phase in pattern.phases)]
        self._cache: dict[int, Run] = {}
        self._current: tuple[Run, ...] = ()

    def begin(self, go_ns: int) -> None:
        """Set the time at which the target started."""
        self._go = go_ns
        self._forget()

    def end(self, stopped_ns: int) -> None:
        """Set the time at which the target stopped: no pass starts at or after ``stopped_ns``."""
        self._stopped = stopped_ns
        self._forget()

    def _forget(self) -> None:
        self._cache.clear()
        self._current = ()

    def span_ns(self) -> tuple[int, int]:
        return self._go, max(self._go, self._stopped)

    def number_at(self, time_ns: int) -> int:
        """Return the running number of the phase at a time; the number of phases when all are over."""
        cycles, rest = divmod(time_ns - self._go, self.pattern.cycle_ns)
        if cycles and not self.pattern.repeat:
            return len(self.pattern.phases)
        return cycles * len(self.pattern.phases) + bisect_right(self._offsets, rest) - 1

    def _runs(self, t0: int, t1: int) -> Sequence[Run]:
        # Almost every call is for the phase of the previous call.
        if self._current and self._current[0].start_ns <= t0 and t1 <= self._current[0].end_ns:
            return self._current
        t0, t1 = max(t0, self._go), min(t1, self._stopped)
        if t0 >= t1:
            return ()
        runs = tuple(
            self._run(n) for n in range(self.number_at(t0), self.number_at(t1 - 1) + 1) if self._exists(n)
        )
        if len(runs) == 1:
            self._current = runs
        return runs

    def _exists(self, number: int) -> bool:
        return self.pattern.repeat or number < len(self.pattern.phases)

    def _run(self, number: int) -> Run:
        run = self._cache.get(number)
        if run is None:
            if len(self._cache) >= _MAX_RUNS:
                self._cache.clear()
            run = self._cache[number] = self._make_run(number)
        return run

    def _make_run(self, number: int) -> Run:
        index = number % len(self.pattern.phases)
        start = self._go + self.pattern.phase_start_ns(number)
        end = min(start + self.pattern.phases[index].duration_ns, self._stopped)
        phase, geometry = self.pattern.phases[index], self._geometries[index]
        tracks: list[Track] = []
        turns = self._turns(number, phase, start, end) if phase.total_weight else {}
        for term, access in enumerate(phase.accesses):
            passes = max(0, -((start - end) // access.period_ns))
            if not self._counts(geometry, term):
                tracks.append(no_passes(access.touches_per_pass))
            elif access.weight:
                tracks.append(turns[term])
            else:
                tracks.append(GridTrack(start, access.period_ns, passes, access.touches_per_pass))
        for term, action in enumerate(phase.actions, start=len(tracks)):
            at_ns = start + action.at_ns
            done = self._counts(geometry, term) and at_ns < end
            tracks.append(GridTrack(at_ns, FOREVER_NS, int(done), geometry.terms[term].touches))
        return Run(number, geometry, tuple(tracks), start, end)

    def _turns(self, number: int, phase: Phase, start: int, end: int) -> dict[int, LogTrack]:
        """Return the passes of the weighted terms, which take turns."""
        weights = [access.weight for access in phase.accesses]
        period = next(access.period_ns for access in phase.accesses if access.weight)
        count = max(0, -((start - end) // period))
        if count > _MAX_TURNS:
            raise NotSupported(
                f"pattern {self.pattern.name}: phase {phase.name} has {count} turns, more than a simulated "
                f"target can plan ({_MAX_TURNS})",
                remedy="shorten the phase, and repeat it",
            )
        chosen = choose(self.seed, number, np.arange(count, dtype=np.int64), weights)
        tracks = {}
        for term, access in enumerate(phase.accesses):
            starts = start + np.flatnonzero(chosen == term).astype(np.int64) * period
            order = np.arange(len(starts), dtype=np.int64)
            tracks[term] = LogTrack(starts, np.ones_like(starts), order, access.touches_per_pass)
        return tracks

    def passes(self, number: int, term: int, t0_ns: int, t1_ns: int) -> int:
        """Return how many passes of a term of a phase started within [t0, t1)."""
        if not self._exists(number) or self._go >= self._stopped:
            return 0
        return self._run(number).tracks[term].count(t0_ns, t1_ns)


def choose(seed: int, phase: int, turns: I64, weights: Sequence[int]) -> I64:
    """Return which of the terms with these weights each turn draws."""
    drawn = draw_passes(seed, phase, CHOICE_TERM, turns, touches=1, slots=sum(weights))[:, 0]
    chosen: I64 = np.searchsorted(np.cumsum(weights), drawn, side="right")
    return chosen

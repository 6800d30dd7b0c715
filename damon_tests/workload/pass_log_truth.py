# SPDX-License-Identifier: GPL-2.0
"""The truth about a real target, computed from its pass log."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from damon_tests.patterns.spec import Pattern
from damon_tests.ports import Bools, HarnessError
from damon_tests.ports.arrays import I64
from damon_tests.workload.pass_times import LogTrack, Track, no_passes
from damon_tests.workload.pass_truth import PassTruth, Run

PASS_RECORD = np.dtype(
    [("start_ns", "<u8"), ("length_ns", "<u8"), ("pass_index", "<u8"), ("phase", "<u4"), ("term", "<u4")]
)
"""A pass in the engine's pass log: start time (monotonic ns), duration, index in its phase, running
phase number, and the access term's index in the phase."""

PassRecords = npt.NDArray[np.void]


class RecordedTruth(PassTruth):
    """``damon_tests.ports.Truth`` from the passes that the engine really made.

    ``records`` has dtype ``PASS_RECORD``, shape (n,). The pages of each pass follow from the pattern
    and the seed; the times of its touches are interpolated evenly between the pass's start and end, so a
    time is wrong by at most the length of the pass (which includes any preemption of the engine).
    """

    def __init__(
        self,
        pattern: Pattern,
        layout: Mapping[str, tuple[int, int]],
        seed: int,
        records: PassRecords,
        span_ns: tuple[int, int],
        process: int | None = 0,
    ) -> None:
        super().__init__(pattern, layout, seed, process)
        self._span = span_ns
        self._records = records[np.argsort(records["start_ns"], kind="stable")]
        self._all = self._make_runs(self._records)
        # Workers do not wait for each other at the end of a phase, so phases may overlap a little: search
        # from the first phase that has not ended to the last that has begun.
        starts = [run.start_ns for run in self._all]
        self._ends = list(accumulate((run.end_ns for run in self._all), max))
        self._starts = list(accumulate(reversed(starts), min))[::-1]

    def _make_runs(self, records: PassRecords) -> tuple[Run, ...]:
        for worker in set(self.pattern.workers):
            numbers = records["phase"][self._of(records, worker)].astype(np.int64)
            if np.any(np.diff(numbers) < 0):
                raise HarnessError("the pass log is out of order: a phase comes after a later one")
        records = records[np.argsort(records["phase"], kind="stable")]
        begins = np.flatnonzero(np.diff(records["phase"].astype(np.int64), prepend=-1))
        return tuple(self._make_run(part) for part in np.split(records, begins[1:]) if len(part))

    def _of(self, records: PassRecords, worker: tuple[int, int]) -> Bools:
        """Return which records are of this (process, thread)."""
        if self.pattern.workers == ((0, 0),):
            return np.ones(len(records), np.bool_)
        mine = np.zeros(len(records), np.bool_)
        for index, phase in enumerate(self.pattern.phases):
            here = records["phase"] % len(self.pattern.phases) == index
            terms = [t for t, access in enumerate(phase.accesses) if access.worker == worker]
            if worker == (0, 0):
                terms += range(len(phase.accesses), len(phase.accesses) + len(phase.actions))
            mine |= here & np.isin(records["term"], terms)
        return mine

    def _make_run(self, records: PassRecords) -> Run:
        number = int(records["phase"][0])
        geometry = self._geometries[number % len(self._geometries)]
        if int(records["term"].max()) >= len(geometry.terms):
            raise HarnessError(f"the pass log has a term that phase {number} of {self.pattern.name} has not")
        tracks: list[Track] = []
        end = 0
        for term_number, term in enumerate(geometry.terms):
            mine = records[records["term"] == term_number]
            if len(mine):
                end = max(end, int(mine["start_ns"][-1]) + max(int(mine["length_ns"][-1]), 1))
            if not self._counts(geometry, term_number):
                tracks.append(no_passes(term.touches))
                continue
            starts = mine["start_ns"].astype(np.int64)
            # A pass lasts at least 1 ns: an empty interval would contain none of its touches.
            lengths = np.maximum(mine["length_ns"].astype(np.int64), 1)
            tracks.append(LogTrack(starts, lengths, mine["pass_index"].astype(np.int64), term.touches))
        return Run(number, geometry, tuple(tracks), int(records["start_ns"][0]), end)

    def span_ns(self) -> tuple[int, int]:
        return self._span

    def disturbances(self, slack_ns: int) -> tuple[tuple[int, int], ...]:
        """Return the stretches [from, to) in which the target did not keep its schedule, in order.

        A stretch reaches from the start of a pass to the end of the term's next pass, if that began more than
        a period and ``slack_ns`` later; or it is a pass that took longer than ``slack_ns``. Then the target
        lost its processor, and the exact times of the touches around the stall are unknown.

        Free-running passes have no schedule: a stretch is a pause of ``slack_ns`` between two passes, or a
        pass that took ``slack_ns`` longer than the median pass.
        """
        stretches: list[tuple[int, int]] = []
        phases = self.pattern.phases
        records = self._records
        for phase, term in np.unique(records[["phase", "term"]]).tolist():
            accesses = phases[phase % len(phases)].accesses
            if term >= len(accesses) or accesses[term].free_running:
                continue
            mine = records[(records["phase"] == phase) & (records["term"] == term)]
            starts, lengths = _times(mine)
            if not accesses[term].weight:
                late = np.flatnonzero(np.diff(starts) > accesses[term].period_ns + slack_ns)
                stretches += [(int(starts[i]), int(starts[i + 1] + lengths[i + 1])) for i in late]
            slow = np.flatnonzero(lengths > slack_ns)
            stretches += [(int(starts[i]), int(starts[i] + lengths[i])) for i in slow]
        for phase in np.unique(records["phase"]).tolist():
            stretches += self._free_disturbances(records[records["phase"] == phase], phase, slack_ns)
        return tuple(sorted(stretches))

    def _free_disturbances(self, records: PassRecords, phase: int, slack_ns: int) -> list[tuple[int, int]]:
        accesses = self.pattern.phases[phase % len(self.pattern.phases)].accesses
        stretches: list[tuple[int, int]] = []
        for worker in {access.worker for access in accesses if access.free_running}:
            terms = [
                t for t, access in enumerate(accesses) if access.worker == worker and access.free_running
            ]
            starts, lengths = _times(records[np.isin(records["term"], terms)])
            ends = starts + lengths
            idle = np.flatnonzero(starts[1:] - ends[:-1] > slack_ns)
            stretches += [(int(ends[i]), int(starts[i + 1])) for i in idle]
            slow = np.flatnonzero(lengths > np.median(lengths) + slack_ns) if len(lengths) else idle
            stretches += [(int(starts[i]), int(ends[i])) for i in slow]
        return stretches

    def _runs(self, t0: int, t1: int) -> Sequence[Run]:
        return self._all[bisect_right(self._ends, t0) : bisect_left(self._starts, t1)]


def _times(records: PassRecords) -> tuple[I64, I64]:
    """Return starts and lengths."""
    return records["start_ns"].astype(np.int64), records["length_ns"].astype(np.int64)

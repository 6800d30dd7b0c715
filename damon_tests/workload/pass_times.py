# SPDX-License-Identifier: GPL-2.0
"""The times of the passes of a term in a phase: by plan (a grid), or as logged by the engine.

A *position* counts the passes of a track from 0, in time order. Slot ``k`` of a pass is touched at
``start + k * length // touches``: evenly over the pass, which for a planned pass (length 0) means
at its start.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from damon_tests.ports import Bools
from damon_tests.ports.arrays import I64
from damon_tests.workload.random_order import Slots

Cut = tuple[int, int, int]
"""A pass of which only the touches [a, b) lie in a window: (position, a, b)."""


class Track(Protocol):
    """The passes of one term during one phase, non-overlapping, in time order."""

    def within(self, t0: int, t1: int) -> tuple[int, int, Sequence[Cut]]:
        """Return the positions [first, last) of the passes wholly in [t0, t1), and those cut by its ends."""
        ...

    def count(self, t0: int, t1: int) -> int:
        """Return how many passes started within [t0, t1)."""
        ...

    def pass_index(self, position: int) -> int:
        """Return the number that the generator takes for this pass."""
        ...

    def any_within(self, t0: I64, t1: I64, first: Slots, last: Slots) -> Bools:
        """Return for each element whether one of the slots [first, last] was touched within [t0, t1)."""
        ...

    def touch_times(self, positions: I64) -> I64:
        """Return the time of each touch of these passes, int64 (len(positions), touches)."""
        ...

    def touch_from(self, position: int, times: I64) -> Slots:
        """Return the first touch of a pass at or after each time; the number of touches if there is none."""
        ...

    def touch_time(self, position: int, touches: Slots) -> I64:
        """Return the times of these touches of a pass."""
        ...


class GridTrack:
    """Pass ``j`` of ``passes`` is at ``start_ns + j * period_ns`` and takes no time."""

    def __init__(self, start_ns: int, period_ns: int, passes: int, touches: int) -> None:
        self._start = start_ns
        self._period = period_ns
        self._passes = passes
        self._touches = touches

    def within(self, t0: int, t1: int) -> tuple[int, int, Sequence[Cut]]:
        first = max(0, -((self._start - t0) // self._period))
        last = min(self._passes, -((self._start - t1) // self._period))
        return first, last, ()

    def count(self, t0: int, t1: int) -> int:
        first, last, _ = self.within(t0, t1)
        return max(0, last - first)

    def pass_index(self, position: int) -> int:
        return position

    def any_within(self, t0: I64, t1: I64, first: Slots, last: Slots) -> Bools:
        position = np.maximum(-((self._start - t0) // self._period), 0)
        return (position < self._passes) & (self._start + position * self._period < t1)

    def touch_times(self, positions: I64) -> I64:
        times = self._start + positions * self._period
        return np.repeat(times[:, None], self._touches, axis=1)

    def touch_from(self, position: int, times: I64) -> Slots:
        return np.where(self._start + position * self._period >= times, 0, self._touches)

    def touch_time(self, position: int, touches: Slots) -> I64:
        return np.full(len(touches), self._start + position * self._period)


class LogTrack:
    """Passes as logged; ``lengths_ns`` are at least 1."""

    def __init__(self, starts_ns: I64, lengths_ns: I64, passes: I64, touches: int) -> None:
        self._starts = starts_ns
        self._lengths = lengths_ns
        self._passes = passes
        self._touches = touches
        # bisect on lists is several times faster than searchsorted for one value.
        self._start_list: list[int] = starts_ns.tolist()
        self._end_list: list[int] = (starts_ns + lengths_ns).tolist()

    def within(self, t0: int, t1: int) -> tuple[int, int, Sequence[Cut]]:
        starts, ends = self._start_list, self._end_list
        first = bisect_right(ends, t0)
        last = bisect_left(starts, t1)
        if first >= last:
            return first, first, ()
        cuts: list[Cut] = []
        if starts[first] < t0:
            cuts.append((first, self._touch_at(first, t0), self._touch_at(first, t1)))
            first += 1
        if last > first and ends[last - 1] > t1:
            last -= 1
            cuts.append((last, 0, self._touch_at(last, t1)))
        return first, last, cuts

    def _touch_at(self, position: int, time: int) -> int:
        """Return the first touch of the pass at or after ``time``, which is after its start;
        ``touches`` if there is none."""
        start = self._start_list[position]
        length = self._end_list[position] - start
        return min(-((start - time) * self._touches // length), self._touches)

    def count(self, t0: int, t1: int) -> int:
        return max(0, bisect_left(self._start_list, t1) - bisect_left(self._start_list, t0))

    def pass_index(self, position: int) -> int:
        return int(self._passes[position])

    def any_within(self, t0: I64, t1: I64, first: Slots, last: Slots) -> Bools:
        count = len(self._starts)
        if not count:
            return np.zeros(len(t0), np.bool_)
        position = np.searchsorted(self._starts, t0, side="right") - 1
        running = np.maximum(position, 0)
        # The pass that was running at t0 counts if it still had to touch one of these slots.
        touch = -((self._starts[running] - t0) * self._touches // self._lengths[running])
        touch = np.maximum(touch, first)
        use_running = (position >= 0) & (touch <= last)
        touch = np.where(use_running, touch, first)
        position = np.where(use_running, running, position + 1)
        exists = position < count
        position = np.minimum(position, count - 1)
        time = self._starts[position] + touch * self._lengths[position] // self._touches
        return exists & (time < t1)

    def touch_times(self, positions: I64) -> I64:
        steps = np.arange(self._touches, dtype=np.int64)
        return self._starts[positions, None] + steps * self._lengths[positions, None] // self._touches

    def touch_from(self, position: int, times: I64) -> Slots:
        start, length = self._starts[position], self._lengths[position]
        touch: Slots = np.clip(-((start - times) * self._touches // length), 0, self._touches)
        return touch

    def touch_time(self, position: int, touches: Slots) -> I64:
        times: I64 = self._starts[position] + touches * self._lengths[position] // self._touches
        return times


def no_passes(touches: int) -> LogTrack:
    """Return the track of a term without passes."""
    nothing = np.zeros(0, np.int64)
    return LogTrack(nothing, nothing, nothing, touches)

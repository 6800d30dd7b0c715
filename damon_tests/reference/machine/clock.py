# SPDX-License-Identifier: GPL-2.0
"""Virtual time: nothing happens between events, so advancing the clock runs the simulation."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator

from damon_tests.ports import NSEC_PER_MSEC, NSEC_PER_USEC, HarnessError

ORIGIN_NS = 1_000_000_000
JIFFY_NS = 4 * NSEC_PER_MSEC  # HZ=250

SleepNs = Callable[[int, int], int]
"""(now_ns, sample_us) to how long a sampling sleep takes, in ns."""

WorkNs = Callable[[int, int], int]
"""(now_ns, sample_us) to how long the kdamond works from now on, watching no region, in ns."""


class VirtualClock:
    """A ``ports.Clock`` over tasks that sleep. A task is an iterator that yields the
    absolute time of its next wake-up; tasks due at the same time run in the order they went to sleep."""

    def __init__(
        self, origin_ns: int = ORIGIN_NS, sleep_ns: SleepNs | None = None, work_ns: WorkNs | None = None
    ) -> None:
        self._now_ns = origin_ns
        self._sleep_ns = sleep_ns
        self._work_ns = work_ns
        self._sleepers: list[tuple[int, int, Iterator[int]]] = []
        self._slept = 0

    def now_ns(self) -> int:
        return self._now_ns

    def wake_ns(self, sample_us: int) -> int:
        """Return when a sampling sleep that begins now ends.

        A sleep of nothing takes some time, too, or virtual time would stand still; ``sleep_ns`` makes
        sleeps as long as a real machine's.
        """
        if self._sleep_ns is not None:
            return self._now_ns + max(self._sleep_ns(self._now_ns, sample_us), 1)
        return self._now_ns + max(sample_us, 1) * NSEC_PER_USEC

    def busy_until_ns(self, sample_us: int) -> int:
        """Return when the work of a kdamond ends that begins now: now, unless ``work_ns`` says otherwise."""
        return self._now_ns + (self._work_ns(self._now_ns, sample_us) if self._work_ns is not None else 0)

    def jiffies(self) -> int:
        """Return the time in ticks of the kernel's coarse clock."""
        return self._now_ns // JIFFY_NS

    def next_wake_ns(self) -> int | None:
        """Return when the next sleeper wakes; None when nothing sleeps."""
        return self._sleepers[0][0] if self._sleepers else None

    def start(self, task: Iterator[int]) -> None:
        """Run ``task`` until its first sleep, then whenever it is due."""
        self._step(task)

    def wake(self, task: Iterator[int]) -> None:
        """Make a sleeping task due now; do nothing when it does not sleep."""
        for i, (time_ns, number, sleeper) in enumerate(self._sleepers):
            if sleeper is task and time_ns > self._now_ns:
                self._sleepers[i] = (self._now_ns, number, task)
                heapq.heapify(self._sleepers)
                return

    def run_for(self, duration_ns: int) -> None:
        self.run_until(self._now_ns + max(duration_ns, 0))

    def run_until(self, time_ns: int) -> None:
        """Run everything that is due until ``time_ns``, that moment included."""
        sleepers = self._sleepers
        while sleepers and sleepers[0][0] <= time_ns:
            self._wake_first()
        self._now_ns = max(self._now_ns, time_ns)

    def wait_until(
        self, condition: Callable[[], bool], deadline_ns: int, poll_ns: int = 10 * NSEC_PER_MSEC
    ) -> bool:
        while not condition():
            if self._now_ns >= deadline_ns:
                return False
            self.run_until(min(self._now_ns + max(poll_ns, 1), deadline_ns))
        return True

    def run_until_done(self, done: Callable[[], bool], deadline_ns: int | None = None) -> bool:
        """Advance event by event until ``done()``; False when ``deadline_ns`` came first.

        Raises HarnessError when nothing is left that could make it happen.
        """
        while not done():
            if not self._sleepers:
                raise HarnessError("waiting for a DAMON command, but no kdamond is left to serve it")
            if deadline_ns is not None and self._sleepers[0][0] > deadline_ns:
                self.run_until(deadline_ns)
                return False
            self._wake_first()
        return True

    def _wake_first(self) -> None:
        time_ns, _, task = heapq.heappop(self._sleepers)
        self._now_ns = max(self._now_ns, time_ns)
        self._step(task)

    def _step(self, task: Iterator[int]) -> None:
        wake_ns = next(task, None)
        if wake_ns is not None:
            self._slept += 1
            heapq.heappush(self._sleepers, (wake_ns, self._slept, task))
